"""From a source's samples to decisions: how they are cut into blocks, and where counting begins, changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from generate import voice
from hypothesis import given, settings
from hypothesis import strategies as st
from streamed import LOSSES, RATE, SIZES, Cut, run, with_losses

from stream_ser.events import Block, Decision, Event, Gap, Notice, Prediction, Provisional
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime import engine


def speech_at(rate: int, seconds: float, seed: int = 0) -> np.ndarray:
    samples = voice(seconds, seed)
    at = np.linspace(0, len(samples) - 1, round(seconds * rate))
    return np.interp(at, np.arange(len(samples)), samples).astype(np.float32)


@pytest.fixture(scope="module")
def tiny(tiny_model: object) -> Recognizer:
    return Recognizer(engine.load(tiny_model, "cpu"))  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(
    rate=st.sampled_from([8_000, 11_025, RATE, 22_050, 44_100, 48_000]),
    seconds=st.floats(0.5, 4.0),
    losses=LOSSES,
    sizes=SIZES,
)
def test_blocks_of_any_size_at_any_rate_give_the_same_events(tiny, rate, seconds, losses, sizes) -> None:
    stretches = with_losses(speech_at(rate, seconds), losses)
    whole = run(tiny, Cut(stretches, [10**6], rate))
    summary = tiny.summary()
    assert run(tiny, Cut(stretches, sizes, rate)) == whole
    assert tiny.summary() == summary
    gaps = [event for event in whole if isinstance(event, Gap)]
    assert summary.lost == sum(gap.length for gap in gaps)
    taken = sum(lost + len(part) for lost, part in stretches)
    assert abs(summary.samples - taken * RATE / rate) <= 1


@pytest.mark.parametrize("path", engine.bundled(), ids=lambda path: path.stem)
def test_every_bundled_model_hears_the_same_in_any_blocks(path) -> None:
    recognizer = Recognizer(engine.load(path, "cpu"))
    stretches = with_losses(speech_at(44_100, 2.0), [(0.6, 4_411)])
    whole = run(recognizer, Cut(stretches, [10**6], 44_100))
    assert sum(bool(event.probabilities) for event in whole if isinstance(event, Prediction)) >= 2

    @settings(max_examples=4, deadline=None)
    @given(sizes=SIZES)
    def same(sizes: list[int]) -> None:
        assert run(recognizer, Cut(stretches, sizes, 44_100)) == whole

    same()


def shifted(event: Event, by: int) -> Event:
    if isinstance(event, Notice):
        return replace(event, at=event.at + by)
    if isinstance(event, Gap):
        return replace(event, start=event.start + by)
    event = replace(event, start=event.start + by, end=event.end + by)
    if isinstance(event, Prediction) and event.voice is not None:
        event = replace(event, voice=tuple(at + by for at in event.voice))
    return event


@settings(max_examples=12, deadline=None)
@given(
    near=st.sampled_from([0, 2**31, 2**32, 2**40]),
    before=st.integers(-20_000, 60_000),
    sizes=st.lists(st.integers(50, 30_000), min_size=1, max_size=4),
)
def test_counting_from_anywhere_shifts_the_events_and_nothing_else(tiny, near, before, sizes) -> None:
    """The counters pass 2**31 and 2**32 samples in the middle of the clip: 37 and 75 hours at 16 kHz."""
    start = max(0, near - before)
    pause = np.zeros(24_000, np.float32)
    stretches = [(0, speech_at(RATE, 1.5)), (777, np.concatenate([speech_at(RATE, 1.5, 1), pause]))]
    expected = run(tiny, Cut(stretches, [10**6], RATE))
    summary = tiny.summary()
    found = run(tiny, Cut(stretches, sizes, RATE), start)
    assert found == [shifted(event, start) for event in expected]
    assert tiny.summary() == summary
    assert {type(event) for event in found} == {Prediction, Provisional, Decision, Gap}
    tiny.reset()


def test_counting_begins_at_no_negative_sample(tiny) -> None:
    with pytest.raises(ValueError, match="start is -1"):
        tiny.reset(-1)


@settings(max_examples=10, deadline=None)
@given(hurried=st.lists(st.booleans(), min_size=1, max_size=12))
def test_predictions_that_are_left_out_change_no_others(tiny, hurried) -> None:
    # Where changes are looked for, a window that is left out is one place less that may be a change.
    tiny = Recognizer(tiny.engine, replace(tiny.card.decider, change_distance=1.0))
    parts = np.array_split(speech_at(RATE, 3.0), 24)
    blocks = [Block(part, behind=hurried[k % len(hurried)]) for k, part in enumerate(parts)]

    def push(blocks: list[Block]) -> tuple[list[Prediction], int]:
        tiny.reset()
        events = [event for block in blocks for event in tiny.push_block(block)] + tiny.flush()
        assert isinstance(events[-1], Decision)
        return [event for event in events if isinstance(event, Prediction)], tiny.summary().skipped

    every, none_skipped = push([replace(block, behind=False) for block in blocks])
    kept, skipped = push(blocks)
    assert push(blocks) == (kept, skipped)
    assert none_skipped == 0
    assert len(kept) + skipped - len(every) in (0, 1)  # the last window is always looked at
    by_end = {prediction.end: prediction for prediction in every}
    assert all(by_end[prediction.end] == prediction for prediction in kept)
    assert kept[-1].end == every[-1].end
