"""Mixtures of voices: who is in which part, sums, levels, and the same draws however they are asked for."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_fakes import call, one_line  # noqa: F401 - fixtures
from generate import voice, write_wav

pytest.importorskip("torch")

import torch
from torch.utils.data import DataLoader

from stream_ser.errors import DataError
from stream_ser.train.data import corpora
from stream_ser.train.data.corpora import Clip, Corpus
from stream_ser.train.tasks.separation import mixture_folder, mixtures
from stream_ser.train.tasks.separation.config import MixtureConfig
from stream_ser.train.tasks.separation.mixture_stream import MixtureStream
from stream_ser.train.tasks.separation.mixtures import Pool, Voice, active_rms, draw, draw_many
from stream_ser.train.tasks.separation.speaker_parts import speaker_parts

SPEAKERS = 12


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """LibriSpeech's layout: a clip of each of twelve speakers, of 0.4 to 1.5 s."""
    root = tmp_path_factory.mktemp("speech")
    for number in range(SPEAKERS):
        speaker = str(100 + number)
        (root / speaker).mkdir()
        sound = voice(0.4 + 0.1 * number, number, pitch_hz=90 + 15 * number)
        write_wav(root / speaker / f"{speaker}-1-0000.wav", sound)
    return root


@pytest.fixture(scope="module")
def hiss(tmp_path_factory):
    """Ten recordings of noise, the first one silent."""
    root = tmp_path_factory.mktemp("hiss")
    for number in range(10):
        noise = np.random.default_rng(number).standard_normal(4_000).astype(np.float32)
        write_wav(root / f"{number}.wav", 0.1 * noise * (number > 0))
    return root


def pool(part: str = "train", speakers: int = 4, noises: int = 2) -> Pool:
    voices = {f"s/{n}": (Voice(f"c{n}", (voice(1.0 + n, n)[::2] * 32767).astype(np.int16)),) for n in range(speakers)}
    rng = np.random.default_rng(0)
    heard = tuple(Voice(f"n{n}", rng.integers(-9_000, 9_000, 3_000).astype(np.int16)) for n in range(noises))
    return Pool(part, 8_000, voices, heard)


def test_no_speaker_is_in_two_parts(speech):
    corpus = corpora.load("librispeech", speech)
    parts = speaker_parts([corpus], seed=0)
    speakers = {part: {clip.speaker for clip in clips} for part, clips in parts.items()}
    assert {part: len(found) for part, found in speakers.items()} == {"train": 10, "validation": 1, "test": 1}
    assert len(set().union(*speakers.values())) == SPEAKERS
    assert speaker_parts([corpus], seed=0) == parts
    assert any(speaker_parts([corpus], seed=seed)["test"] != parts["test"] for seed in (1, 2, 3))


def _corpus(**speakers: str) -> Corpus:
    clips = tuple(Clip(Path(f"{name}.wav"), "none", f"own/{name}", part) for name, part in speakers.items())
    return Corpus("own", clips, ("none",), "")


def test_whom_a_corpus_holds_out_nobody_is_trained_on():
    held = {f"v{n}": "validation" for n in range(4)}
    training = {f"t{n}": "train" for n in range(20)}
    parts = speaker_parts([_corpus(**training, **held)], seed=0)
    names = {part: {clip.path.stem for clip in clips} for part, clips in parts.items()}
    assert names["test"] == set(held)
    assert len(names["validation"]) == 2
    assert names["train"] | names["validation"] == set(training)
    with_test = speaker_parts([_corpus(**training, **held, x="test")], seed=0)
    assert {clip.path.stem for clip in with_test["validation"]} == set(held)
    assert [clip.path.stem for clip in with_test["test"]] == ["x"]


