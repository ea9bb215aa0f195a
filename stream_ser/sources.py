"""Where audio comes from, files and pipes, and where a capture is kept. Microphones are next door.

Every source is a context manager and an iterable of :class:`~stream_ser.events.Block`, with a ``name``, a
``sample_rate`` and a ``duration_s`` (None where unknown). :func:`resampled` brings any of them to 16 kHz.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stream_ser.audio import AudioFile, Resampler
from stream_ser.config import BLOCK_S, SAMPLE_RATE_HZ
from stream_ser.errors import AudioError, OutputError
from stream_ser.events import Block
from stream_ser.regions import (
    MAX_REGIONS,
    RESERVED_BYTES,
    RESERVED_REGIONS,
    Region,
    append_regions,
    read_regions,
    reserved,
)
from stream_ser.wav import RawFormat

#: Of samples: the header, and the list of gaps behind them, fit into the rest.
_WAV_LIMIT_BYTES = 2**32 - 2**24
_HEADER, _DATA = struct.Struct("<4sI4s4sIHHIIHH"), struct.Struct("<4sI")
_HEAD_BYTES = _HEADER.size + RESERVED_BYTES + _DATA.size
#: "To the end": what a header says until its recording is complete, and for ever if that was cut short.
_UNKNOWN_BYTES = 0x7FFF_F000


class Source(Protocol):
    """What :func:`resampled` and the pipeline's driver ask of a source."""

    name: str
    sample_rate: int

    def __iter__(self) -> Iterator[Block]:
        """Blocks until the audio ends."""


class Closing:
    """``with source:`` closes it."""

    def close(self) -> None:
        """Release what is open; a second time does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
            AudioError: as :meth:`stream_ser.audio.AudioFile.blocks`.
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


class WavRecorder(Closing):
    """Keeps what was captured as 16-bit PCM WAV, zeros where audio was lost, and where that was (:mod:`.regions`).

    Blocks of a 16-bit source come back bit for bit when the recording is decoded, and losses as gaps.

    Args:
        path: file to write.
        sample_rate: of the blocks, Hz.
        force: overwrite an existing file.
        channels: of the blocks, ``(time,)`` or ``(time, channel)``.

    Attributes:
        samples: written so far, in each channel.

    Raises:
        OutputError: the file exists, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate: int, force: bool = False, channels: int = 1) -> None:
        self.path = Path(path)
        self.samples = 0
        self._channels = channels
        self._gaps: list[Region] = []
        try:
            # Without a buffer: it would be as large as the file system likes it, and lost with a kill.
            self._stream = self.path.open("wb" if force else "xb", buffering=0)
        except FileExistsError:
            raise OutputError(f"{self.path} exists already; choose another name or overwrite it explicitly") from None
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}; choose another place") from error
        self._sample_rate = sample_rate
        self._begun = False

    def _head(self, size: int, gaps: Sequence[Region] = ()) -> bytes:
        rate, channels, frame = self._sample_rate, self._channels, 2 * self._channels
        format_ = 16, 1, channels, rate, frame * rate, frame, 16
        header = _HEADER.pack(b"RIFF", _HEAD_BYTES - 8 + size, b"WAVE", b"fmt ", *format_)
        return header + reserved(gaps) + _DATA.pack(b"data", size)

    def write(self, block: Block) -> None:
        """Append a block, after the zeros for what was lost before it.

        Raises:
            OutputError: the disk is full, or the recording reaches WAV's 4 GiB.
        """
        if not self._begun:
            self._begun = True
            self._put(self._head(_UNKNOWN_BYTES))
        lost = block.lost
        if lost and len(self._gaps) < MAX_REGIONS:
            self._gaps.append((self.samples, lost))
            if len(self._gaps) <= RESERVED_REGIONS and self._stream.seekable():
                self._stream.seek(0)
                self._put(self._head(_UNKNOWN_BYTES, self._gaps))
                self._stream.seek(0, os.SEEK_END)
        while lost > 0:
            zeros = np.zeros((min(lost, SAMPLE_RATE_HZ), self._channels), np.float32)
            self._write(zeros)
            lost -= len(zeros)
        self._write(block.samples)

    def _write(self, samples: NDArray[np.float32]) -> None:
        self.samples += len(samples)
        if 2 * self._channels * self.samples > _WAV_LIMIT_BYTES:
            raise OutputError(f"{self.path} has reached 4 GiB, the most a WAV can hold; record in parts")
        self._put(np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("<i2").tobytes())

    def _put(self, data: bytes) -> None:
        try:
            while data:  # a disk that is nearly full takes a part
                data = data[self._stream.write(data) :]
        except OSError as error:
            raise self._full(error) from error

    def close(self) -> None:
        """Complete the header and close the file.

        Raises:
            OutputError: the disk is full.
        """
        if self._stream.closed:
            return
        try:
            try:
                if self._stream.seekable():
                    # By the file, not by what was meant to be there: the disk may have been full.
                    frame = 2 * self._channels
                    size = max(0, self._stream.seek(0, os.SEEK_END) - _HEAD_BYTES)
                    rest = size % frame
                    self._stream.seek(0)
                    self._put(self._head(size - rest))
                    if rest:
                        self._stream.truncate(_HEAD_BYTES + size - rest)
                    if size and self._gaps:  # a device has neither
                        append_regions(self._stream, self._gaps)
            finally:
                self._stream.close()
        except OSError as error:
            raise self._full(error) from error

    def _full(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self.path}: {error.strerror}; free some space")
