"""The experiments on separators: the controls are what they claim, pairs of conditions differ in one thing alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from generate import voice, write_crema_d, write_wav
from separators import write_tiny_separator

pytest.importorskip("torch")

from stream_ser.errors import DataError
from stream_ser.separation.separator import Separator
from stream_ser.train.experiments import separation
from stream_ser.train.tasks.separation import mixture_folder

RATE_HZ = 16_000
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return write_tiny_separator(tmp_path_factory.mktemp("clean") / "clean.onnx", factors=(0.5,))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return write_tiny_separator(tmp_path_factory.mktemp("two") / "two.onnx")


def run(*arguments):
    return CliRunner().invoke(separation.main, [str(argument) for argument in arguments])


def test_the_best_mask_leaves_a_lone_voice_as_it_is():
    wave = voice(0.7)
    found = separation.best_mask(RATE_HZ)(wave, wave[None])
    np.testing.assert_allclose(found[0], wave, atol=1e-5)


def test_the_best_mask_is_far_above_the_mixture_and_bounded():
    sources = np.stack([voice(1.0, 1, pitch_hz=100), voice(1.0, 2, pitch_hz=220)])
    mixture = sources.sum(axis=0)
    best, before = (
        separation.score(m, mixture, sources) for m in (separation.best_mask(RATE_HZ), separation.unprocessed)
    )
    assert before["si_snri_db"] == before["si_sdri_db"] == 0.0
    assert 5.0 < best["si_snri_db"] < 40.0


def test_order_and_level_of_sources_do_not_count(two):
    sources = np.stack([voice(0.5, 1), voice(0.5, 2)])
    swapped = separation.score(lambda mixture, truth: 0.1 * truth[::-1], sources.sum(axis=0), sources)
    assert swapped["si_sdr_db"] > 60.0
    with pytest.raises(DataError, match="gives 2 sources where there are 1"):
        separation.score(separation.separate_by(Separator(two), RATE_HZ), sources[0], sources[:1])


def test_overlap_is_the_share_of_sounding_time():
    sounding = np.zeros((2, 16_000))
    sounding[0, :8_000] = sounding[1, 4_000:12_000] = 1.0
    assert separation.overlap(sounding * RNG.standard_normal((2, 16_000)), RATE_HZ) == pytest.approx(1 / 3, abs=0.02)
    assert separation.overlap(np.zeros((2, 16_000), np.float32), RATE_HZ) == 0.0


def test_two_voices_on_disk(two, tmp_path):
    items = [
        mixture_folder.Item(
            dict(zip(("mixture", "source_1", "source_2"), mixture_folder.add_up(parts), strict=True)), {}
        )
        for parts in ([0.4 * voice(0.6, n), 0.4 * voice(0.6, n + 9)] for n in range(2))
    ]
    mixture_folder.write(tmp_path, items, RATE_HZ)
    done = run("two", two, "--mixtures", tmp_path, "--out", tmp_path / "r" / "two.json")
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "r" / "two.json").read_text())
    assert set(content["methods"]) == {"mixture", str(two), "best mask"}
    # Its sources are the mixture in two levels.
    assert content["methods"][str(two)]["all"]["si_sdri_db"] == pytest.approx(0.0, abs=0.1)
    parts = content["methods"]["mixture"]
    assert sum(v["mixtures"] for name, v in parts.items() if name != "all") == parts["all"]["mixtures"] == 2
    missing = run("two", two, "--mixtures", tmp_path / "none", "--out", tmp_path / "x.json")
    assert missing.exit_code == 2
    assert "no such folder" in missing.output


def test_noise_has_the_level_of_its_column(clean, tmp_path):
    for number in range(20):
        (tmp_path / "s" / str(number)).mkdir(parents=True)
        write_wav(tmp_path / "s" / str(number) / f"{number}-1-0.wav", voice(1.0, number))
    done = run(
        *("noise", clean, "--data", f"librispeech={tmp_path / 's'}", "--noise", "generated", "--sets", 2),
        *("--no-gating", "--out", tmp_path / "noise.json"),
    )
    assert done.exit_code == 0, done.output
    methods = json.loads((tmp_path / "noise.json").read_text())["methods"]
    # Of the sounding parts; pauses lower it.
    levels = [methods["mixture"][f"{snr:g} dB"]["si_snr_db"] for snr in separation.SNRS_DB]
    np.testing.assert_allclose(np.diff(levels), 5.0, atol=1.0)
    assert methods[str(clean)]["0 dB"]["si_snri_db"] == pytest.approx(0.0, abs=0.1)
    assert methods["best mask"]["0 dB"]["si_snri_db"] > 3.0


def test_pairs_of_conditions_hear_the_same(clean, two):
    waves = [voice(0.5, 1), voice(0.5, 2), voice(0.5, 3)]
    changes = separation.conditions(waves, ["a", "a", "b"], [], RATE_HZ, 0, Separator(two), Separator(clean))
    assert list(changes)[:3] == ["clean", "clean, enhanced", "noise 10 dB"]

    def heard(name, wave, seed=0):
        change = changes[name]
        assert change is not None
        return change(wave, RATE_HZ, np.random.default_rng(seed))

    for name in ("noise 0 dB", "noise -5 dB"):
        np.testing.assert_allclose(heard(f"{name}, enhanced", waves[0], 1), 0.5 * heard(name, waves[0]), atol=1e-6)
    # The other voice is another speaker's; both tiny sources are the mixture, and one is taken.
    mixed = heard("another voice 0 dB", waves[0])
    added = mixed - waves[0]
    assert abs(np.corrcoef(added, waves[2])[0, 1]) > 0.99
    apart = heard("another voice 0 dB, separated", waves[0], 5)
    assert abs(np.corrcoef(apart, mixed)[0, 1]) > 0.99


def test_emotion_before_and_after(tiny_model, clean, tmp_path):
    corpus = write_crema_d(tmp_path / "crema-d", ("1009", "1011"), ("DFA",), 0.8)
    done = run(
        *("emotion", tiny_model, "--enhancer", clean, "--data", f"crema-d={corpus}"),
        *("--clips", 4, "--out", tmp_path / "e.json"),
    )
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "e.json").read_text())
    assert "4 clips" in content["protocol"]
    assert "another voice 0 dB, separated" not in content["conditions"]
    alone = run("emotion", tiny_model, "--data", f"crema-d={corpus}", "--clips", 1, "--out", tmp_path / "e.json")
    assert alone.exit_code == 2
    assert "1 speaker" in alone.output
    assert set(content["conditions"]) >= {"clean", "clean, enhanced", "noise -5 dB, enhanced", "another voice 0 dB"}


def test_speed_is_told(two, tmp_path):
    done = run("speed", two, "--seconds", 1, "--out", tmp_path / "s.json")
    assert done.exit_code == 0, done.output
    (told,) = json.loads((tmp_path / "s.json").read_text()).values()
    assert told["latency_ms"] == 16.0
    assert set(told) == {"parameters", "latency_ms", "rtf_live", "rtf_file"}


def test_gating_takes_hiss_off():
    pytest.importorskip("noisereduce")
    wave = np.concatenate([np.zeros(8_000, np.float32), voice(0.5)])
    noisy = (wave + 0.02 * RNG.standard_normal(wave.size)).astype(np.float32)
    found = separation.spectral_gating(RATE_HZ, stationary=True)(noisy, wave[None])
    assert found.shape == (1, wave.size)
    assert np.std(found[0, 1_000:7_000]) < 0.5 * np.std(noisy[1_000:7_000])
