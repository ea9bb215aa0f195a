"""Damaged audio files by number: the same number is the same file, so that what a run found can be had again.

``python tests/support/fuzz_audio.py 123 FILE`` writes case 123 into a file.
"""

from __future__ import annotations

import io
import random
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 8_000
#: soundfile's format, subtype, suffix.
FORMATS = (
    *(("WAV", subtype, "wav") for subtype in ("PCM_16", "PCM_24", "FLOAT", "DOUBLE", "PCM_U8", "ULAW", "IMA_ADPCM")),
    ("WAVEX", "PCM_16", "wav"),
    ("RF64", "PCM_16", "rf64"),
    ("W64", "PCM_16", "w64"),
    ("FLAC", "PCM_16", "flac"),
    ("OGG", "VORBIS", "ogg"),
    ("OGG", "OPUS", "opus"),
    ("MP3", "MPEG_LAYER_III", "mp3"),
    ("AIFF", "PCM_16", "aiff"),
    ("AIFF", "FLOAT", "aifc"),
    ("AU", "PCM_16", "au"),
    ("AU", "ULAW", "au"),
    ("CAF", "ALAC_16", "caf"),
    ("NIST", "PCM_16", "nist"),
    ("VOC", "PCM_16", "voc"),
)
ENCODINGS = ("u8", "s16le", "s24le", "s32le", "f32le", "f64le")
SUFFIXES = (*sorted({suffix for _, _, suffix in FORMATS}), "raw", "m4a", "aac", "sd2", "")
#: What breaks readers, for numbers of 1, 2, 4 and 8 bytes.
_EDGES = (
    0,
    1,
    2,
    7,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63,
    2**64 - 1,
)


@dataclass(frozen=True)
class AudioCase:
    """One damaged file.

    Attributes:
        data: its bytes.
        suffix: of the name, where it gets one.
        how: ``path``, ``stream`` (seekable), ``pipe`` (not) or ``raw`` (a pipe of headerless samples).
        encoding: of ``raw``.
        made: what was done to which seed, for messages.
    """

    data: bytes
    suffix: str
    how: str
    encoding: str
    made: str


@cache
def audio_seeds() -> tuple[tuple[str, str, bytes], ...]:
    """Name, suffix and bytes of intact files of an eighth of a second."""
    time_s = np.arange(RATE_HZ // 8) / RATE_HZ
    tone = (0.4 * np.sin(2 * np.pi * 300 * time_s) + 0.05 * np.cos(2 * np.pi * 1_700 * time_s)).astype(np.float32)
    seeds = []
    for format_, subtype, suffix in FORMATS:
        for channels in (1, 2):
            stream = io.BytesIO()
            samples = np.stack([tone] * channels, axis=1)
            soundfile.write(stream, samples, RATE_HZ, format=format_, subtype=subtype)
            seeds.append((f"{format_} {subtype} {channels}", suffix, stream.getvalue()))
    # Without the frame that states the length, and behind a tag.
    mp3 = next(data for name, _, data in seeds if name.startswith("MP3"))
    seeds.append(("MP3 without length", "mp3", mp3[mp3.rfind(b"\xff\xf3", 0, 600) :]))
    seeds.append(("MP3 behind ID3", "mp3", b"ID3\4\0\0\0\0\1\0" + bytes(128) + mp3))
    return tuple(seeds)


def audio_case(number: int) -> AudioCase:
    """Case ``number``."""
    rng = random.Random(number)
    name, suffix, data = rng.choice(audio_seeds())
    done = [name]
    if rng.random() < 0.05:
        data, done = rng.randbytes(rng.choice((0, 1, 11, 12, 44, 300, 5_000))), ["random bytes"]
    else:
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            mutation = rng.choice(_MUTATIONS)
            data = mutation(rng, data)
            done.append(mutation.__name__)
    if rng.random() < 0.1:
        suffix = rng.choice(SUFFIXES)
    how = rng.choice(("path", "stream", "stream", "pipe", "pipe", "raw"))
    if how == "raw" and rng.random() < 0.5:
        how = "stream"
    return AudioCase(data, suffix, how, rng.choice(ENCODINGS), ", ".join(done))


def truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(min(len(data), 120) if rng.random() < 0.5 else len(data) or 1)] if data else data


def _position(rng: random.Random, data: bytes, size: int = 1) -> int:
    """Headers get most of the damage."""
    limit = max(1, len(data) - size + 1)
    return rng.randrange(min(limit, 128)) if rng.random() < 0.75 else rng.randrange(limit)


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16)) if changed else 0):
        changed[_position(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_number(rng: random.Random, data: bytes) -> bytes:
    size = rng.choice((1, 2, 4, 4, 4, 8))
    at = _position(rng, data, size)
    if rng.random() < 0.7 and size > 1:
        at -= at % 2  # most fields are aligned
    value = rng.choice(_EDGES) if rng.random() < 0.8 else rng.getrandbits(64)
    field = (value % 2 ** (8 * size)).to_bytes(size, rng.choice(("little", "big")))
    return data[:at] + field + data[at + size :]


def set_chunk_size(rng: random.Random, data: bytes) -> bytes:
    """Change the size behind a chunk's four letters."""
    ids = (b"RIFF", b"fmt ", b"data", b"fact", b"ds64", b"FORM", b"COMM", b"SSND", b"PEAK", b".snd", b"OggS", b"fLaC")
    places = [at for chunk in ids if (at := data.find(chunk)) >= 0]
    if not places:
        return set_number(rng, data)
    at = rng.choice(places) + 4
    order = ">" if data[:4] in {b"FORM", b".snd", b"fLaC"} else "<"
    return data[:at] + struct.pack(order + "I", rng.choice(_EDGES) % 2**32) + data[at + 4 :]


def remove(rng: random.Random, data: bytes) -> bytes:
    at = _position(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 4, 8, 100)) :]


def insert(rng: random.Random, data: bytes) -> bytes:
    at = _position(rng, data)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 4, 8, 100))) + data[at:]


def repeat(rng: random.Random, data: bytes) -> bytes:
    at, size = _position(rng, data), rng.choice((4, 8, 64, 1_000))
    return data[:at] + data[at : at + size] * rng.choice((2, 3, 50)) + data[at + size :]


def swap(rng: random.Random, data: bytes) -> bytes:
    """The head of this file on the rest of another."""
    _, _, other = rng.choice(audio_seeds())
    at = rng.choice((4, 12, 36, 44, 100))
    return data[:at] + other[at:]


def blank(rng: random.Random, data: bytes) -> bytes:
    at, size = _position(rng, data), rng.choice((4, 16, 64, 500))
    return data[:at] + rng.choice((b"\0", b"\xff")) * size + data[at + size :]


_MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    truncate,
    flip_bits,
    flip_bits,
    set_number,
    set_number,
    set_number,
    set_chunk_size,
    set_chunk_size,
    remove,
    insert,
    repeat,
    swap,
    blank,
)


if __name__ == "__main__":
    case = audio_case(int(sys.argv[1]))
    Path(sys.argv[2]).write_bytes(case.data)
    print(case.how, case.encoding, f".{case.suffix}", case.made)
