"""Where audio was lost, kept inside a WAV recording as labelled regions that audio editors show too.

A region is a cue point (``cue ``), its length (``ltxt``, purpose ``gap ``) and a label (``labl``), behind the samples;
while a recording goes on the first ones lie before them, where they survive the end of a program that is killed.
Reference: Microsoft and IBM, Multimedia Programming Interface and Data Specifications 1.0 (1991), pages 3-59 to 3-63.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

#: ``(first sample, samples)``, at the recording's rate.
Region = tuple[int, int]

_PURPOSE = b"gap "
_CUE = struct.Struct("<II4sIII")
_LENGTH = struct.Struct("<II4sHHHH")
#: So many are kept, the first ones, and so large are their lists at most.
MAX_REGIONS = 100_000
_LIMIT_BYTES = 8 * 1024**2
#: Room before the samples, and how many fit into it: 88 bytes are the most that one takes.
RESERVED_BYTES, RESERVED_REGIONS = 16 * 1024, 180


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def append_regions(stream: BinaryIO, regions: Sequence[Region]) -> None:
    """Add gaps to a complete WAV and mend its RIFF size.

    Args:
        stream: open for writing, seekable; the WAV ends where it ends.
        regions: in order; no more than :data:`MAX_REGIONS` are kept.
    """
    stream.seek(0, os.SEEK_END)
    stream.write(_listed(regions[:MAX_REGIONS]))
    size = stream.tell() - 8
    stream.seek(4)
    stream.write(struct.pack("<I", size))


def reserved(regions: Sequence[Region]) -> bytes:
    """Chunks of :data:`RESERVED_BYTES` with the first of these gaps, to lie before the samples."""
    listed = _listed(regions[:RESERVED_REGIONS])
    return listed + _chunk(b"JUNK", bytes(RESERVED_BYTES - len(listed) - 8))


def _listed(regions: Sequence[Region]) -> bytes:
    if not regions:
        return b""
    cues = [struct.pack("<I", len(regions))]
    lengths, labels = [b"adtl"], []
    for number, (start, length) in enumerate(regions, 1):
        cues.append(_CUE.pack(number, start, b"data", 0, 0, start))
        lengths.append(_chunk(b"ltxt", _LENGTH.pack(number, length, _PURPOSE, 0, 0, 0, 0)))
        labels.append(_chunk(b"labl", struct.pack("<I", number) + b"%d samples lost\0" % length))
    return _chunk(b"cue ", b"".join(cues)) + _chunk(b"LIST", b"".join(lengths + labels))


def read_regions(path: str | os.PathLike[str]) -> list[Region]:
    """The gaps of a WAV, in order and without overlap; none where the file has none, or is no sound WAV."""
    try:
        if not Path(path).is_file():  # a pipe has but one reader
            return []
        with Path(path).open("rb") as stream:
            head = stream.read(12)
            return _ordered(stream) if head[:4] == b"RIFF" and head[8:] == b"WAVE" else []
    except (OSError, ValueError, struct.error):
        return []


def _ordered(stream: BinaryIO) -> list[Region]:
    starts: dict[int, int] = {}
    lengths: dict[int, int] = {}
    for name, content in _chunks(stream):
        if name == b"cue ":
            (count,) = struct.unpack_from("<I", content)
            for index in range(min(count, (len(content) - 4) // _CUE.size)):
                number, _, chunk, _, _, offset = _CUE.unpack_from(content, 4 + index * _CUE.size)
                if chunk == b"data":
                    starts[number] = offset
        elif content[:4] == b"adtl":
            lengths.update(_lengths(content))
    found: list[Region] = []
    for start, length in sorted((starts[number], length) for number, length in lengths.items() if number in starts):
        if length and (not found or start >= sum(found[-1])):
            found.append((start, length))
    return found


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The chunks that may tell of regions."""
    while len(head := stream.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        if name in (b"cue ", b"LIST") and size <= _LIMIT_BYTES:
            yield name, stream.read(size)
            stream.seek(size % 2, os.SEEK_CUR)
        else:
            stream.seek(size + size % 2, os.SEEK_CUR)


def _lengths(content: bytes) -> Iterator[tuple[int, int]]:
    at = 4
    while at + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        if name == b"ltxt" and size >= _LENGTH.size and at + 8 + _LENGTH.size <= len(content):
            number, length, purpose, *_ = _LENGTH.unpack_from(content, at + 8)
            if purpose == _PURPOSE:
                yield number, length
        at += 8 + size + size % 2
