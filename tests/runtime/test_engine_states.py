"""Networks with states: what they know is outside of them, and their graph must be what the card says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_models import STREAMING_CARD

from stream_ser.config import DeciderConfig
from stream_ser.errors import ModelError
from stream_ser.recognition.inference import answered
from stream_ser.recognition.streaming_predictor import StreamedNetwork
from stream_ser.runtime import engine
from stream_ser.runtime.card.base import State
from stream_ser.runtime.card.recognition import CARD_KEY, Card

onnx = pytest.importorskip("onnx")

HOPS = np.random.default_rng(0).normal(-6.0, 3.0, (6, 24, 24)).astype(np.float32)


@pytest.fixture(scope="module")
def loaded(speller: Path) -> engine.Engine:
    return engine.load(speller, "cpu")


def test_streams_that_take_turns_do_not_hear_each_other(loaded: engine.Engine) -> None:
    def alone(hops: np.ndarray) -> list[engine.Step]:
        state, found = loaded.initial_state(), []
        for hop in hops:
            found.append(loaded.step(hop, state))
            state = found[-1].state
        return found

    first, second = alone(HOPS), alone(HOPS[::-1])
    states = [loaded.initial_state(), loaded.initial_state()]
    for place in range(len(HOPS)):
        for stream, (hops, expected) in enumerate(((HOPS, first), (HOPS[::-1], second))):
            step = loaded.step(hops[place], states[stream])
            states[stream] = step.state
            assert step.probabilities == expected[place].probabilities
            np.testing.assert_array_equal(step.log_probs, expected[place].log_probs)


def test_the_state_carries_what_was_heard_and_is_not_written_to(loaded: engine.Engine) -> None:
    zeros = loaded.initial_state()
    first = loaded.step(HOPS[0], zeros)
    kept = [array.copy() for array in first.state]
    assert loaded.step(HOPS[1], first.state).probabilities != loaded.step(HOPS[1], zeros).probabilities
    assert not any(array.any() for array in zeros)
    for array, before in zip(first.state, kept, strict=True):
        np.testing.assert_array_equal(array, before)
    assert first.log_probs is not None
    np.testing.assert_allclose(np.exp(first.log_probs).sum(axis=1), 1.0, atol=1e-5)


def test_a_streaming_network_has_no_windows(loaded: engine.Engine) -> None:
    with pytest.raises(ValueError, match=r"speller carries states from hop to hop; use step\(\)"):
        loaded.probabilities(np.zeros((288, 24), np.float32))
    assert loaded.frames == 24


def with_card(path: Path, out: Path, change: Callable[[Card], Card]) -> Path:
    """The same graph with another card."""
    model = onnx.load(path)
    card = change(Card.from_json(model.metadata_props[0].value))
    onnx.helper.set_model_props(model, {CARD_KEY: card.to_json()})
    onnx.save(model, out)
    return out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: replace(c, states=(*c.states, State("more", "next_more", (1,)))), "needs float32 'features'"),
        (lambda c: replace(c, states=c.states[:1]), "input is"),
        (lambda c: replace(c, states=(replace(c.states[0], shape=(1, 25)), c.states[1])), "'heard' of shape (1, 25)"),
        (lambda c: replace(c, states=(replace(c.states[0], input="h"), c.states[1])), "'h' of shape (1, 24)"),
        (lambda c: replace(c, states=(replace(c.states[0], output="h"), c.states[1])), "output is"),
        (lambda c: replace(c, vocabulary=c.vocabulary[:-1]), "'log_probs' of shape (1, 6, 7)"),
        (lambda c: replace(c, stride=2), "'log_probs' of shape (1, 12, 8)"),
        (lambda c: replace(c, window=replace(c.window, hop=48, minimum=48)), "'features' of shape (1, 24, 48)"),
        (lambda c: replace(c, labels=("a", "b")), "'logits' of shape (1, 2)"),
        (lambda c: replace(c, kind="emotion", vocabulary=()), "output is"),
    ],
)
def test_a_card_of_another_graph_is_refused(speller: Path, tmp_path: Path, change, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        engine.load(with_card(speller, tmp_path / "other.onnx", change), "cpu")
    assert said in str(caught.value)
    assert "export the model again" in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (0, np.nan, "not finite"),
        (1, np.nan, "log_probs that are none"),
        (1, 3.0, "log_probs that are none"),
        (2, np.inf, "not finite"),
        (3, np.nan, "not finite"),
    ],
)
def test_what_is_no_number_is_never_a_result(
    loaded: engine.Engine, monkeypatch: pytest.MonkeyPatch, place: int, value: float, said: str
) -> None:
    real = loaded._run_network

    def broken(state: engine.State) -> list[np.ndarray]:
        outputs = real(state)
        outputs[place] = np.full_like(outputs[place], value)
        return outputs

    monkeypatch.setattr(loaded, "_run_network", broken)
    with pytest.raises(ModelError, match=said), np.errstate(invalid="ignore"):
        loaded.step(HOPS[0], loaded.initial_state())


class Listener:
    """In place of an engine: notes what it is given."""

    card = STREAMING_CARD

    def __init__(self) -> None:
        self.heard: list[np.ndarray] = []
        self.begins: list[int] = []

    def initial_state(self) -> tuple[int]:
        return (0,)

    def step(self, frames: np.ndarray, state: tuple[int]) -> engine.Step:
        if state == (0,):
            self.begins.append(len(self.heard))
        self.heard.append(frames[:, 0])
        return engine.Step((1.0,), None, (state[0] + 1,))  # type: ignore[arg-type]


def hear(speech: list[int | None], last: int = 24) -> tuple[list[np.ndarray], list[int]]:
    """What a network hears of hops in which frame ``i`` holds ``i``; ``speech`` is :meth:`hear`'s ``speech_from``."""
    listener = Listener()
    network = StreamedNetwork(listener, -1.0, DeciderConfig(change_distance=1.0))  # type: ignore[arg-type]
    window = STREAMING_CARD.window.frames
    for place, speech_from in enumerate(speech):
        new = last if place == len(speech) - 1 else 24
        end = 24 * place + new
        frames = np.arange(end - window, end, dtype=np.float32)[:, None].repeat(24, axis=1)
        answered(network.hear(frames, end, new, speech_from), listener)  # type: ignore[arg-type]
    answered(network.end_utterance(), listener)  # type: ignore[arg-type]
    return listener.heard, listener.begins


