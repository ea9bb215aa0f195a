"""Audio from files and pipes.

Every source is a context manager and an iterable of :class:`~stream_ser.events.Block`, with a ``name``, a
``sample_rate`` and a ``duration_s`` (None where unknown). :func:`resampled` brings any of them to 16 kHz.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator

from stream_ser.audio.decode import AudioFile
from stream_ser.audio.wav import RawFormat
from stream_ser.audio.wav_gaps import Region, read_regions
from stream_ser.config import BLOCK_S, SAMPLE_RATE_HZ
from stream_ser.errors import AudioError
from stream_ser.events import Block
from stream_ser.sources.base import Closing
from stream_ser.sources.block_resampler import GapMarker


class FileSource(Closing):
    """A file, or standard input as ``-``, at 16 kHz. Where a recording knows of gaps, so do its blocks.

    Args:
        path: anything libsndfile reads, or ``-``.
        realtime: pace the blocks by the monotonic clock, as a microphone would deliver them.
        block_samples: samples of a block at ``sample_rate``; by default a microphone's in real time, else a tenth of a
            second's.
        raw: the input has no header and is of this format.
        sample_rate: of the blocks, Hz.
        channel: take this one alone, from 0; the mean of all if None.

    Attributes:
        duration_s: None where unknown (a pipe).
        warning: what was wrong with a file that could be used all the same; filled at its end.

    Raises:
        AudioError: it cannot be opened or is no audio.
    """

    parts = ("",)
    overflows = 0

    def __init__(
        self,
        path: str | os.PathLike[str],
        realtime: bool = False,
        block_samples: int | None = None,
        raw: RawFormat | None = None,
        sample_rate: int = SAMPLE_RATE_HZ,
        channel: int | None = None,
    ) -> None:
        if block_samples is None:
            block_samples = round((BLOCK_S if realtime else 0.1) * sample_rate)
        self.name = os.fspath(path)
        self.sample_rate = sample_rate
        self.realtime = realtime
        self._closed = threading.Event()
        self._gaps: list[Region] = []
        if self.name == "-":
            if sys.stdin is None or sys.stdin.isatty():
                raise AudioError("standard input is a terminal, expected audio piped into it: ... | stream-ser file -")
            self._audio = AudioFile(sys.stdin.buffer, sample_rate, block_samples, raw, "standard input", channel)
        else:
            self._audio = AudioFile(path, sample_rate, block_samples, raw, channel=channel)
            if raw is None and self._audio.duration_s is not None:
                end = round(self._audio.duration_s * self._audio.source_rate)
                # As far as there is audio, whatever a damaged file says.
                self._gaps = [(start, min(length, end - start)) for start, length in read_regions(path) if start < end]
        self.duration_s = self._audio.duration_s

    @property
    def warning(self) -> str | None:
        """What was wrong with a file that could be used all the same."""
        return self._audio.warning

    def __iter__(self) -> Iterator[Block]:
        """Decode it, once.

        Raises:
            AudioError: as :meth:`stream_ser.audio.decode.AudioFile.blocks`.
        """
        start_s = time.monotonic()
        position = 0
        marker = GapMarker(self._audio.source_rate, self.sample_rate)
        for start, length in self._gaps:
            marker.lose(start, length)
        for samples in self._audio.blocks():
            position += len(samples)
            due_s: float | None = None
            if self.realtime:  # due times count from the start, so that lateness does not add up
                due_s = start_s + position / self.sample_rate
                self._closed.wait(max(0.0, due_s - time.monotonic()))
            if self._closed.is_set():
                return
            yield from marker.cut(Block(samples, captured_at=due_s))
            if self._closed.is_set():
                return

    def close(self) -> None:
        """End the iteration and release the file. Standard input stays open."""
        self._closed.set()
        self._audio.close()
