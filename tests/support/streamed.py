"""Runs of a streaming network in pieces of any size, with losses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st

from stream_ser.events import Block, Event
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.sources.block_resampler import resampled

RATE = 16_000
#: Any block size, from one sample to the whole clip.
SIZES = st.lists(st.one_of(st.integers(1, 40), st.integers(100, 5_000), st.integers(10_000, 10**6)), min_size=1)


class Cut:
    """A source that gives ``(lost, samples)`` stretches in blocks of the given sizes, over and over."""

    name = "cut"

    def __init__(self, stretches: list[tuple[int, np.ndarray]], sizes: list[int], sample_rate: int) -> None:
        self.stretches, self.sizes, self.sample_rate = stretches, sizes, sample_rate

    def __iter__(self) -> Iterator[Block]:
        turn = 0
        for lost, samples in self.stretches:
            at = 0
            while at < len(samples) or (at == 0 and lost):
                # Sample by sample takes long: after a while of it the rest comes at once.
                size = self.sizes[turn % len(self.sizes)] if turn < 400 else 10**6
                yield Block(samples[at : at + size], lost=lost if at == 0 else 0)
                at, turn = at + max(size, 1), turn + 1


def run(recognizer: Recognizer, source: Cut, start: int = 0) -> list[Event]:
    recognizer.reset(start)
    events = [event for block in resampled(source, RATE) for event in recognizer.push_block(block)]
    return events + recognizer.flush()


def with_losses(samples: np.ndarray, losses: list[tuple[float, int]]) -> list[tuple[int, np.ndarray]]:
    cuts = sorted({round(place * len(samples)) for place, _ in losses})
    lengths = [0] + [lost for _, lost in losses[: len(cuts)]]
    return list(zip(lengths, np.split(samples, cuts), strict=True))


LOSSES = st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, 30_000)), max_size=3)
