"""The loop that carries blocks from sources to recognisers to sinks."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stream_ser.errors import AudioError, DeviceError, OutputError, StreamSerError
from stream_ser.events import Block, Event, Summary
from stream_ser.sinks import Sink

if TYPE_CHECKING:
    from stream_ser.recognition.recognizer import Recognizer
    from stream_ser.sources.base import Source
    from stream_ser.sources.block_resampler import BlockResampler


@dataclass
class StreamRun:
    """One stream on its way from a source to its results.

    Attributes:
        name: what the sinks are told.
        recognizer: fresh or reset; several may share an engine, for they take turns.
        sinks: opened here and closed here, in order, also when the stream breaks off.
        on_block: called after each block was recognised, with the block at the model's rate.
        summary: filled at the end of the stream.
        resampler: what the blocks come through; filled while the stream is driven.
    """

    name: str
    recognizer: Recognizer
    sinks: Sequence[Sink]
    on_block: Callable[[Block], None] | None = None
    summary: Summary | None = None
    resampler: BlockResampler | None = None

    @property
    def needs_s(self) -> float:
        """Seconds of audio without which nothing can come of what is captured next."""
        return self.recognizer.needs_s - (self.resampler.held_s if self.resampler else 0.0)

    def take(self, blocks: Iterable[Block]) -> None:
        """Recognise blocks at the model's rate."""
        for block in blocks:
            self._emit(self.recognizer.push_block(block))
            if self.on_block is not None:
                self.on_block(block)

    def finish(self) -> None:
        """No more blocks follow.

        Raises:
            AudioError: there were too few.
        """
        self._emit(self.recognizer.flush())
        self.summary = self.recognizer.summary()

    def _emit(self, events: Sequence[Event]) -> None:
        for event in events:
            for sink in self.sinks:
                sink.write(event)


def drive(
    source: Source,
    recognizer: Recognizer,
    sinks: Sequence[Sink],
    *,
    name: str | None = None,
    on_block: Callable[[Block], None] | None = None,
) -> Summary:
    """Push a source of one stream through a recogniser into sinks until the source ends; see :class:`StreamRun`.

    Raises:
        StreamSerError: what the source or the recogniser raise.
    """
    lane = StreamRun(name or source.name, recognizer, sinks, on_block)
    drive_all(((0, block) for block in source), [(source.sample_rate, [lane])])
    assert lane.summary is not None
    return lane.summary


def drive_all(
    captured: Generator[tuple[int, Block], None, None],
    lanes: Sequence[tuple[int, Sequence[StreamRun]]],
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Push sources through recognisers into sinks until they end, all in this thread.

    Args:
        captured: number of the source and block, as ``streams.MergedSources`` gives them; closed here.
        lanes: of each source, its rate in Hz and its streams, as ``streams.split`` gives them.
        should_stop: asked after every block.

    Raises:
        StreamSerError: what a source or a recogniser raise. The streams that can be finished are finished before.
    """
    from stream_ser.sources.block_resampler import BlockResampler
    from stream_ser.sources.parts import split

    every = [lane for _, streams in lanes for lane in streams]
    resamplers = [
        [BlockResampler(rate, lane.recognizer.card.features.sample_rate) for lane in streams] for rate, streams in lanes
    ]
    for lane, resampler in zip(every, itertools.chain.from_iterable(resamplers), strict=True):
        lane.resampler = resampler
    opened: list[tuple[Sink, StreamRun]] = []
    failure: StreamSerError | None = None
    try:
        for lane in every:
            info = lane.recognizer.info(lane.name)
            for sink in lane.sinks:
                opened.append((sink, lane))
                sink.open(info)
        try:
            with contextlib.closing(captured):
                for index, block in captured:
                    for lane, resampler, part in zip(lanes[index][1], resamplers[index], split(block), strict=True):
                        lane.take(resampler.push(part))
                    if should_stop():
                        break
        except (DeviceError, OutputError) as error:
            # The microphone was unplugged, or the disk for the recording is full: the rest still counts.
            failure = error
        for lane, resampler in zip(every, itertools.chain.from_iterable(resamplers), strict=True):
            try:
                lane.take(resampler.flush())
                lane.finish()
            except AudioError as error:
                failure = failure or error
        if failure is not None:
            raise failure
    finally:
        for sink, lane in opened:
            sink.close(lane.summary)
