"""PCM samples, and the WAV header before them, read without seeking.

Parsed here rather than by libsndfile, so that WAV can stream from a pipe and a truncated file is noticed.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import SAMPLE_RATE_HZ
from stream_ser.errors import AudioError

Samples = NDArray[np.float32]

#: Rates outside are taken for a damaged header.
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
#: libsndfile's limit.
MAX_CHANNELS = 1_024
#: Writing WAV into a pipe, programs announce 0, 0xFFFFFFFF (ffmpeg), 0x80000000 (arecord), 0x7FFFF000 (sox).
UNKNOWN_SIZE_BYTES = 0x7FFF_0000
#: Sizes this far above 2 GiB, or below 4 GiB, are taken for such a stand-in as well, in a file that is shorter.
_STAND_IN_MARGIN_BYTES = 0x1_0000
#: What may precede the samples in a pipe: it is kept, for libsndfile might need it.
HEADER_LIMIT_BYTES = 16 * 1024**2
_COPY_BYTES = 1 << 16

_BYTES_PER_SAMPLE = {"u8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4, "f64le": 8, "mulaw": 1, "alaw": 1}
_WAV_ENCODINGS = {
    (1, 8): "u8",
    (1, 16): "s16le",
    (1, 24): "s24le",
    (1, 32): "s32le",
    (3, 32): "f32le",
    (3, 64): "f64le",
}


@dataclass(frozen=True, slots=True)
class RawFormat:
    """Samples without a header.

    Attributes:
        sample_rate: Hz.
        channels: interleaved channels.
        encoding: ``u8``, ``s16le``, ``s24le``, ``s32le``, ``f32le``, ``f64le``, ``mulaw`` or ``alaw``, as ffmpeg names
            them.
    """

    sample_rate: int = SAMPLE_RATE_HZ
    channels: int = 1
    encoding: str = "s16le"

    def __post_init__(self) -> None:
        if self.encoding not in _BYTES_PER_SAMPLE:
            raise AudioError(f"unknown encoding {self.encoding!r}; expected one of {', '.join(_BYTES_PER_SAMPLE)}")
        if not MIN_RATE_HZ <= self.sample_rate <= MAX_RATE_HZ:
            raise AudioError(f"a sample rate of {self.sample_rate} Hz; expected {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise AudioError(f"{self.channels} channels; expected 1 to {MAX_CHANNELS}")

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample in every channel."""
        return self.channels * _BYTES_PER_SAMPLE[self.encoding]

    def decode(self, data: bytes) -> Samples:
        """Whole frames of bytes to ``(time, channel)`` float32, full scale at 1.0."""
        if self.encoding == "u8":
            flat = (np.frombuffer(data, np.uint8).astype(np.float32) - 128.0) / 128.0
        elif self.encoding == "s16le":
            flat = np.frombuffer(data, "<i2").astype(np.float32) / 32768.0
        elif self.encoding == "s24le":
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            flat = wide.view("<i4")[:, 0].astype(np.float32) / 2.0**31
        elif self.encoding in ("mulaw", "alaw"):
            flat = (_mulaw_table() if self.encoding == "mulaw" else _alaw_table())[np.frombuffer(data, np.uint8)]
        elif self.encoding == "s32le":
            flat = np.frombuffer(data, "<i4").astype(np.float32) / 2.0**31
        else:
            # What float32 cannot hold becomes infinite and is refused later, as is NaN of whatever kind.
            with np.errstate(over="ignore", invalid="ignore"):
                flat = np.frombuffer(data, "<f4" if self.encoding == "f32le" else "<f8").astype(np.float32)
        return cast(Samples, flat.astype(np.float32, copy=False).reshape(-1, self.channels))


@cache
def _mulaw_table() -> Samples:
    """What each byte of mu-law stands for, ``(256,)``. Reference: ITU-T G.711, table 2, as 16-bit numbers."""
    code = ~np.arange(256, dtype=np.uint8)
    size = ((((code & 15).astype(np.int32) << 3) + 132) << (code >> 4 & 7)) - 132
    return cast(Samples, np.where(code & 128, -size, size).astype(np.float32) / np.float32(32768.0))


