"""Writes what was heard as a WAV file."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_ser.audio.wav_gaps import MAX_REGIONS, RESERVED_BYTES, RESERVED_REGIONS, Region, append_regions, reserved
from stream_ser.config import SAMPLE_RATE_HZ
from stream_ser.errors import OutputError
from stream_ser.events import Block
from stream_ser.sources.base import Closing

#: Of samples: the header, and the list of gaps behind them, fit into the rest.
_WAV_LIMIT_BYTES = 2**32 - 2**24
_HEADER, _DATA = struct.Struct("<4sI4s4sIHHIIHH"), struct.Struct("<4sI")
_HEAD_BYTES = _HEADER.size + RESERVED_BYTES + _DATA.size
#: "To the end": what a header says until its recording is complete, and for ever if that was cut short.
_UNKNOWN_BYTES = 0x7FFF_F000


class WavRecorder(Closing):
    """Keeps what was captured as 16-bit PCM WAV, with zeros where audio was lost.

    Where that was stands in the file, too (:mod:`stream_ser.audio.wav_gaps`). Blocks of a 16-bit source come back bit
    for bit when the recording is decoded, and losses as gaps.

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
