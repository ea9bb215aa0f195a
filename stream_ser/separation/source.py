"""A source whose voices are separated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stream_ser.events import Block
from stream_ser.separation.separator import Separator, SeparatorStream
from stream_ser.sources.base import Source
from stream_ser.sources.block_resampler import BlockResampler, GapMarker
from stream_ser.sources.parts import split


class SeparatedSource:
    """What a separator makes of a source: a source of more streams, in step with it.

    Losses, notices and times of capture stay where they were. Of several streams the blocks are ``(time, stream)``, as
    :mod:`stream_ser.sources.merge` takes them apart; of a source of several, each is separated on its own.

    Args:
        source: opened.
        separator: shared by all streams.
        sample_rate: Hz, of the blocks.
        index: give this one alone of what each stream becomes, from 0.

    Attributes:
        name: of the source.
        sample_rate: Hz.
        parts: what tells the streams apart.
    """

    def __init__(self, source: Source, separator: Separator, sample_rate: int, index: int | None = None) -> None:
        self.name = source.name
        self.sample_rate = sample_rate
        count = 1 if index is not None else len(separator.card.sources)
        own = [f"#{number}" for number in range(1, count + 1)] if count > 1 else [""]
        self.parts = tuple(part + behind for part in source.parts for behind in own)
        self._source, self._index = source, index
        self._streams = [SeparatorStream(separator, sample_rate) for _ in source.parts]

    @property
    def overflows(self) -> int:
        """How often the device reported that audio was lost."""
        return self._source.overflows

    @property
    def warning(self) -> str | None:
        """What was wrong with the source."""
        return self._source.warning

    def close(self) -> None:
        """Make the iteration end, once what was captured is through."""
        self._source.close()

    def __iter__(self) -> Iterator[Block]:
        """Blocks until the source ends.

        Raises:
            ModelError: see :meth:`Separator.separate`.
        """
        rate = self.sample_rate
        marker = GapMarker(rate, rate)
        taken = given = 0
        last_captured_at: float | None = None

        def emit(ready: list[NDArray[np.float32]], captured_at: float | None, behind: bool) -> Iterator[Block]:
            nonlocal given
            samples = self._joined(ready)
            given += len(samples)
            if captured_at is not None:
                captured_at -= (taken - given) / rate
            return marker.cut(Block(samples, captured_at, behind=behind))

        for sides in self._resampled():
            block = sides[0]
            if block.notices:
                yield Block(self._joined([np.zeros((self._made, 0), np.float32)] * len(sides)), notices=block.notices)
            if block.gap:
                marker.lose(taken, block.gap)
            taken += len(block.samples)
            if len(block.samples):
                last_captured_at = block.captured_at
            pushed = [stream.push(side.samples) for stream, side in zip(self._streams, sides, strict=True)]
            yield from emit(pushed, block.captured_at, block.behind)
        yield from emit([stream.flush() for stream in self._streams], last_captured_at, behind=False)

    @property
    def _made(self) -> int:
        return len(self._streams[0].sources)

    def _joined(self, ready: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """What each stream became, ``(sources, time)``, as the samples of a block."""
        chosen = ready if self._index is None else [sources[self._index : self._index + 1] for sources in ready]
        rows = np.concatenate(chosen)
        return rows[0] if len(rows) == 1 else np.ascontiguousarray(rows.T)

    def _resampled(self) -> Iterator[tuple[Block, ...]]:
        """The source's streams side by side, at the rate of the blocks and without holes."""
        resamplers = [BlockResampler(self._source.sample_rate, self.sample_rate) for _ in self._streams]
        for block in self._source:
            sides = [resampler.push(side) for resampler, side in zip(resamplers, split(block), strict=True)]
            yield from zip(*sides, strict=True)
        yield from zip(*(resampler.flush() for resampler in resamplers), strict=True)