def test_the_network_hears_whole_hops_from_before_the_voice_on() -> None:
    heard, begins = hear([None, None, None, 78, 78, 78, None])
    assert begins == [0]
    # 50 frames before frame 78 lie in the hop from 24 on; the last hop brings out what is delayed.
    np.testing.assert_array_equal(np.concatenate(heard[:-1]), np.arange(24, 144))
    assert (heard[-1] == -1.0).all()


def test_nothing_is_heard_twice_or_before_the_stream_began() -> None:
    heard, begins = hear([0, None, 40, None, None])
    assert begins == [0, 2]
    np.testing.assert_array_equal(heard[0], np.arange(24))
    # The hop between was heard as silence by nobody: the second utterance begins behind it.
    np.testing.assert_array_equal(heard[2], np.arange(48, 72))


def test_speech_known_late_is_caught_up_with_as_far_as_the_window_goes() -> None:
    heard, _ = hear([*[None] * 19, 10])
    np.testing.assert_array_equal(np.concatenate(heard[:-1]), np.arange(192, 480))


def test_a_last_part_of_a_hop_is_filled_up_with_silence() -> None:
    heard, _ = hear([0, 0], last=7)
    np.testing.assert_array_equal(heard[1], [*range(24, 31), *[-1.0] * 17])


@pytest.mark.parametrize("size", [1, 8_192, 8_193])
@pytest.mark.parametrize("worst", [0.0, 1e30, -3e38, np.inf, -np.inf, np.nan])
def test_what_is_large_is_finite(size: int, worst: float) -> None:
    """The quick sum of squares overflows before a value does."""
    array = np.ones((1, size), dtype=np.float32)
    array[0, -1] = worst
    assert engine._is_finite(array) == np.isfinite(worst)
