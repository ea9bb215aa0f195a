"""Decode audio to mono float32 in blocks, and resample it as a stream.

Invariants: memory does not grow with the length of the input; a 16-bit PCM sample ``k`` becomes exactly
``k / 32768``; no NaN, infinite or absurdly large sample gets past :class:`AudioFile`; resampled output does not
depend on how the input was split.

PCM and float WAV is decoded by :mod:`stream_ser.audio.wav`, as it arrives; all else by
:mod:`stream_ser.audio.libsndfile`, which needs to seek and gets piped input through a temporary file.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, cast

import numpy as np

from stream_ser.audio.libsndfile import SndfileReader
from stream_ser.audio.resample import Resampler
from stream_ser.audio.wav import MAX_RATE_HZ, MIN_RATE_HZ, PcmReader, RawFormat, Samples, parse_wav, read_fully
from stream_ser.config import LOUDEST, SAMPLE_RATE_HZ
from stream_ser.errors import AudioError

#: What a pipe that is not PCM WAV may fill of the temporary folder.
SPOOL_LIMIT_BYTES = 2 * 1024**3
_COPY_BYTES = 1 << 16
#: Of all channels, what is decoded at once at most.
_BLOCK_SAMPLES = 1 << 21


class _Reader(Protocol):
    """Decoder of one stream. ``frames`` is what can be read, None where nobody knows."""

    sample_rate: int
    channels: int
    frames: int | None
    warning: str | None

    def read(self, frames: int) -> Samples: ...


def _spool(head: bytes, stream: BinaryIO, name: str) -> BinaryIO:
    """Copy a pipe to a temporary file, because libsndfile has to seek."""
    remedy = "expected PCM WAV: convert it on the way, as with ffmpeg -i INPUT -f wav -"
    spool = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - closed with the AudioFile
    part = head
    try:
        while part:
            try:
                spool.write(part)
                spool.flush()
            except OSError as error:
                folder = tempfile.gettempdir()
                found = f"piped in a format that cannot be streamed, it does not fit into {folder} ({error.strerror})"
                raise AudioError(f"{name}: {found}; {remedy}") from error
            if spool.tell() > SPOOL_LIMIT_BYTES:
                found = f"more than {SPOOL_LIMIT_BYTES / 1024**3:g} GiB piped in a format that cannot be streamed"
                raise AudioError(f"{name}: {found}; {remedy}")
            part = stream.read(_COPY_BYTES)
        spool.seek(0)
    except BaseException:
        with contextlib.suppress(OSError):
            spool.close()
        raise
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
        block_samples: about the length of a block at ``sample_rate``; exactly, if nothing is resampled, and less where
            that is more than two million samples of all channels.
        raw: take the bytes for headerless samples of this format.
        name: what messages call it; the path by default.
        channel: take this one alone, from 0; the mean of all if None.

    Attributes:
        source_rate: the input's own rate, Hz.
        channels: the input's channels.
        duration_s: what can be read, None where unknown (a pipe).
        warning: filled once the blocks are through: what was wrong with a file that could be used anyway.

    Raises:
        AudioError: it cannot be opened, is empty, is no audio, or has no such channel.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | BinaryIO,
        sample_rate: int = SAMPLE_RATE_HZ,
        block_samples: int = SAMPLE_RATE_HZ // 10,
        raw: RawFormat | None = None,
        name: str | None = None,
        channel: int | None = None,
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
        except BaseException:
            self.close()
            raise
        self.source_rate = self._reader.sample_rate
        self.channels = self._reader.channels
        self._channel = 0 if self.channels == 1 and channel is None else channel
        if channel is not None and not 0 <= channel < self.channels:
            self.close()
            expected = f"1 to {self.channels}" if self.channels > 1 else "1"
            raise AudioError(f"{self.name}: channel {channel + 1} of {self.channels}, expected {expected}, mix or each")
        there = self._reader.frames
        self.duration_s = None if there is None else there / self.source_rate
        frames = round(Fraction(block_samples * self.source_rate, sample_rate))
        # A damaged header may announce a thousand channels at 768 kHz.
        self._block_frames = max(1, min(frames, _BLOCK_SAMPLES // self.channels))

    def _open_reader(self, stream: BinaryIO, raw: RawFormat | None) -> _Reader:
        if raw is not None:
            return PcmReader(stream, raw, None)
        start = stream.tell() if stream.seekable() else None
        head = read_fully(stream, 12)
        if not head:
            raise AudioError(f"{self.name}: empty (0 bytes), expected an audio file; record or copy it again")
        if len(head) == 12 and head[:4] == b"RIFF" and head[8:] == b"WAVE":
            reader, head = parse_wav(stream, head, self.name)
            if reader is not None:
                return reader
        if start is None:
            stream = _spool(head, stream, self.name)
            self._owned.append(stream)
        else:
            stream.seek(start)
        decoder = SndfileReader(stream, self.name)
        if not MIN_RATE_HZ <= decoder.sample_rate <= MAX_RATE_HZ:
            raise AudioError(
                f"{self.name}: a sample rate of {decoder.sample_rate} Hz, expected {MIN_RATE_HZ} to "
                f"{MAX_RATE_HZ} Hz; convert it, for example with ffmpeg -i INPUT -ar 16000 output.wav"
            )
        return decoder

    def blocks(self) -> Iterator[Samples]:
        """Decode it, once: non-empty ``(time,)`` float32 blocks at ``sample_rate``.

        Raises:
            AudioError: not one sample, a NaN, infinite or absurdly large sample, or an error of the disk.
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
            if self._channel is None:
                mono = frames.mean(axis=1, dtype=np.float64).astype(np.float32)
            else:
                mono = np.ascontiguousarray(frames[:, self._channel])
            if len(out := resampler.push(mono)):
                yield out
        self.warning = self._reader.warning
        if position == 0:
            reason = f" ({self.warning})" if self.warning else ""
            raise AudioError(f"{self.name}: no samples{reason}, expected audio; record or copy it again")
        if len(out := resampler.flush()):
            yield out

    def _check_finite(self, frames: Samples, position: int) -> None:
        bad = ~(np.abs(frames) <= LOUDEST).all(axis=1)
        if not bad.any():
            return
        index = int(bad.argmax())
        peak = np.abs(frames[index]).max()  # NaN if one is
        what = "NaN" if np.isnan(peak) else "an infinite value" if np.isinf(peak) else f"a value of {peak:.0e}"
        sample = position + index
        raise AudioError(
            f"{self.name}: {what} at {sample / self.source_rate:.3f} s (sample {sample}), expected finite "
            f"samples with full scale at 1; export it again, for example as 16-bit PCM"
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
