"""Blocks of one sample rate from blocks of another, with their gaps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stream_ser.audio.resample import Resampler
from stream_ser.config import SAMPLE_RATE_HZ
from stream_ser.events import Block
from stream_ser.sources.base import Source


class GapMarker:
    """Tells where losses that were counted at one rate lie in samples at another, and cuts blocks there.

    Starts and the sum of all lengths are exact and rounded once, so nothing drifts however many losses there are: one
    that is too short to make a sample adds to the next.

    Args:
        input_rate: at which losses are counted, Hz.
        output_rate: of the blocks, Hz.
    """

    def __init__(self, input_rate: int, output_rate: int) -> None:
        self._rates = input_rate, output_rate
        self._lost = self._told = self._given = 0
        self._ahead: deque[tuple[int, int]] = deque()

    def lose(self, start: int, length: int) -> None:
        """Note a loss; it lies behind all the samples that were cut so far, and behind the loss before."""
        self._lost += length
        told, self._told = self._told, self._scaled(self._lost)
        if self._told > told:
            self._ahead.append((self._scaled(start), self._told - told))

    def cut(self, block: Block) -> Iterator[Block]:
        """A block as parts, one of which begins at each loss."""
        samples, rate = block.samples, self._rates[1]
        if not len(samples):
            return
        first = gap = 0
        while self._ahead and self._ahead[0][0] - self._given < len(samples):
            start, length = self._ahead.popleft()
            cut = max(start - self._given, first)
            if cut > first:
                behind_s = (len(samples) - cut) / rate
                at = None if block.captured_at is None else block.captured_at - behind_s
                yield Block(samples[first:cut], at, gap=gap, behind=block.behind)
                first, gap = cut, 0
            gap += length
        self._given += len(samples)
        yield replace(block, samples=samples[first:], lost=0, gap=gap)

    def _scaled(self, samples: int) -> int:
        input_rate, output_rate = self._rates
        return (2 * samples * output_rate + input_rate) // (2 * input_rate)


class BlockResampler:
    """Brings the blocks of one stream to another rate, without holes: what was lost goes through the filter as zeros.

    So a live stream and its recording, which holds zeros there too, give the same samples. Where a loss begins a block
    begins, and its ``gap`` says how long the loss is. Notices come at once, in a block of their own.

    Args:
        input_rate: of the blocks that come, Hz.
        output_rate: of those that go, Hz.
    """

    def __init__(self, input_rate: int, output_rate: int = SAMPLE_RATE_HZ) -> None:
        self._rates = input_rate, output_rate
        self._resampler = Resampler(input_rate, output_rate)
        self._marker = GapMarker(input_rate, output_rate)
        self._taken = self._given = 0
        self._last_captured_at: float | None = None

    @property
    def held_s(self) -> float:
        """Seconds of audio that were taken and are still in the filter."""
        return self._taken / self._rates[0] - self._given / self._rates[1]

    def push(self, block: Block) -> Iterator[Block]:
        """Take a block, ``(time,)``; to be iterated to its end before the next one comes."""
        input_rate = self._rates[0]
        if block.notices:
            yield Block(np.zeros(0, np.float32), notices=block.notices)
        if block.lost:
            self._marker.lose(self._taken, block.lost)
            self._taken += block.lost
            second = np.zeros(input_rate, np.float32)
            for first in range(0, block.lost, input_rate):
                yield from self._emit(self._resampler.push(second[: block.lost - first]), None, block.behind)
        if block.gap:  # what stands for it is in the samples: a recording
            self._marker.lose(self._taken, block.gap)
        self._taken += len(block.samples)
        if len(block.samples):
            self._last_captured_at = block.captured_at
        yield from self._emit(self._resampler.push(block.samples), block.captured_at, block.behind)

    def flush(self) -> Iterator[Block]:
        """What the filter still holds back."""
        yield from self._emit(self._resampler.flush(), self._last_captured_at)

    def _emit(self, samples: NDArray[np.float32], captured_at: float | None, behind: bool = False) -> Iterator[Block]:
        input_rate, output_rate = self._rates
        self._given += len(samples)
        if captured_at is not None:  # the filter still holds back the newest samples
            captured_at -= max(0.0, self._taken / input_rate - self._given / output_rate)
        return self._marker.cut(Block(samples, captured_at, behind=behind))


def resampled(
    source: Source, sample_rate: int = SAMPLE_RATE_HZ, resampler: BlockResampler | None = None
) -> Iterator[Block]:
    """The blocks of a source of one stream at another rate, through a resampler of its own or a fresh one."""
    resampler = resampler or BlockResampler(source.sample_rate, sample_rate)
    for block in source:
        yield from resampler.push(block)
    yield from resampler.flush()
