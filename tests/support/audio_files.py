"""Sounds, files and pipes for the tests of decoding."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from stream_ser.audio.decode import AudioFile

RATE = 16_000


def tone(seconds: float, rate: int = RATE, hz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE, **kwargs: Any) -> Path:
    with path.open("wb") as stream:
        soundfile.write(stream, samples, rate, format=path.suffix[1:].upper(), **kwargs)
    return path


def decode(source: Any, **kwargs: Any) -> tuple[np.ndarray, AudioFile]:
    with AudioFile(source, **kwargs) as audio:
        return np.concatenate(list(audio.blocks())), audio


def pipe_of(data: bytes) -> BinaryIO:
    """A stream that cannot seek and hands out odd amounts, like a real pipe."""

    class Pipe(io.RawIOBase):
        position = 0

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return False

        def readinto(self, buffer: Any) -> int:
            part = data[self.position : self.position + min(len(buffer), 1009)]
            buffer[: len(part)] = part
            self.position += len(part)
            return len(part)

    return Pipe()  # type: ignore[return-value]


def pcm16(samples: np.ndarray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def riff(data: bytes, *, data_size: int | None = None, riff_size: int | None = None, extra: bytes = b"") -> bytes:
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    size = len(data) if data_size is None else data_size
    body = b"WAVE" + fmt + extra + struct.pack("<4sI", b"data", size) + data
    return struct.pack("<4sI", b"RIFF", len(body) if riff_size is None else riff_size) + body
