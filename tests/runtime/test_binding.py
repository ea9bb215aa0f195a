"""Fixed places for a network's tensors, on the CPU as they are on a GPU: the same answers as without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_ser.errors import ModelError, ProviderError
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime import engine, providers
from stream_ser.runtime.io_binding import Bound, OnDevice

pytest.importorskip("onnx")

HOPS = np.random.default_rng(0).normal(-6.0, 3.0, (8, 24, 24)).astype(np.float32)
SHAPES = ((1, 24), (1, 1, 8))


@pytest.fixture(scope="module")
def plain(speller: Path) -> engine.Engine:
    return engine.load(speller, "cpu")


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines take the path of a GPU, on the CPU's memory."""
    monkeypatch.setattr(providers, "on_gpu", lambda name: True)


@pytest.fixture
def bind(plain: engine.Engine) -> Callable[..., Bound]:
    states = [(state.input, state.output, state.shape) for state in plain.card.states]

    def make(session: Any = None, **options: Any) -> Bound:
        outputs = {"logits": (1, 6), "log_probs": (1, 6, 8)}
        return Bound(session or plain._run, {"features": (1, 24, 24)}, outputs, states, **options)

    return make


def zeros() -> list[np.ndarray]:
    return [np.zeros(shape, np.float32) for shape in SHAPES]


def expected(plain: engine.Engine, hop: np.ndarray, state: list[np.ndarray]) -> list[np.ndarray]:
    feed = {"features": hop[None], "heard": state[0], "late": state[1]}
    return plain._run.run(["logits", "log_probs", "next_heard", "next_late"], feed)


def same(found: list[Any], wanted: list[np.ndarray]) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(one), other)


@pytest.mark.parametrize("seats", [1, 2, 8])
@pytest.mark.parametrize("streams", [1, 2, 3])
def test_streams_in_any_order_get_what_they_get_without_places(plain, bind, seats: int, streams: int) -> None:
    bound, rng = bind(seats=seats), np.random.default_rng(streams)
    ours: list[Any] = [zeros() for _ in range(streams)]
    theirs = [zeros() for _ in range(streams)]
    for turn in range(25):
        stream, hop = int(rng.integers(streams)), HOPS[turn % len(HOPS)]
        found, wanted = bound.run({"features": hop[None]}, ours[stream]), expected(plain, hop, theirs[stream])
        same(found[:2], wanted[:2])
        assert all(isinstance(tensor, OnDevice) for tensor in found[2:])
        ours[stream], theirs[stream] = found[2:], wanted[2:]
    for mine, yours in zip(ours, theirs, strict=True):
        same(mine, yours)


def test_a_state_can_be_gone_back_to(plain, bind) -> None:
    """A caller may keep any state, as it may without places."""
    bound = bind(seats=2)
    kept: list[Any] = [zeros()]
    for hop in HOPS:
        kept.append(bound.run({"features": hop[None]}, kept[-1])[2:])
    for hop, before, after in zip(HOPS, kept, kept[1:], strict=False):
        again = bound.run({"features": hop[None]}, before)
        same(again[2:], [np.asarray(tensor) for tensor in after])
    wanted = expected(plain, HOPS[0], zeros())
    same(kept[1], wanted[2:])
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(kept[1][0])[:] = 1.0


def test_one_stream_never_leaves_the_device(bind, monkeypatch: pytest.MonkeyPatch) -> None:
    bound, left = bind(), []
    monkeypatch.setattr(OnDevice, "leave", lambda self: left.append(self))
    state: Any = zeros()
    for hop in HOPS:
        state = bound.run({"features": hop[None]}, state)[2:]
    assert left == []
    assert len(bound._seats) == 1


def test_a_wrong_number_of_states_is_refused(bind) -> None:
    with pytest.raises(ValueError, match="1 states, expected 2"):
        bind().run({"features": HOPS[:1]}, zeros()[:1])
    with pytest.raises(ValueError, match="0 seats"):
        bind(seats=0)


class Session:
    """A session through which runs go; ``replays`` makes them repeat the first one, as a stale graph does."""

    def __init__(self, real: Any, replays: bool = False) -> None:
        self.real, self.replays = real, replays
        self.graphs: list[str] = []
        self._kept: list[Any] = []

    def io_binding(self) -> Any:
        return self.real.io_binding()

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        if options is not None:
            self.graphs.append(options.get_run_config_entry("gpu_graph_id"))
        self.real.run_with_iobinding(binding, options)
        if self.replays:
            values = binding.get_outputs()
            self._kept = self._kept or [np.array(value.numpy(), copy=True) for value in values]
            for value, array in zip(values, self._kept, strict=True):
                value.update_inplace(array)


def test_each_pair_of_places_is_a_graph_of_its_own(plain, bind) -> None:
    session = Session(plain._run)
    bound = bind(session, graphs=True, seats=2)
    first = second = third = zeros()
    for hop in HOPS[:4]:
        first = bound.run({"features": hop[None]}, first)[2:]
    for hop in HOPS[:2]:
        second = bound.run({"features": hop[None]}, second)[2:]
    assert session.graphs == ["1", "2", "1", "2", "3", "4"]
    bound.run({"features": HOPS[:1]}, third)  # takes the place of the one that was not used for longest
    assert session.graphs[-1] == "1"
    same(first, [np.asarray(tensor) for tensor in first])


def test_a_stale_graph_is_noticed(plain, bind) -> None:
    assert bind(graphs=True).apart(plain._run) == 0.0
    assert bind(Session(plain._run, replays=True), graphs=True).apart(plain._run) > 0.1