def test_a_narrow_mixture_ends_at_4_khz():
    config = MixtureConfig(sample_rate=16_000, duration_s=1.0, noise="generated")
    wide, narrow = (
        draw(replace(pool(), sample_rate=16_000), replace(config, narrow_p=p), np.random.default_rng(3)) for p in (0, 1)
    )
    for drawn, most in ((wide, None), (narrow, 1e-6)):
        power = np.square(np.abs(np.fft.rfft(drawn.mixture)))
        above = power[4_000:].sum() / power.sum()
        assert above < most if most else above > 1e-3
    np.testing.assert_allclose(narrow.mixture, narrow.sources.sum(axis=0) + narrow.noise, atol=1e-6)


def test_noises_are_apart_and_folds_are_kept(hiss, tmp_path):
    parts = mixtures.noise_parts(str(hiss), 0)
    assert [len(parts[part]) for part in ("train", "validation", "test")] == [8, 1, 1]
    assert len({path for found in parts.values() for path in found}) == 10
    (tmp_path / "audio").mkdir()
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 6):
        write_wav(tmp_path / "audio" / f"{fold}-1-A-0.wav", voice(0.2))
        rows.append(f"{fold}-1-A-0.wav,{fold},0,dog,False,1,A")
    (tmp_path / "meta").mkdir()
    for place in (tmp_path / "meta" / "esc50.csv", tmp_path / "esc50.csv"):
        place.write_text("\n".join(rows) + "\n")
    parts = mixtures.noise_parts(f"esc-50={tmp_path}", 0)
    assert {part: [path.name[0] for path in found] for part, found in parts.items()} == {
        "train": ["1", "2", "3"],
        "validation": ["4"],
        "test": ["5"],
    }


@pytest.mark.parametrize("noise", ["none", "generated", "recorded"])
def test_what_is_drawn_is_what_is_said(noise):
    config = MixtureConfig(duration_s=1.5, noise=noise, room_p=0.5, level_db=5.0)
    seen = set()
    for number in range(12):
        drawn = draw(pool(), config, np.random.default_rng(number))
        about = drawn.about
        assert drawn.sources.shape == (2, 12_000)
        assert about["speaker_1"] != about["speaker_2"]
        first, second = (active_rms(wave, 8_000) for wave in drawn.sources)
        level_db = 20 * np.log10(second / first)
        assert level_db == pytest.approx(about["level_2_db"], abs=0.01)
        assert -5 <= level_db <= 5
        if noise != "none":
            speech = active_rms(drawn.sources.sum(0), 8_000)
            snr_db = 20 * np.log10(speech / np.sqrt(np.mean(drawn.noise**2)))
            assert snr_db == pytest.approx(about["snr_db"], abs=0.01)
        for wave in (drawn.mixture, *drawn.sources):
            assert np.isfinite(wave).all()
            assert np.abs(wave).max() <= 0.951
        seen.add(about["rt60_s"] > 0)
    assert seen == {True, False}


def test_a_late_start_makes_no_voice_louder():
    sound = voice(1.0)
    padded = np.concatenate([np.zeros(32_000, np.float32), sound])
    assert active_rms(padded, 16_000) == pytest.approx(active_rms(sound, 16_000), rel=0.05)
    assert active_rms(np.zeros(100, np.float32), 16_000) == 0.0


def test_a_number_is_the_same_mixture_however_many_there_are():
    config = MixtureConfig(duration_s=0.5)
    few, many = (list(draw_many(pool(), config, 3, count)) for count in (2, 4))
    np.testing.assert_array_equal(few[1].mixture, many[1].mixture)
    assert many[1].about != many[2].about
    assert {drawn.about["speed_1"] for drawn in many} == {1.0}
    other = next(draw_many(pool("test"), config, 3, 1))
    assert not np.array_equal(other.mixture, few[0].mixture)


def batches(workers: int, epoch: int = 1) -> list[torch.Tensor]:
    stream = MixtureStream(pool(), MixtureConfig(duration_s=0.5), 2, 3, 5, epoch)
    assert len(stream) == 3
    return [batch[0] for batch in DataLoader(stream, batch_size=None, num_workers=workers)]


