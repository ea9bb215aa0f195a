import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ser.config import DEFAULT_VAD, DeciderConfig, FeatureConfig, VadConfig
from stream_ser.errors import AudioError, ModelError
from stream_ser.events import SILENCE, UNCERTAIN, Decision, Gap, Prediction, Provisional
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime import engine
from stream_ser.vad.window_speech import LOWEST_DBFS


@pytest.fixture(scope="module")
def model(tiny_model):
    return engine.load(tiny_model, "cpu")


def events_of(recognizer: Recognizer, samples: np.ndarray, sizes: list[int]) -> list:
    recognizer.reset()
    events, position, turn = [], 0, 0
    while position < len(samples):
        block = samples[position : position + sizes[turn % len(sizes)]]
        events += recognizer.push(block)
        position, turn = position + len(block), turn + 1
    return events + recognizer.flush()


@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.one_of(st.integers(1, 50), st.integers(200, 30_000)), min_size=1, max_size=5),
    seconds=st.floats(0.4, 5.0),
    seed=st.integers(0, 5),
)
def test_any_split_gives_the_same_events(model, speechlike, sizes, seconds, seed) -> None:
    samples = speechlike(seconds, seed)
    recognizer = Recognizer(model)
    whole = events_of(recognizer, samples, [len(samples)])
    summary = recognizer.summary()
    assert events_of(recognizer, samples, sizes) == whole
    assert recognizer.summary() == summary


def test_sample_by_sample_gives_the_same_events(model, speechlike) -> None:
    samples = speechlike(1.6, 3)
    recognizer = Recognizer(model)
    whole = events_of(recognizer, samples, [len(samples)])
    assert events_of(recognizer, samples, [1]) == whole


@settings(max_examples=25, deadline=None)
@given(start=st.sampled_from([0, 12_345]), shares=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6))
def test_nothing_comes_of_less_than_what_is_needed(model, speechlike, start, shares) -> None:
    samples, position = speechlike(6.0, 2), 0
    recognizer = Recognizer(model)
    recognizer.reset(start)
    for share in shares:
        needed = round(recognizer.needs_s * 16_000)
        assert needed > 0
        fewer = round(share * (needed - 1))
        assert recognizer.push(samples[position : position + fewer]) == []
        assert round(recognizer.needs_s * 16_000) == needed - fewer
        assert recognizer.push(samples[position + fewer : position + needed])
        position += needed
    for lost in (400, 16_000):  # zeros stand for it
        recognizer.push(samples[:0], lost=lost)
        assert 0 < recognizer.needs_s * 16_000 <= model.card.features.samples_for(model.card.window.hop)
    recognizer.reset(start)
    assert recognizer.needs_s == model.card.features.samples_for(model.card.window.minimum) / 16_000


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, 2.0**33, -(2.0**33)])
def test_samples_that_cannot_be_are_found_also_where_they_would_only_wait(model, broken) -> None:
    recognizer = Recognizer(model)
    block = np.zeros(100, dtype=np.float32)
    recognizer.push(block)
    needed_s = recognizer.needs_s
    block[7] = broken
    with pytest.raises(AudioError, match="sample 107 "):
        recognizer.push(block)
    assert recognizer.needs_s == needed_s


def test_short_blocks_wait_until_a_hop_is_complete(model, speechlike, monkeypatch) -> None:
    worked = []
    work = Recognizer._work

    def counted(self, samples, *rest):
        worked.append(len(samples))
        return work(self, samples, *rest)

    monkeypatch.setattr(Recognizer, "_work", counted)
    events = events_of(Recognizer(model), speechlike(3.0, 0), [320])
    hops = sum(isinstance(event, Prediction) for event in events)
    assert len(worked) == hops == 9  # the last one is of the flush
    assert sum(worked) == 48_000


def test_a_block_that_waits_may_be_overwritten(model, speechlike) -> None:
    samples = speechlike(2.0, 1)
    recognizer = Recognizer(model)
    whole = events_of(recognizer, samples, [len(samples)])
    recognizer.reset()
    block, events = np.empty(160, np.float32), []
    for part in samples.reshape(-1, 160):
        block[:] = part
        events += recognizer.push(block)
        block[:] = np.nan
    assert events + recognizer.flush() == whole


def test_what_waits_is_forgotten_by_a_reset(model, speechlike) -> None:
    samples = speechlike(2.0, 2)
    recognizer = Recognizer(model)
    whole = events_of(recognizer, samples, [len(samples)])
    recognizer.push(np.ones(700, np.float32))
    assert events_of(recognizer, samples, [160]) == whole


