"""The robustness table: what each disturbance does to the sound, and that nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from generate import voice

pytest.importorskip("torch")

from stream_ser.errors import DataError
from stream_ser.runtime.engine import load
from stream_ser.train.data import corpora
from stream_ser.train.evaluation.evaluate import evaluate
from stream_ser.train.experiments import robustness

RATE_HZ = 16_000


def tone(frequency_hz: float, seconds: float = 1.0, level: float = 0.5) -> robustness.Wave:
    return (level * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def level_db(wave: robustness.Wave) -> float:
    """RMS of the middle: the edges of a filter's answer are left out."""
    middle = wave[2_000:-2_000].astype(np.float64)
    return float(10.0 * np.log10(np.square(middle).mean()))


def apply(name: str, wave: robustness.Wave, seed: int = 0) -> robustness.Wave:
    transform = robustness.conditions()[name]
    assert transform is not None
    return transform(wave, RATE_HZ, np.random.default_rng(seed))


@pytest.mark.parametrize("colour", ["white", "pink"])
@pytest.mark.parametrize("snr_db", robustness.SNRS_DB)
def test_noise_has_the_ratio_of_its_name(colour: str, snr_db: float) -> None:
    wave = voice(1.5)
    noise = (apply(f"{colour} noise {snr_db:.0f} dB", wave) - wave).astype(np.float64)
    ratio_db = 10.0 * np.log10(np.square(wave, dtype=np.float64).sum() / np.square(noise).sum())
    assert ratio_db == pytest.approx(snr_db, abs=0.01)
    spectrum = np.square(np.abs(np.fft.rfft(noise)))
    low, high = spectrum[30:1_000].mean(), spectrum[-1_000:].mean()
    assert (low > 5.0 * high) == (colour == "pink")


def test_recorded_noise_repeats_and_silence_stays() -> None:
    wave, noise = voice(1.0), tone(700.0, 0.25)
    heard = robustness.recorded([noise], 10.0)(wave, RATE_HZ, np.random.default_rng(0))
    added = heard - wave
    np.testing.assert_allclose(added[:4_000], added[4_000:8_000], atol=1e-6)
    knock = np.zeros(5 * RATE_HZ, np.float32)
    knock[-10:] = 1.0
    for seed in range(5):
        heard = robustness.recorded([knock], 10.0)(wave, RATE_HZ, np.random.default_rng(seed))
        assert np.count_nonzero(heard - wave) > 0
    silence = np.zeros(4_000, np.float32)
    assert not robustness.mix(silence, noise, 0.0).any()
    np.testing.assert_array_equal(robustness.mix(noise, silence, 0.0), noise)


@pytest.mark.parametrize(("frequency_hz", "passes"), [(60.0, False), (150.0, False), (1_000.0, True), (5_000.0, False)])
def test_telephone_passes_its_band(frequency_hz: float, passes: bool) -> None:
    wave = tone(frequency_hz)
    heard = apply("telephone 300-3400 Hz", wave)
    assert heard.shape == wave.shape
    change_db = level_db(heard) - level_db(wave)
    assert abs(change_db) < 0.5 if passes else change_db < -20.0


@pytest.mark.parametrize("frequency_hz", [300.0, 3_400.0])
def test_telephone_halves_the_power_at_its_edges(frequency_hz: float) -> None:
    wave = tone(frequency_hz)
    assert level_db(apply("telephone 300-3400 Hz", wave)) - level_db(wave) == pytest.approx(-3.0, abs=0.3)


def test_mu_law_quantises_with_the_signal() -> None:
    for level in (0.5, 0.01):
        wave = tone(1_000.0, level=level)
        error = apply("mu-law 8 kHz", wave) - wave
        assert 25.0 < level_db(wave) - level_db(error) < 45.0  # about 38 dB at any level


