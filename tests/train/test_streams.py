"""Streams with a known timeline and what a model is found to do on them, on generated voices."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from generate import voice, write_crema_d, write_wav

from stream_ser.config import DEFAULT_VAD, DeciderConfig
from stream_ser.errors import DataError
from stream_ser.events import SILENCE
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime import engine
from stream_ser.train.data import corpora
from stream_ser.train.data.corpora import Clip
from stream_ser.train.data.long_streams import Placed, Stream, StreamConfig, load_noise, speech_span, streams
from stream_ser.train.evaluation.diarization import Span
from stream_ser.train.evaluation.stream_metrics import Heard, decide, evaluate_streams, hear, score, uar

RATE = 16_000
CLEAN = StreamConfig(snr_db=float("inf"))


@pytest.fixture(scope="module")
def clips(tiny_crema_d: Path) -> tuple[Clip, ...]:
    """Four clips each of two speakers."""
    all_clips = corpora.load("crema-d", tiny_crema_d).clips
    return tuple(c for s in ("crema-d/1009", "crema-d/1011") for c in [c for c in all_clips if c.speaker == s][:4])


@pytest.fixture(scope="module")
def one(clips) -> Stream:
    return next(streams(clips, RATE, CLEAN))


def test_speech_is_where_it_is_loud() -> None:
    rng = np.random.default_rng(0)
    wave = 0.001 * rng.standard_normal(3 * RATE)
    wave[RATE : 2 * RATE] += voice(1.0, 0)
    first, last = speech_span(wave.astype(np.float32), RATE)
    assert first / RATE == pytest.approx(1.0, abs=0.1)
    assert last / RATE == pytest.approx(2.0, abs=0.1)
    assert speech_span(np.zeros(800, np.float32), RATE) == (0, 800)
    assert speech_span(np.ones(100, np.float32), RATE) == (0, 100)


def test_a_stream_holds_every_clip_of_a_speaker_once(clips, one) -> None:
    assert one.speaker == "crema-d/1009"
    assert {placed.clip for placed in one.placed} == set(clips[:4])
    end = 0
    for placed in one.placed:
        pause = placed.start - end
        assert 0.5 * RATE <= pause <= 3.0 * RATE
        assert not one.samples[end : placed.start].any()
        heard, _ = soundfile.read(placed.clip.path, dtype="float32")
        assert np.array_equal(one.samples[placed.start : placed.end], heard)
        assert placed.start <= placed.onset < placed.offset <= placed.end
        end = placed.end
    assert 0.5 * RATE <= one.samples.size - end <= 3.0 * RATE


def test_the_seed_fixes_a_stream_and_other_speakers_do_not_touch_it(clips) -> None:
    config = StreamConfig(seed=3)
    both, alone = list(streams(clips, RATE, config)), list(streams(clips[4:], RATE, config))
    assert [s.speaker for s in both] == ["crema-d/1009", "crema-d/1011"]
    assert both[1].placed == alone[0].placed
    assert np.array_equal(both[1].samples, alone[0].samples)
    other = next(streams(clips, RATE, replace(config, seed=4)))
    assert other.samples.size != both[0].samples.size


@pytest.mark.parametrize("noise", ["white", "pink"])
def test_noise_has_the_wished_distance_to_the_speech(clips, noise) -> None:
    stream = next(streams(clips, RATE, StreamConfig(snr_db=10.0, noise=noise)))
    clean = next(streams(clips, RATE, StreamConfig(snr_db=float("inf"), noise=noise)))
    # The noise is drawn behind the order and the pauses: the timeline stays.
    assert stream.placed == clean.placed
    added = stream.samples - clean.samples
    speech = np.concatenate([clean.samples[p.onset : p.offset] for p in clean.placed])
    assert 10.0 * np.log10(np.mean(speech**2) / np.mean(added**2)) == pytest.approx(10.0, abs=0.2)
    low, high = (np.abs(np.fft.rfft(added[:RATE])[band]).mean() for band in (slice(50, 200), slice(5_000, 7_000)))
    assert (low > 3.0 * high) == (noise == "pink")


def test_recorded_noise(tmp_path: Path, clips) -> None:
    tone = (0.5 * np.sin(2 * np.pi * 1_000.0 * np.arange(RATE) / RATE)).astype(np.float32)
    write_wav(tmp_path / "tone.wav", tone)
    config = StreamConfig(snr_db=20.0, noise=str(tmp_path))
    stream = next(streams(clips, RATE, config))
    pause = stream.samples[: stream.placed[0].start]
    assert np.abs(np.fft.rfft(pause[: RATE // 2])).argmax() == 500
    write_wav(tmp_path / "tone.wav", np.zeros(RATE, np.float32))
    with pytest.raises(DataError, match="nothing but silence"):
        load_noise(config, RATE)
    with pytest.raises(DataError, match="expected white, pink or a folder"):
        load_noise(replace(config, noise="brown"), RATE)
    with pytest.raises(DataError, match="in this order"):
        StreamConfig(pause_s=(2.0, 1.0))


def heard_as(shown: list[Span], timeline: list[Span], alone: tuple[str, ...] = ()) -> Heard:
    """Two clips of 2 s, anger from 1 s on and sadness from 5 s on, in 8 s."""
    placed = tuple(
        Placed(Clip(Path(label), label, "a"), start * RATE, (start + 2) * RATE, start * RATE, (start + 2) * RATE)
        for label, start in (("anger", 1), ("sad", 5))
    )
    return Heard("a", RATE, 8 * RATE, placed, tuple(shown), tuple(timeline), (), alone)


def span(start_s: float, end_s: float, label: str) -> Span:
    return Span(round(start_s * RATE), round(end_s * RATE), label)


def test_perfect_decisions() -> None:
    perfect = [span(0, 1, SILENCE), span(1, 3, "anger"), span(3, 5, SILENCE), span(5, 7, "sad"), span(7, 8, SILENCE)]
    scores = score([heard_as(perfect, perfect, ("anger", "sad"))])
    assert (scores.eder, scores.eder_shown, scores.never, scores.settled_s) == (0.0, 0.0, 0.0, 0.0)
    assert set(scores.uar_at.values()) == {1.0}
    assert (scores.uar_whole, scores.uar_alone, scores.gap) == (1.0, 1.0, 0.0)
    assert (scores.flips_per_minute, scores.pause_claimed, scores.precision) == (0.0, 0.0, 1.0)


def test_nothing_but_silence() -> None:
    scores = score([heard_as([], [span(0, 8, SILENCE)])])
    assert (scores.eder, scores.missed, scores.confusion, scores.false_alarm) == (1.0, 1.0, 0.0, 0.0)
    assert (scores.never, scores.settled_s, scores.uar_whole, scores.uar_alone) == (1.0, None, 0.0, None)
    assert set(scores.uar_at.values()) == {0.0}


def test_late_unsteady_decisions_by_hand() -> None:
    shown = [
        span(1.25, 2.0, "sad"),
        span(2.0, 4.0, "anger"),  # one second late, one second too long
        span(5.75, 6.25, "sad"),
        span(6.25, 6.75, "anger"),
        span(6.75, 7.0, "sad"),
    ]
    timeline = [span(0, 2, "sad"), span(2, 3, "anger"), span(3, 5.5, SILENCE), span(5.5, 8, "sad")]
    scores = score([heard_as(shown, timeline, ("anger", "anger"))])
    # Anger: sad, anger, anger, anger. Sadness: silence, sad, anger, sad.
    assert scores.uar_at == {"0.5": 0.0, "1": 1.0, "1.5": 0.5, "2": 1.0}
    assert scores.settled_s == pytest.approx((1.0 + 1.75) / 2)
    assert scores.flips_per_minute == pytest.approx((1 + 2) / (4 / 60))
    # The timeline: 1 s of anger confused, .5 s of sadness missed, 1 s before and 1 s after in pauses.
    assert (scores.missed, scores.confusion, scores.false_alarm) == pytest.approx((0.5 / 4, 1 / 4, 2 / 4))
    assert scores.eder == pytest.approx(3.5 / 4)
    assert scores.pause_claimed == pytest.approx(2 / 4)
    assert scores.pause_shown == pytest.approx(1 / 4)
    # Of equals, sadness and anger, the first is the answer.
    assert (scores.uar_whole, scores.uar_alone, scores.gap) == (0.5, 0.5, 0.0)


def test_uar_is_over_labels_and_not_over_clips() -> None:
    assert uar(["a", "a", "a", "b"], ["a", "a", SILENCE, "a"]) == pytest.approx((2 / 3 + 0) / 2)
    with pytest.raises(DataError, match="no clips"):
        score([])


@pytest.fixture(scope="module")
def heard(one, tiny_model) -> Heard:
    return hear(Recognizer(engine.load(tiny_model, "cpu")), one)


def test_the_runtime_hears_a_stream(heard, one) -> None:
    assert len(heard.alone) == 4
    assert heard.timeline[0].start == 0
    assert heard.timeline[-1].end > one.samples.size - 160
    assert any(span.label != SILENCE for span in heard.timeline)
    assert all(a.end == b.start for a, b in zip(heard.shown, heard.shown[1:], strict=False))
    scores = score([heard])
    assert scores.clips == 4
    assert scores.minutes == pytest.approx(one.samples.size / RATE / 60.0)
    assert scores.pause_claimed < 0.3
    assert scores.false_alarm < 0.5


def test_a_clip_alone_is_heard_as_evaluate_hears_it(heard, tiny_model) -> None:
    from stream_ser.train.evaluation.evaluate import evaluate

    result = evaluate(engine.load(tiny_model, "cpu"), [placed.clip for placed in heard.placed])
    labels = engine.load(tiny_model, "cpu").card.labels
    assert heard.alone == tuple(labels[row.argmax()] for row in result.probabilities)


@pytest.mark.parametrize("config", [DeciderConfig(), DeciderConfig(hold_s=0.0, silence_s=0.25, listen_s=0.0)])
def test_kept_predictions_are_decided_as_the_runtime_does(one, tiny_model, config) -> None:
    loaded = engine.load(tiny_model, "cpu")
    live = hear(Recognizer(loaded, config), one, alone=False)
    blank = replace(live, shown=(), timeline=())
    assert decide(blank, loaded.card.labels, config) == live


def test_an_unknown_label_is_refused(one, tiny_onnx) -> None:
    loaded = engine.load(tiny_onnx("few.onnx", labels=("anger", "sad")), "cpu")
    with pytest.raises(DataError, match="is not one of the model's"):
        evaluate_streams(loaded, [one], vad=DEFAULT_VAD)


def test_the_command(call, tmp_path, tiny_onnx) -> None:
    pytest.importorskip("torch")
    model = tiny_onnx("mine.onnx")
    folder = write_crema_d(tmp_path / "crema-d", actors=("1009", "1011"), sentences=("DFA",), seconds=1.0)
    base = ("evaluate", model, "--data", f"crema-d={folder}", "--speaker", "crema-d/1009", "--stream")
    options = (*base, "--snr", "20", "--noise", "white", "--pause", "0.5", "1")
    code, out, err = call(*options, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["clips"], found["speakers"]) == (6, 1)
    assert list(found["uar_at"]) == ["0.5", "1", "1.5", "2"]
    assert "streams of one speaker each, pauses of 0.5 to 1 s, white noise at 20 dB, seed 0" in found["protocol"]
    assert found["gap"] == pytest.approx(found["uar_alone"] - found["uar_whole"])
    code, out, err = call(*options, "--record")
    assert code == 0
    assert f"{found['eder']:.3f}" in out
    assert "never" in out
    results = engine.load(model, "cpu").card.results
    assert results["crema-d validation streams"]["eder"] == found["eder"], "the same seed, the same numbers"


def test_mistakes_are_one_line(call, tiny_crema_d, tiny_model) -> None:
    base = ("evaluate", tiny_model, "--data", f"crema-d={tiny_crema_d}")
    for arguments, message in (
        (("--snr", "20"), "--snr is for streams; add --stream"),
        (("--stream", "--noise", "brown"), "expected white, pink or a folder"),
        (("--stream", "--pause", "3", "1"), "expected 0 or more and in this order"),
        (("--stream", "--snr", "nan"), "SNR is nan dB"),
        (("--stream", "--speaker", "anna"), "speakers are named like crema-d/1009"),
    ):
        code, out, err = call(*base, *arguments)
        assert (code, out) == (2, "")
        assert message in err
        assert len(err.splitlines()) == 1