def test_predictions_lie_on_the_hop_grid(model, speechlike) -> None:
    events = events_of(Recognizer(model), speechlike(4.0, 0), [1_000])
    predictions = [e for e in events if isinstance(e, Prediction)]
    ends = [p.end for p in predictions]
    features = FeatureConfig()
    assert ends[0] == features.samples_for(100)
    assert all(b - a == 25 * 160 for a, b in itertools.pairwise(ends[:-1]))
    assert 64_000 - 160 < ends[-1] <= 64_000
    assert predictions[0].start == 0
    assert predictions[-1].start > 0
    assert all(sum(p.probabilities) == pytest.approx(1.0) for p in predictions)


def test_the_network_sees_the_log_mel_of_the_window(model, speechlike) -> None:
    from stream_ser.features.log_mel import log_mel

    samples = speechlike(4.0, 7)
    recognizer = Recognizer(model, DeciderConfig(change_distance=1.0))
    last = [e for e in events_of(recognizer, samples, [777]) if isinstance(e, Prediction)][-1]
    assert last.probabilities == model.probabilities(log_mel(samples).T[-300:])


def test_lost_samples_are_a_gap_and_the_clock_stays_right(model, speechlike) -> None:
    samples = speechlike(4.0, 0)
    recognizer = Recognizer(model)
    events = recognizer.push(samples[:20_000])
    events += recognizer.push(samples[25_000:], lost=5_000)
    events += recognizer.flush()
    assert [e for e in events if isinstance(e, Gap)] == [Gap(20_000, 5_000)]
    summary = recognizer.summary()
    assert (summary.samples, summary.lost) == (64_000, 5_000)
    filled = samples.copy()
    filled[20_000:25_000] = 0.0
    expected = events_of(Recognizer(model), filled, [64_000])
    assert [e for e in events if not isinstance(e, Gap)] == expected


def test_a_long_loss_is_counted(model, speechlike) -> None:
    recognizer = Recognizer(model)
    recognizer.push(speechlike(2.0, 0))
    events = recognizer.push(speechlike(2.0, 1), lost=160_000)
    recognizer.flush()
    assert recognizer.summary().samples == 2 * 32_000 + 160_000
    assert any(isinstance(e, Decision) and e.label != SILENCE for e in events)


def test_digital_silence_is_silence(model) -> None:
    recognizer = Recognizer(model)
    events = events_of(recognizer, np.zeros(64_000, np.float32), [4_000])
    predictions = [e for e in events if isinstance(e, Prediction)]
    assert all(p.probabilities == () and p.level_dbfs == LOWEST_DBFS for p in predictions)
    assert [e.label for e in events if isinstance(e, Decision)] == [SILENCE]
    summary = recognizer.summary()
    assert (summary.label, summary.probabilities) == (SILENCE, ())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e19, -1e19])
def test_bad_samples_are_named_and_change_nothing(model, speechlike, bad) -> None:
    samples = speechlike(2.0, 0)
    recognizer = Recognizer(model)
    recognizer.push(samples[:8_000])
    broken = samples[8_000:].copy()
    broken[100] = bad
    with pytest.raises(AudioError, match=r"sample 8100 \(at 0\.506 s\)"):
        recognizer.push(broken)
    rest = recognizer.push(samples[8_000:]) + recognizer.flush()
    assert rest == events_of(Recognizer(model), samples, [32_000])


@pytest.mark.parametrize("samples", [np.full(40_000, 1_000, np.int16), np.zeros((2, 40_000), np.float32), [1, 0]])
def test_what_is_no_audio_gets_no_score(model, samples) -> None:
    """Sixteen-bit integers were heard as audio 90 dB above full scale."""
    recognizer = Recognizer(model)
    with pytest.raises(ValueError, match=r"expected floats \(time,\)"):
        recognizer.push(samples)
    recognizer.push([0.0, 1.0])


@pytest.mark.parametrize("count", [0, 1, 511, 4_000])
def test_too_short_is_said(model, count: int) -> None:
    recognizer = Recognizer(model)
    recognizer.push(np.full(count, 0.1, np.float32))
    with pytest.raises(AudioError, match="too short"):
        recognizer.flush()


def test_the_level_is_that_of_the_last_hop(model) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(48_000) / 16_000).astype(np.float32)
    tone[32_000:] *= 0.1
    predictions = [e for e in events_of(Recognizer(model), tone, [48_000]) if isinstance(e, Prediction)]
    assert predictions[0].level_dbfs == pytest.approx(-3.01, abs=0.05)
    assert predictions[-1].level_dbfs == pytest.approx(-23.01, abs=0.05)


def test_a_log_mel_that_cannot_be_computed_is_refused(tiny_onnx) -> None:
    path = tiny_onnx(features=FeatureConfig(n_mels=200, n_fft=256))
    with pytest.raises(ModelError, match="holds no bin"):
        Recognizer(engine.load(path, "cpu"))