@cache
def _alaw_table() -> Samples:
    """What each byte of A-law stands for, ``(256,)``. Reference: ITU-T G.711, table 1, as 16-bit numbers."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    segment = (code >> 4 & 7).astype(np.int32)
    size = ((code & 15).astype(np.int32) << 4) + np.where(segment > 0, 264, 8) << np.maximum(segment - 1, 0)
    return cast(Samples, np.where(code & 128, size, -size).astype(np.float32) / np.float32(32768.0))


def seconds(frames: int, sample_rate: int) -> str:
    """For messages."""
    return f"{frames / sample_rate:.2f} s"


def read_fully(stream: BinaryIO, size: int) -> bytes:
    """``size`` bytes, fewer only at the end: a pipe may hand out less than was asked for."""
    parts: list[bytes] = []
    while size > 0 and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class PcmReader:
    """Decodes PCM samples up to the announced length, or to the end.

    Args:
        stream: at the first sample.
        pcm: how the samples are laid out.
        data_bytes: length as announced by a header, None where nobody knows.

    Attributes:
        frames: what can be read; of a pipe what is announced, None where nobody knows.
        warning: filled once the stream ended early.
    """

    def __init__(self, stream: BinaryIO, pcm: RawFormat, data_bytes: int | None) -> None:
        self.sample_rate, self.channels = pcm.sample_rate, pcm.channels
        self.warning: str | None = None
        self._stream, self._pcm = stream, pcm
        self._announced = None if data_bytes is None else data_bytes // pcm.frame_bytes
        self._read_frames = 0
        self.frames = self._announced
        if stream.seekable():
            here = stream.tell()
            available = (stream.seek(0, os.SEEK_END) - here) // pcm.frame_bytes
            stream.seek(here)
            self.frames = available if self._announced is None else min(available, self._announced)

    def read(self, frames: int) -> Samples:
        """At most ``frames`` frames, ``(time, channel)``; none at the end."""
        if self._announced is not None:
            frames = min(frames, self._announced - self._read_frames)
        data = read_fully(self._stream, frames * self._pcm.frame_bytes)
        got = len(data) // self._pcm.frame_bytes
        self._read_frames += got
        if got < frames and self._announced is not None:
            self.warning = (
                f"truncated: header announces {seconds(self._announced, self.sample_rate)}, "
                f"{seconds(self._read_frames, self.sample_rate)} could be read"
            )
        return self._pcm.decode(data[: got * self._pcm.frame_bytes])


def parse_wav(stream: BinaryIO, head: bytes, name: str) -> tuple[PcmReader | None, bytes]:
    """Read a RIFF header whose first 12 bytes are ``head``, up to the data.

    Returns:
        The reader, or None when the encoding is one for libsndfile (mu-law, ADPCM), and the bytes consumed of a
        stream that cannot seek back to them.

    Raises:
        AudioError: the stream ends inside the header, or the header is senseless, or too long for a pipe.
    """
    seekable = stream.seekable()
    consumed = bytearray(head)
    position = len(head)

    def take(size: int) -> bytes:
        nonlocal position
        data = read_fully(stream, size)
        position += len(data)
        if not seekable:
            consumed.extend(data)
            if len(consumed) > HEADER_LIMIT_BYTES:
                raise AudioError(
                    f"{name}: more than {HEADER_LIMIT_BYTES // 1024**2} MiB before the samples of a piped WAV, "
                    "expected a header; give the file itself, or convert it with ffmpeg -i INPUT -f wav -"
                )
        if len(data) < size:
            raise AudioError(
                f"{name}: the WAV ends inside its header, after {position} bytes, expected audio "
                f"after it; copy it again"
            )
        return data

    riff_bytes = struct.unpack("<I", head[4:8])[0]
    pcm: RawFormat | None = None
    while True:
        chunk_id, size = struct.unpack("<4sI", take(8))
        if chunk_id == b"data":
            break
        padded = size + size % 2
        if chunk_id != b"fmt ":
            for start in range(0, padded, _COPY_BYTES):
                take(min(_COPY_BYTES, padded - start))
            continue
        if not 16 <= size <= 4096:
            raise AudioError(f"{name}: a WAV format chunk of {size} bytes, expected 16 to 40; the file is damaged")
        fmt = take(padded)
        tag, channels, rate, _, frame_bytes, bits = struct.unpack("<HHIIHH", fmt[:16])
        if tag == 0xFFFE and size >= 26:  # WAVE_FORMAT_EXTENSIBLE: the real tag begins the sub-format's GUID
            tag = struct.unpack("<H", fmt[24:26])[0]
        if not 1 <= channels <= MAX_CHANNELS or not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
            raise AudioError(
                f"{name}: the WAV header says {channels} channels at {rate} Hz, expected 1 to {MAX_CHANNELS} at "
                f"{MIN_RATE_HZ} to {MAX_RATE_HZ} Hz; the file is damaged"
            )
        encoding = _WAV_ENCODINGS.get((tag, bits))
        if encoding is None or channels * _BYTES_PER_SAMPLE[encoding] != frame_bytes:
            return None, bytes(consumed)
        pcm = RawFormat(rate, channels, encoding)
    if pcm is None:
        raise AudioError(f"{name}: a WAV without a format chunk before its data; the file is damaged")
    if size == 0:
        # Written into a pipe this means unknown - unless the RIFF size says that more chunks follow.
        unknown = riff_bytes + 8 <= position or riff_bytes >= UNKNOWN_SIZE_BYTES
    elif seekable:
        here = stream.tell()
        available = stream.seek(0, os.SEEK_END) - here
        stream.seek(here)
        unknown = available < size and _is_stand_in(size)
    else:
        unknown = _is_stand_in(size)
    return PcmReader(stream, pcm, None if unknown else size), bytes(consumed)


def _is_stand_in(size: int) -> bool:
    """Whether an announced size looks like what programs write when they cannot know it."""
    return UNKNOWN_SIZE_BYTES <= size < 2**31 + _STAND_IN_MARGIN_BYTES or size >= 2**32 - _STAND_IN_MARGIN_BYTES
