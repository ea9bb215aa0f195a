"""Decode audio to mono float32 in blocks, and resample it as a stream.

Invariants: memory does not grow with the length of the input; a 16-bit PCM sample ``k`` becomes exactly
``k / 32768``; no NaN or infinite sample gets past :class:`AudioFile`; resampled output does not depend on how
the input was split.

PCM and float WAV is parsed here, so that it can stream from a pipe and a truncated file is noticed; all else
is libsndfile's, which needs to seek and gets piped input through a temporary file.
"""

from __future__ import annotations

import os
import re
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, cast

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from stream_ser.config import SAMPLE_RATE_HZ
from stream_ser.errors import AudioError

Samples = NDArray[np.float32]

#: Rates outside are taken for a damaged header.
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
#: What a pipe that is not PCM WAV may fill of the temporary folder.
SPOOL_LIMIT_BYTES = 2 * 1024**3
#: Writing WAV into a pipe, programs announce 0, 0xFFFFFFFF (ffmpeg), 0x80000000 (arecord), 0x7FFFF000 (sox).
_UNKNOWN_SIZE_BYTES = 0x7FFF_0000
_COPY_BYTES = 1 << 16

_BYTES_PER_SAMPLE = {"u8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4, "f64le": 8}
_WAV_ENCODINGS = {
    (1, 8): "u8",
    (1, 16): "s16le",
    (1, 24): "s24le",
    (1, 32): "s32le",
    (3, 32): "f32le",
    (3, 64): "f64le",
}


class Resampler:
    """Streaming sample rate conversion (soxr, HQ); every split of the input gives the same output.

    After :meth:`flush`, ``n`` input samples have given ``n * output_rate / input_rate`` samples, rounded to a
    neighbouring integer. Equal rates pass the samples through untouched.

    Args:
        input_rate: Hz.
        output_rate: Hz.
    """

    def __init__(self, input_rate: int, output_rate: int = SAMPLE_RATE_HZ) -> None:
        if input_rate < 1 or output_rate < 1:
            raise ValueError(f"rates must be positive, got {input_rate} and {output_rate} Hz")
        self.input_rate = input_rate
        self.output_rate = output_rate
        self.reset()

    def reset(self) -> None:
        """Forget everything that was pushed."""
        # A new stream: after soxr's own clear() the length of the next output could differ by a sample.
        self._stream: soxr.ResampleStream | None = None
        if self.input_rate != self.output_rate:
            self._stream = soxr.ResampleStream(self.input_rate, self.output_rate, 1, "float32", "HQ")

    def push(self, block: Samples) -> Samples:
        """Take ``(time,)`` samples and return those that are ready, ``(time,)``; at first often none."""
        if self._stream is None:
            return block
        return cast(Samples, self._stream.resample_chunk(np.ascontiguousarray(block, np.float32)))

    def flush(self) -> Samples:
        """Return the rest, ``(time,)``, as if silence followed, and start anew."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        rest = cast(Samples, self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        self.reset()
        return rest


@dataclass(frozen=True, slots=True)
class RawFormat:
    """Samples without a header.

    Attributes:
        sample_rate: Hz.
        channels: interleaved channels.
        encoding: ``u8``, ``s16le``, ``s24le``, ``s32le``, ``f32le`` or ``f64le``, as ffmpeg names them.
    """

    sample_rate: int = SAMPLE_RATE_HZ
    channels: int = 1
    encoding: str = "s16le"

    def __post_init__(self) -> None:
        if self.encoding not in _BYTES_PER_SAMPLE:
            raise AudioError(f"unknown encoding {self.encoding!r}; expected one of {', '.join(_BYTES_PER_SAMPLE)}")
        if not MIN_RATE_HZ <= self.sample_rate <= MAX_RATE_HZ:
            raise AudioError(f"a sample rate of {self.sample_rate} Hz; expected {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
        if self.channels < 1:
            raise AudioError(f"{self.channels} channels; expected at least one")

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
        elif self.encoding == "s32le":
            flat = np.frombuffer(data, "<i4").astype(np.float32) / 2.0**31
        else:
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused later
                flat = np.frombuffer(data, "<f4" if self.encoding == "f32le" else "<f8").astype(np.float32)
        return cast(Samples, flat.astype(np.float32, copy=False).reshape(-1, self.channels))


class _Reader(Protocol):
    """Decoder of one stream. ``frames`` is what can be read, None where nobody knows."""

    sample_rate: int
    channels: int
    frames: int | None
    warning: str | None

    def read(self, frames: int) -> Samples: ...


def _seconds(frames: int, sample_rate: int) -> str:
    return f"{frames / sample_rate:.2f} s"


def _read_fully(stream: BinaryIO, size: int) -> bytes:
    """``size`` bytes, fewer only at the end: a pipe may hand out less than was asked for."""
    parts: list[bytes] = []
    while size > 0 and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class _PcmReader:
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
        if self._announced is not None:
            frames = min(frames, self._announced - self._read_frames)
        data = _read_fully(self._stream, frames * self._pcm.frame_bytes)
        got = len(data) // self._pcm.frame_bytes
        self._read_frames += got
        if got < frames and self._announced is not None:
            self.warning = (
                f"truncated: header announces {_seconds(self._announced, self.sample_rate)}, "
                f"{_seconds(self._read_frames, self.sample_rate)} could be read"
            )
        return self._pcm.decode(data[: got * self._pcm.frame_bytes])


class _SequentialSoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """soundfile seeks to where it is after every read, which breaks MP3's bit reservoir. Not here."""

    def seekable(self) -> bool:
        return False


class _SndfileReader:
    def __init__(self, stream: BinaryIO, name: str) -> None:
        try:
            self._file = _SequentialSoundFile(stream)
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{name}: no audio that can be decoded ({error.error_string.strip() or 'damaged header'}); "
                f"expected WAV, FLAC, OGG or MP3: convert it, for example with ffmpeg -i INPUT output.wav"
            ) from error
        self.sample_rate, self.channels = int(self._file.samplerate), int(self._file.channels)
        self.frames: int | None = int(self._file.frames) if 0 < self._file.frames < 2**62 else None
        self.warning: str | None = None
        self._read_frames = 0
        self._failed = False

    def read(self, frames: int) -> Samples:
        if self._failed:
            return np.zeros((0, self.channels), np.float32)
        # NaN marks what was not decoded: when libsndfile fails, soundfile does not tell how far it got.
        out = np.full((frames, self.channels), np.nan, np.float32)
        try:
            samples = cast(Samples, self._file.read(out=out))
        except soundfile.LibsndfileError as error:
            self._failed = True
            missing = np.isnan(out).any(axis=1)
            samples = out[: int(missing.argmax()) if missing.any() else frames]
            self._read_frames += len(samples)
            self.warning = self._shortage(f"decoding failed ({error.error_string.strip() or 'damaged data'})")
            return samples
        self._read_frames += len(samples)
        if not len(samples):
            self._check_end()
        return samples

    def _shortage(self, what: str) -> str:
        announced = "" if self.frames is None else f"header announces {_seconds(self.frames, self.sample_rate)}, "
        return f"{what}: {announced}{_seconds(self._read_frames, self.sample_rate)} could be read"

    def _check_end(self) -> None:
        # MP3 pads to whole MPEG frames, of up to 1152 samples, and its header may count them either way.
        slack = 2 * 1152 if self._file.format in {"MP3", "MPEG"} else 0
        if self.frames is not None and self._read_frames < self.frames - slack:
            self.warning = self._shortage("truncated")
            return
        # AIFF, AU and W64: libsndfile mends the length silently and says so in its log only.
        for announced, real in re.findall(r": (\d+) \(should be (\d+)\)", self._file.extra_info):
            if int(announced) > int(real) + 1 and int(announced) < _UNKNOWN_SIZE_BYTES:
                self.warning = f"truncated: header announces {announced} bytes, the file has {real}"
                return