def test_timing_is_measured_and_not_compared(model, speechlike) -> None:
    import time

    samples = speechlike(1.5, 0)
    live = Recognizer(model).push(samples, captured_at=time.monotonic() - 0.2)
    (first, *_) = [e for e in live if isinstance(e, Prediction)]
    assert first.timing is not None
    assert first.timing.age_ms is not None
    assert first.timing.age_ms >= 200.0
    assert first.timing.inference_ms > 0.0
    assert live == Recognizer(model).push(samples)


def verdicts_of(events: list) -> list[Decision]:
    return [event for event in events if isinstance(event, Decision)]


def test_the_summary_is_made_of_the_decisions(model, speechlike) -> None:
    recognizer = Recognizer(model)
    pause = np.zeros(32_000, np.float32)
    samples = np.concatenate([speechlike(4.0, 0), pause, speechlike(2.0, 3, pitch_hz=250.0), pause])
    decisions = verdicts_of(events_of(recognizer, samples, [5_000]))
    judged = [d for d in decisions if d.probabilities]
    assert len({d.utterance for d in judged}) == 2
    summary = recognizer.summary()
    weights = [d.end - d.start for d in judged]
    mean = np.average([d.probabilities for d in judged], axis=0, weights=weights)
    assert summary.probabilities == pytest.approx(tuple(mean))
    longest = max(summary.seconds.items(), key=lambda item: (item[0] != SILENCE, item[1]))[0]
    assert summary.label == longest
    assert 0.0 < summary.confidence <= 1.0


def test_one_utterance_has_one_verdict_and_the_silence_after_it_none(model, speechlike) -> None:
    recognizer = Recognizer(model, DeciderConfig(change_distance=1.0))
    samples = np.concatenate([speechlike(4.0, 0), np.zeros(48_000, np.float32)])
    *before, verdict, after = verdicts_of(events_of(recognizer, samples, [5_000]))
    assert all(decision.label == SILENCE for decision in before)
    assert (verdict.utterance, verdict.end / 16_000) == (1, pytest.approx(4.0, abs=0.3))
    assert (after.label, after.probabilities, after.utterance) == (SILENCE, (), 0)
    assert recognizer.summary().probabilities == pytest.approx(verdict.probabilities)


def test_a_label_is_shown_while_its_utterance_goes_on(model, speechlike) -> None:
    recognizer = Recognizer(model)
    samples = np.concatenate([np.zeros(16_000, np.float32), speechlike(3.0, 0), np.zeros(32_000, np.float32)])
    events = events_of(recognizer, samples, [4_000])
    first = next(place for place, event in enumerate(events) if isinstance(event, Provisional))
    final = next(place for place, e in enumerate(events) if isinstance(e, Decision) and e.utterance)
    assert first < final
    assert events[first].utterance == events[final].utterance == 1
    assert events[first].end < 16_000 + 16_000, "before the utterance is over"
    assert not any(isinstance(event, Provisional) for event in events[final:])


def test_judged_is_what_the_summary_averages(model, speechlike) -> None:
    recognizer = Recognizer(model, keep_judged=True)
    for seconds in (4.0, 1.5):
        recognizer.reset()
        recognizer.push(speechlike(seconds))
        recognizer.flush()
        assert recognizer.judged
        low, high = np.min(recognizer.judged, axis=0), np.max(recognizer.judged, axis=0)
        mean = np.array(recognizer.summary().probabilities)
        assert (low - 1e-12 <= mean).all()
        assert (mean <= high + 1e-12).all()
    forgetful = Recognizer(model)
    forgetful.push(speechlike(4.0))
    assert forgetful.judged == []


def test_decisions_fill_the_summary(model, speechlike) -> None:
    recognizer = Recognizer(model)
    events = events_of(recognizer, np.concatenate([speechlike(3.0, 0), np.zeros(48_000, np.float32)]), [5_000])
    seconds = recognizer.summary().seconds
    decisions = [e for e in events if isinstance(e, Decision)]
    assert sum(seconds.values()) == pytest.approx((decisions[-1].end - decisions[0].start) / 16_000)
    assert seconds[SILENCE] > 1.0


def rain(seconds: float) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(round(seconds * 16_000))).astype(np.float32)


def test_noise_is_silence_unless_voice_activity_detection_is_off(model) -> None:
    recognizer = Recognizer(model)
    events = events_of(recognizer, rain(3.0), [3_000])
    assert {e.probabilities for e in events if isinstance(e, Prediction)} == {()}
    assert [e.label for e in events if isinstance(e, Decision)] == [SILENCE]
    assert recognizer.summary().label == SILENCE
    credulous = Recognizer(model, vad=None)
    events = events_of(credulous, rain(3.0), [3_000])
    assert all(e.probabilities for e in events if isinstance(e, Prediction))
    assert credulous.summary().label != SILENCE