def test_reverberation_rings_on_and_decays_in_its_time() -> None:
    click = np.zeros(RATE_HZ, np.float32)
    click[100] = 1.0
    heard = robustness.reverberation(0.3, 5.0)(click, RATE_HZ, np.random.default_rng(0))
    assert heard[100] == pytest.approx(1.0, abs=1e-6)
    assert np.abs(heard[:100]).max() < 1e-6
    tail = heard[101:].astype(np.float64)
    assert 10.0 * np.log10(1.0 / np.square(tail).sum()) == pytest.approx(5.0, abs=0.1)
    early, late = (np.square(tail[s : s + 800]).mean() for s in (100, 100 + 2_400))
    assert 10.0 * np.log10(early / late) == pytest.approx(30.0, abs=2.0)  # 150 ms: half of 60 dB


def test_a_sound_card_clips_and_says_so() -> None:
    wave = np.array([0.0, 0.25, -2.0, 1.0, -1.0], np.float32)
    held, share = robustness.as_recorded(wave)
    np.testing.assert_array_equal(held, np.array([0.0, 0.25, -1.0, 32_767 / 32_768, -1.0], np.float32))
    assert share == pytest.approx(2 / 5)
    quiet, share = robustness.as_recorded(np.array([2e-6], np.float32))
    assert (quiet[0], share) == (0.0, 0.0)


def test_conditions_are_those_of_the_table() -> None:
    without, with_noise = robustness.conditions(), robustness.conditions([tone(100.0)])
    assert next(iter(without)) == next(iter(with_noise)) == "clean"
    assert {f"recorded noise {snr:.0f} dB" for snr in robustness.SNRS_DB} == set(with_noise) - set(without)


def test_clean_is_evaluate_and_draws_do_not_depend_on_other_conditions(tiny_model: Path, tiny_crema_d: Path) -> None:
    engine = load(tiny_model, "cpu")
    clips = [clip for clip in corpora.load("crema-d", tiny_crema_d).clips if clip.part == "validation"]
    waves = robustness.read(clips, RATE_HZ)
    every = robustness.conditions()
    chosen = {name: every[name] for name in ("clean", "gain +20 dB", "white noise 0 dB")}
    results = list(robustness.measure(engine, clips, waves, chosen))
    scores = evaluate(engine, clips).scores
    assert (results[0].uar, results[0].ece, results[0].uar_change) == (scores.uar, scores.ece, 0.0)
    assert results[0].clipped == 0.0 < results[1].clipped < 1.0
    assert results[2].uar_change == results[2].uar - results[0].uar
    alone = list(robustness.measure(engine, clips, waves, {n: every[n] for n in ("clean", "white noise 0 dB")}))
    assert alone == [results[0], results[2]]
    (other,) = robustness.measure(engine, clips, waves, {"white noise 0 dB": every["white noise 0 dB"]}, seed=1)
    assert other.ece != results[2].ece
    with pytest.raises(DataError, match="no clips"):
        list(robustness.measure(engine, [], [], chosen))


def test_command_writes_json_and_a_table(tiny_model: Path, tiny_crema_d: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "robustness.json"
    args = [str(tiny_model), "--data", f"crema-d={tiny_crema_d}", "--only", "gain -20", "--out", str(out)]
    done = CliRunner().invoke(robustness.main, args)
    assert done.exit_code == 0, done.output
    (results,) = json.loads(out.read_text())["models"].values()
    assert [r["condition"] for r in results] == ["clean", "gain -20 dB"]
    assert "gain -20 dB" in done.stdout


@pytest.mark.parametrize(
    ("data", "part", "noise", "said"),
    [
        ("nothing=/x", "validation", None, "nothing"),
        ("crema-d=/no/such/folder", "validation", None, "no such folder"),
        (None, "test", None, "no clip in the test part"),
        (None, "validation", "itself", "expected esc-50=PATH"),
    ],
)
def test_mistakes_end_in_one_line(
    tiny_model: Path, tiny_crema_d: Path, tmp_path: Path, data: str | None, part: str, noise: str | None, said: str
) -> None:
    data = data or f"crema-d={tiny_crema_d}"
    args = [str(tiny_model), "--data", data, "--part", part, "--out", str(tmp_path / "r.json")]
    done = CliRunner().invoke(robustness.main, [*args, "--noise", data] if noise else args)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