def _parse_wav(stream: BinaryIO, head: bytes, name: str) -> tuple[_PcmReader | None, bytes]:
    """Read a RIFF header whose first 12 bytes are ``head``, up to the data.

    Returns:
        The reader, or None when the encoding is one for libsndfile (mu-law, ADPCM), and the bytes consumed.

    Raises:
        AudioError: the stream ends inside the header, or the header is senseless.
    """
    consumed = bytearray(head)

    def take(size: int) -> bytes:
        data = _read_fully(stream, size)
        consumed.extend(data)
        if len(data) < size:
            raise AudioError(
                f"{name}: the WAV ends inside its header, after {len(consumed)} bytes, expected audio "
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
        if not channels or not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
            raise AudioError(
                f"{name}: the WAV header says {channels} channels at {rate} Hz, expected at least one at "
                f"{MIN_RATE_HZ} to {MAX_RATE_HZ} Hz; the file is damaged"
            )
        encoding = _WAV_ENCODINGS.get((tag, bits))
        if encoding is None or channels * _BYTES_PER_SAMPLE[encoding] != frame_bytes:
            return None, bytes(consumed)
        pcm = RawFormat(rate, channels, encoding)
    if pcm is None:
        raise AudioError(f"{name}: a WAV without a format chunk before its data; the file is damaged")
    # Written into a pipe, a size of 0 means unknown - unless the RIFF size says that more chunks follow.
    unknown = size >= _UNKNOWN_SIZE_BYTES or (
        size == 0 and (riff_bytes + 8 <= len(consumed) or riff_bytes >= _UNKNOWN_SIZE_BYTES)
    )
    return _PcmReader(stream, pcm, None if unknown else size), bytes(consumed)


def _spool(head: bytes, stream: BinaryIO, name: str) -> BinaryIO:
    """Copy a pipe to a temporary file, because libsndfile has to seek."""
    spool = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - closed with the AudioFile
    part = head
    while part:
        spool.write(part)
        if spool.tell() > SPOOL_LIMIT_BYTES:
            spool.close()
            raise AudioError(
                f"{name}: more than {SPOOL_LIMIT_BYTES / 1024**3:g} GiB piped in a format that cannot be "
                f"streamed; expected PCM WAV: convert it on the way, as with ffmpeg -i INPUT -f wav -"
            )
        part = stream.read(_COPY_BYTES)
    spool.seek(0)
    return spool


def _open_path(path: Path) -> BinaryIO:
    remedy = "give an existing audio file (WAV, FLAC, OGG, MP3)"
    try:
        if path.is_dir():
            raise AudioError(f"{path}: a folder, expected one audio file; {remedy}")
        return path.open("rb")
    except FileNotFoundError as error:
        raise AudioError(f"{path}: no such file; {remedy}") from error
    except PermissionError as error:
        raise AudioError(f"{path}: no permission to read it; change the file's permissions") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise AudioError(f"{path}: cannot be opened ({error}); {remedy}") from error


class AudioFile:
    """One audio file or binary stream, decoded in blocks to mono float32 at one sample rate.

    Reads whatever libsndfile reads (WAV, FLAC, OGG Vorbis and Opus, MP3, AIFF, ...) and averages the channels.
    A pipe with PCM WAV is decoded as it arrives; other piped formats go to a temporary file first.

    Args:
        source: path, or an open binary stream, seekable or not, which stays the caller's to close.
        sample_rate: rate of the blocks, Hz.
        block_samples: about the length of a block at ``sample_rate``; exactly, if nothing is resampled.
        raw: take the bytes for headerless samples of this format.
        name: what messages call it; the path by default.

    Attributes:
        source_rate: the input's own rate, Hz.
        channels: the input's channels.
        duration_s: what can be read, None where unknown (a pipe).
        warning: filled once the blocks are through: what was wrong with a file that could be used anyway.

    Raises:
        AudioError: it cannot be opened, is empty, or is no audio.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | BinaryIO,
        sample_rate: int = SAMPLE_RATE_HZ,
        block_samples: int = SAMPLE_RATE_HZ // 10,
        raw: RawFormat | None = None,
        name: str | None = None,
    ) -> None:
        if sample_rate < 1 or block_samples < 1:
            raise ValueError("sample_rate and block_samples must be positive")
        self.sample_rate = sample_rate
        self.warning: str | None = None
        self._owned: list[BinaryIO] = []
        if isinstance(source, (str, os.PathLike)):
            self.name = name or os.fspath(source)
            stream = _open_path(Path(source))
            self._owned.append(stream)
        else:
            stream = source
            self.name = name or "the stream"
        try:
            self._reader = self._open_reader(stream, raw)
        except OSError as error:
            self.close()
            raise AudioError(f"{self.name}: cannot be read ({error}); copy it to this machine's disk") from error
        except AudioError:
            self.close()
            raise
        self.source_rate = self._reader.sample_rate
        self.channels = self._reader.channels
        frames = self._reader.frames
        self.duration_s = None if frames is None else frames / self.source_rate
        self._block_frames = max(1, round(Fraction(block_samples * self.source_rate, sample_rate)))

    def _open_reader(self, stream: BinaryIO, raw: RawFormat | None) -> _Reader:
        if raw is not None:
            return _PcmReader(stream, raw, None)
        start = stream.tell() if stream.seekable() else None
        head = _read_fully(stream, 12)
        if not head:
            raise AudioError(f"{self.name}: empty (0 bytes), expected an audio file; record or copy it again")
        if len(head) == 12 and head[:4] == b"RIFF" and head[8:] == b"WAVE":
            reader, head = _parse_wav(stream, head, self.name)
            if reader is not None:
                return reader
        if start is None:
            stream = _spool(head, stream, self.name)
            self._owned.append(stream)
        else:
            stream.seek(start)
        decoder = _SndfileReader(stream, self.name)
        if not MIN_RATE_HZ <= decoder.sample_rate <= MAX_RATE_HZ:
            raise AudioError(
                f"{self.name}: a sample rate of {decoder.sample_rate} Hz, expected {MIN_RATE_HZ} to "
                f"{MAX_RATE_HZ} Hz; convert it, for example with ffmpeg -i INPUT -ar 16000 output.wav"
            )
        return decoder

    def blocks(self) -> Iterator[Samples]:
        """Decode it, once: non-empty ``(time,)`` float32 blocks at ``sample_rate``.

        Raises:
            AudioError: not one sample, a NaN or infinite sample, or an error of the disk.
        """
        resampler = Resampler(self.source_rate, self.sample_rate)
        position = 0
        while True:
            try:
                frames = self._reader.read(self._block_frames)
            except OSError as error:
                raise AudioError(f"{self.name}: cannot be read ({error}); copy it to this machine's disk") from error
            if not len(frames):
                break
            self._check_finite(frames, position)
            position += len(frames)
            # In float64 the mean of finite float32 samples cannot overflow.
            mono = frames[:, 0] if self.channels == 1 else frames.mean(axis=1, dtype=np.float64).astype(np.float32)
            if len(out := resampler.push(mono)):
                yield out
        self.warning = self._reader.warning
        if position == 0:
            reason = f" ({self.warning})" if self.warning else ""
            raise AudioError(f"{self.name}: no samples{reason}, expected audio; record or copy it again")
        if len(out := resampler.flush()):
            yield out

    def _check_finite(self, frames: Samples, position: int) -> None:
        bad = ~np.isfinite(frames).all(axis=1)
        if not bad.any():
            return
        index = int(bad.argmax())
        what = "NaN" if np.isnan(frames[index]).any() else "an infinite value"
        sample = position + index
        raise AudioError(
            f"{self.name}: {what} at {sample / self.source_rate:.3f} s (sample {sample}), expected finite "
            f"samples; export it again, for example as 16-bit PCM"
        )

    def close(self) -> None:
        """Release what was opened here; a stream that was passed in stays open."""
        while self._owned:
            self._owned.pop().close()

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_blocks(
    source: str | os.PathLike[str] | BinaryIO,
    sample_rate: int = SAMPLE_RATE_HZ,
    block_samples: int = SAMPLE_RATE_HZ // 10,
) -> Iterator[Samples]:
    """Decode a file or binary stream to ``(time,)`` float32 blocks; see :class:`AudioFile`.

    Raises:
        AudioError: as :class:`AudioFile` and its :meth:`~AudioFile.blocks`.
    """
    with AudioFile(source, sample_rate, block_samples) as audio:
        yield from audio.blocks()