def test_noise_after_speech_ends_the_emotion(model, speechlike) -> None:
    events = events_of(Recognizer(model), np.concatenate([speechlike(3.0, 0), 0.1 * rain(4.0)]), [1_234])
    decisions = [e for e in events if isinstance(e, Decision)]
    assert decisions[-1].label == SILENCE
    assert not any(d.label == SILENCE for d in decisions[1:-1]), "before the voice alone"
    assert decisions[-1].start / 16_000 == pytest.approx(3.0, abs=0.3), "silence begins where the voice ends"


def test_an_utterance_after_a_silence_is_heard_for_itself(model, speechlike) -> None:
    """What was said before a silence is not in the window any more: another speaker may have said it."""
    first, second = speechlike(2.0, 0), speechlike(2.0, 3, pitch_hz=250.0)
    pause = np.zeros(round((DEFAULT_VAD.min_silence_s + 0.3) * 16_000), np.float32)
    events = events_of(Recognizer(model), np.concatenate([first, pause, second]), [3_000])
    onset = (first.size + pause.size) / 16_000
    after = [e for e in events if isinstance(e, Prediction) and e.probabilities and e.end / 16_000 > onset]
    alone = [e for e in events_of(Recognizer(model), second, [3_000]) if isinstance(e, Prediction)]
    assert all(p.start >= first.size and p.voice[0] / 16_000 == pytest.approx(onset, abs=0.15) for p in after)
    # Both ends fall on another place of the hop grid; the last window ends with the stream and is the same.
    assert after[-1].probabilities == pytest.approx(alone[-1].probabilities, abs=0.05)


def test_an_utterance_is_heard_to_its_end_though_the_timeline_is_silent(model, speechlike) -> None:
    samples = np.concatenate([speechlike(2.0, 0), np.zeros(48_000, np.float32)])
    ends = {}
    for tail_s in (0.0, 0.5):
        config = replace(DEFAULT_VAD, tail_s=tail_s)
        events = events_of(Recognizer(model, vad=config), samples, [3_000])
        ends[tail_s] = max(e.end for e in events if isinstance(e, Prediction) and e.probabilities)
        silence = [e for e in events if isinstance(e, Decision)][-1]
        assert silence.label == SILENCE
        assert silence.start < 2.3 * 16_000
    assert ends[0.5] - ends[0.0] == 8_000
    assert ends[0.5] > 2.5 * 16_000


def test_a_window_needs_enough_speech(model, speechlike) -> None:
    samples = speechlike(3.0, 0)
    strict = Recognizer(model, vad=VadConfig(min_voiced_s=3.5))
    assert all(not e.probabilities for e in events_of(strict, samples, [5_000]) if isinstance(e, Prediction))
    # Somebody spoke, for longer than "too short" would say; the network was not asked.
    assert (strict.summary().label, strict.summary().probabilities) == (UNCERTAIN, ())


def test_where_speech_is_heard_the_network_sees_the_same(model, speechlike) -> None:
    samples = speechlike(4.0, 1)
    # Without voice activity detection there are no utterances, within which a window network looks for changes.
    config = DeciderConfig(change_distance=1.0)
    with_vad = [e for e in events_of(Recognizer(model, config), samples, [999]) if isinstance(e, Prediction)]
    without = [e for e in events_of(Recognizer(model, config, vad=None), samples, [999]) if isinstance(e, Prediction)]
    assert len(with_vad) == len(without)
    assert all(replace(a, voice=None) == b for a, b in zip(with_vad, without, strict=True) if a.probabilities)
    assert sum(bool(a.probabilities) for a in with_vad) > len(with_vad) / 2


def test_a_block_may_reach_far_beyond_its_windows(model, speechlike) -> None:
    """Speech that comes later in the same block is not known to a window that ends before it."""
    samples = np.concatenate([rain(2.0), speechlike(3.0, 0)])
    recognizer = Recognizer(model)
    early = [e for e in events_of(recognizer, samples, [samples.size]) if isinstance(e, Prediction) and e.end < 32_000]
    assert early
    assert all(not e.probabilities for e in early)
    # What was looked at is not kept.
    assert len(recognizer._voices) <= 3


def test_a_rate_without_voice_activity_detection_is_refused(tiny_onnx) -> None:
    loaded = engine.load(tiny_onnx(features=FeatureConfig(sample_rate=22_050)), "cpu")
    with pytest.raises(ModelError, match="22050; use --no-vad"):
        Recognizer(loaded)
    Recognizer(loaded, vad=None)