def test_what_is_not_finite_is_infinitely_far(plain, bind) -> None:
    class Broken:
        def run(self, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [np.full_like(array, np.nan) for array in plain._run.run(names, feed)]

    assert bind().apart(Broken()) == np.inf


def test_an_engine_with_places_says_the_same(speller: Path, plain, on_gpu) -> None:
    bound = engine.load(speller, "cpu")
    assert bound._bound is not None
    states = [bound.initial_state(), plain.initial_state()]
    for hop in HOPS:
        steps = [one.step(hop, state) for one, state in zip((bound, plain), states, strict=True)]
        states = [step.state for step in steps]
        assert steps[0].probabilities == steps[1].probabilities
        np.testing.assert_array_equal(steps[0].log_probs, steps[1].log_probs)
        same(list(steps[0].state), list(steps[1].state))


def test_a_window_too(tiny_model: Path, on_gpu, monkeypatch: pytest.MonkeyPatch, speechlike) -> None:
    bound = engine.load(tiny_model, "cpu")
    samples = speechlike(3.0)
    with monkeypatch.context() as undone:
        undone.setattr(providers, "on_gpu", lambda name: False)
        plain = engine.load(tiny_model, "cpu")
    assert bound._bound is not None
    assert plain._bound is None
    said = [
        [(e.end, e.probabilities) for e in Recognizer(one, vad=None).push(samples) if hasattr(e, "probabilities")]
        for one in (bound, plain)
    ]
    assert said[0] == said[1] != []


def test_many_streams_beside_one_with_places(tiny_model: Path, on_gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = engine.load(tiny_model, "cpu")
    windows = np.random.default_rng(0).normal(-6.0, 3.0, (3, bound.frames, 64)).astype(np.float32)
    alone = [bound.probabilities(window) for window in windows]
    for step, expected in zip(bound.together(list(windows), [()] * 3), alone, strict=True):
        np.testing.assert_allclose(step.probabilities, expected, atol=1e-6)
    assert bound._run_rows is not bound._run
    assert [bound.probabilities(window) for window in windows] == alone


def test_where_graphs_go_wrong_the_engine_does_without(
    speller: Path, plain, on_gpu, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Bound, "apart", lambda self, reference: 0.3)
    loaded = engine.load(speller, "cpu")
    assert "CUDA graphs are 3.0e-01 from the CPU and are not used" in caplog.text
    assert loaded._bound is not None
    assert loaded._bound._graphs is False
    step = loaded.step(HOPS[0], loaded.initial_state())
    assert step.probabilities == plain.step(HOPS[0], plain.initial_state()).probabilities


def test_a_capture_that_fails_and_a_session_without_one(speller: Path, on_gpu, monkeypatch, caplog) -> None:
    def failing(self: Bound, reference: Any) -> float:
        raise RuntimeError("capture failed\nmore")

    caplog.set_level("INFO")
    with monkeypatch.context() as change:
        change.setattr(Bound, "apart", failing)
        assert engine.load(speller, "cpu")._bound is not None
    assert "CUDA graphs cannot be captured (capture failed)" in caplog.text
    real = engine.open_session

    def refuses(path: Path, wanted: Any, threads: int) -> Any:
        if any("cudnn_conv_algo_search" in options and options["enable_cuda_graph"] == "1" for _, options in wanted):
            raise ModelError("a part stays on the CPU")
        return real(path, [engine.CPU], threads)

    monkeypatch.setattr(engine, "open_session", refuses)
    monkeypatch.setattr(providers, "choose", lambda *_: [engine.CUDA, engine.CPU])
    monkeypatch.setattr(providers, "check", lambda *_: None)
    # Opened as the reference too, with names alone.
    monkeypatch.setattr(engine.Engine, "_place", lambda self, graphs: pytest.fail("graphs") if graphs else None)
    engine.load(speller, "cuda")
    assert "without CUDA graphs: a part stays on the CPU" in caplog.text


def test_a_network_that_fails_on_the_device_is_a_model_error(speller: Path, on_gpu, monkeypatch) -> None:
    loaded = engine.load(speller, "cpu")

    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: out of memory\nmore")

    monkeypatch.setattr(loaded._bound, "run", broken)
    with pytest.raises(ModelError, match=r"cannot be run \(CUDA error: out of memory\)"):
        loaded.step(HOPS[0], loaded.initial_state())


def test_a_provider_that_cannot_be_opened_is_told_from_a_file_that_cannot(
    speller: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = engine.open_session

    def without_gpu(path: Path, wanted: Any, threads: int) -> Any:
        if wanted != [engine.CPU]:
            raise ModelError(f"{path}: CUDA failure 100: no CUDA-capable device is detected")
        return real(path, wanted, threads)

    monkeypatch.setattr(engine, "open_session", without_gpu)
    monkeypatch.setattr(engine, "available_providers", lambda: [providers.TENSORRT, engine.CUDA, engine.CPU])
    monkeypatch.setattr(providers, "driver_present", lambda: True)
    for name in ("cuda", "tensorrt"):
        with pytest.raises(ProviderError, match=f"provider {name}: the session runs on CPUExecutionProvider instead"):
            engine.load(speller, name)
    loaded = engine.load(speller, "auto")
    assert (loaded.provider, loaded._bound) == (engine.CPU, None)
    assert loaded.note == "CUDA cannot be used here, running on CPUExecutionProvider (see 'stream-ser doctor')"
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(speller.read_bytes().replace(b"LogSoftmax", b"LogSoftmix"))
    with pytest.raises(ModelError, match=r"damaged\.onnx: not a readable ONNX model"):
        engine.load(damaged, "auto")