def test_the_stream_is_the_same_every_time_and_other_in_each_epoch():
    first = batches(0)
    assert all(torch.equal(a, b) for a, b in zip(first, batches(0), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, batches(0, epoch=2), strict=True))
    assert first[0].shape == (2, 4_000)
    assert len({row.numpy().tobytes() for batch in first for row in batch}) == 6


@pytest.mark.slow
def test_the_number_of_loaders_changes_nothing():
    assert all(torch.equal(a, b) for a, b in zip(batches(0), batches(2), strict=True))


def test_sources_add_up_in_training():
    for batch in MixtureStream(pool(), MixtureConfig(duration_s=0.5), 2, 2, 0):
        torch.testing.assert_close(batch.mixtures, batch.sources.sum(1))


def test_a_set_is_written_and_read(call, speech, hiss, tmp_path):
    out = tmp_path / "two"
    arguments = ["data", "mixtures", out, "--data", f"librispeech={speech}", "--sets", 3, "--duration", 0.5]
    arguments += ["--part", "train", "--noise", hiss, "--snr", 0, 5, "--fs", 16000]
    code, said, err = call(*arguments)
    assert (code, err) == (0, "")
    assert "3 mixtures of 0.5 s at 16000 Hz from 10 speakers of the train part" in said
    with (out / "info.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        waves = [
            soundfile.read(out / row[role], dtype="int16")[0] for role in ("mixture", "source_1", "source_2", "noise")
        ]
        np.testing.assert_array_equal(waves[0], sum(waves[1:]))
        assert row["noise_name"] != "0"
        assert 0 <= float(row["snr_db"]) <= 5
    there = mixture_folder.read(out)
    assert there.sources.shape == (3, 2, 8_000)
    assert "holds info.csv already" in one_line(call(*arguments)[2])
    assert call(*arguments, "--force")[0] == 0
    assert json.loads(json.dumps(rows)) == [dict(row) for row in there.rows]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--speakers", 1], "no mixture; add noise"),
        (["--speakers", 9], "expected 1 to 3"),
        (["--duration", "nan"], "a duration of nan s"),
        (["--rooms", 2], "room_p and narrow_p must be in"),
        (["--snr", 9, 1], "snr_db must be a lower and an upper bound"),
        (["--noise", "nope"], "no such folder"),
        (["--part", "test"], "has 1 speaker, expected two or more"),
    ],
)
def test_mistakes_are_one_line(call, speech, tmp_path, change, said):
    code, out, err = call("data", "mixtures", tmp_path / "m", "--data", f"librispeech={speech}", *change)
    assert (code, out) == (2, "")
    assert said in one_line(err)
    assert not (tmp_path / "m").exists()


def test_unknown_speakers_are_refused(tmp_path):
    (tmp_path / "happy").mkdir()
    write_wav(tmp_path / "happy" / "a.wav", voice(0.3))
    with pytest.raises(DataError, match="unknown speakers"):
        speaker_parts([corpora.load("folder", tmp_path)], 0)


@pytest.mark.slow
def test_a_network_is_trained_on_voices(call, speech, tmp_path):
    corpus = tmp_path / "more"
    for number in range(24):
        (corpus / str(number)).mkdir(parents=True)
        write_wav(corpus / str(number) / f"{number}-1-0000.wav", voice(0.6, number, pitch_hz=90 + 8 * number))
    small = ["train.steps=2", "train.test_mixtures=2", "mixtures.duration_s=0.5", "model.bottleneck=4"]
    changes = [word for change in small for word in ("--set", change)]
    for preset, noise in (("voices", []), ("learned", []), ("enhance", ["--noise", "generated"])):
        out = tmp_path / preset
        arguments = ["--data", f"librispeech={corpus}", "--out", out, "--preset", preset, "--epochs", 1, "--hidden", 4]
        code, said, err = call("train", "separator", *arguments, "--batch-size", 2, *noise, *changes)
        assert code == 0, err
        assert "1 epochs, 2 test mixtures" in said
        assert "closed form" not in said
        assert "speakers: 20 train, 2 validation, 2 test" in err
