"""A set of mixtures on disk: WAV files and ``info.csv``, a row a mixture. Reading and writing one needs no torch.

Every set has the columns ``mixture``, ``source_1``, ``source_2``, ... and, where there is noise, ``noise``: names of
files beside ``info.csv``, of one length and sampling frequency. A mixture is the sum of its sources and noise, exact
in 16 bits.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from stream_ser.audio.decode import AudioFile
from stream_ser.errors import DataError, OutputError
from stream_ser.text import printable
from stream_ser.train.data.corpora.base import file_in, read_table
from stream_ser.train.files import write_atomically

INFO = "info.csv"
MIXTURE, NOISE = "mixture", "noise"
RATE = "sampling_frequency_hz"
#: What this module writes and, with ``force``, removes; nothing else is touched.
_OURS = re.compile(r"\d{4,}_(mixture|source_\d+|noise)\.wav")
_SOURCE = re.compile(r"source_[1-9]\d*")
#: A mixture is a sum in whole 16-bit steps; sets of others may be rounded once more.
_ROUNDING = 2.0 / 32768.0

Int16 = NDArray[np.int16]


@dataclass(frozen=True)
class Item:
    """One mixture to write.

    Attributes:
        waves: by role (``mixture``, ``source_1``, ..., ``noise``), each ``(time,)``.
        about: further columns.
    """

    waves: Mapping[str, Int16]
    about: Mapping[str, object]


@dataclass(frozen=True)
class SeparationSet:
    """A set in memory.

    Attributes:
        folder: where it came from.
        names: of the mixtures, such as ``0001``.
        mixtures: ``(mixtures, time)`` float32, full scale at 1.
        sources: ``(mixtures, sources, time)`` float32.
        sample_rate: Hz.
        rows: of ``info.csv``.
    """

    folder: Path
    names: tuple[str, ...]
    mixtures: NDArray[np.float32]
    sources: NDArray[np.float32]
    sample_rate: int
    rows: tuple[Mapping[str, str], ...]

    def column(self, name: str) -> NDArray[np.float64]:
        """A column of numbers, ``(mixtures,)``.

        Raises:
            DataError: no such column, or something else in it.
        """
        try:
            return np.array([float(row[name]) for row in self.rows])
        except (KeyError, ValueError):
            raise DataError(f"{self.folder / INFO}: column {name} is missing or holds no numbers") from None


def file_name(number: int, role: str) -> str:
    """Name of a file of the mixture ``number`` (from 1)."""
    return f"{number:04d}_{role}.wav"


def add_up(parts: Sequence[NDArray[np.float32]]) -> list[Int16]:
    """Parts rounded to 16 bits, behind their sum, which is exact.

    Raises:
        ValueError: the sum leaves the range of 16 bits.
    """
    rounded = [np.round(part * 32768.0).astype(np.int64) for part in parts]
    total = np.sum(rounded, axis=0)
    if total.size and np.abs(total).max() > 32767:
        raise ValueError("the mixture exceeds full scale")
    return [wave.astype(np.int16) for wave in (total, *rounded)]


def prepare(out: Path, count: int, roles: Sequence[str], force: bool) -> None:
    """Make room for a set of ``count`` mixtures, before anything is computed.

    With ``force`` the files of an older set that its ``info.csv`` names are removed, and no others.

    Raises:
        OutputError: ``out`` is no folder, or holds a set or a file of the same name and ``force`` is not set.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file, expected the name of a folder; choose another one")
    names = {INFO, *(file_name(number, role) for number in range(1, count + 1) for role in roles)}
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if taken := sorted(names & there):
        shown = INFO if INFO in taken else taken[0]
        if not force:
            raise OutputError(f"{out}: holds {shown} already; choose another folder, or replace the set with --force")
        if folders := [name for name in taken if (out / name).is_dir()]:
            raise OutputError(f"{out / folders[0]}: is a folder, expected a file or nothing; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    if INFO in there:
        for name in _listed(out / INFO) & there:
            (out / name).unlink()
        (out / INFO).unlink()


def _listed(info: Path) -> set[str]:
    """Names in an older ``info.csv`` that are of our making; of a file that is no table, none."""
    try:
        return {value for _, row in read_table(info, ()) for value in row.values() if _OURS.fullmatch(value)}
    except DataError:
        return set()


def write(out: Path, items: Iterable[Item], sample_rate: int) -> int:
    """Write a set into a folder that :func:`prepare` made ready; ``info.csv`` comes last, so it is never half a set.

    Returns:
        number of mixtures.
    """
    rows: list[dict[str, object]] = []
    for number, item in enumerate(items, start=1):
        row: dict[str, object] = {}
        for role, wave in item.waves.items():
            row[role] = file_name(number, role)
            soundfile.write(out / file_name(number, role), wave, sample_rate, subtype="PCM_16")
        rows.append({**row, RATE: sample_rate, **item.about})

    def save(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(out / INFO, save)
    return len(rows)


def read_wave(path: Path) -> tuple[NDArray[np.float32], int]:
    """A file at its own rate: ``(time,)``, and Hz.

    Raises:
        AudioError: it cannot be decoded.
    """
    with AudioFile(path) as audio:
        # Its own rate is known once it is open, and before anything is decoded.
        audio.sample_rate = audio.source_rate
        return np.concatenate(list(audio.blocks())), audio.source_rate


def rows_of(folder: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Roles (``mixture``, ``source_1``, ...) and rows of a set, its files named but not read.

    Raises:
        DataError: no set, an empty one, or one that names files elsewhere.
    """
    if not folder.is_dir():
        what = "a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {what}, expected a set; make one with 'stream-ser data sines {folder}'")
    info = file_in(folder, INFO)
    rows = [row for _, row in read_table(info, (MIXTURE, "source_1"))]
    if not rows:
        raise DataError(f"{info}: holds no mixture; make the set again")
    sources = sorted(filter(_SOURCE.fullmatch, rows[0]), key=lambda name: int(name.partition("_")[2]))
    roles = [MIXTURE, *sources, *([NOISE] if NOISE in rows[0] else [])]
    for row in rows:
        for role in roles:
            if not row[role] or Path(row[role]).name != row[role]:
                raise DataError(f"{info}: {role} {printable(row[role])!r} is not the name of a file beside it")
    return roles, rows


def name_of(row: Mapping[str, str]) -> str:
    """Short name of a mixture: ``0001`` of ``0001_mixture.wav``."""
    return Path(row[MIXTURE]).stem.removesuffix(f"_{MIXTURE}")


def read(folder: Path) -> SeparationSet:
    """Read a whole set.

    Raises:
        DataError: no set; files of several lengths or rates; sources that do not add up to their mixture.
        AudioError: a file that is missing or cannot be decoded.
    """
    roles, rows = rows_of(folder)
    mixtures, sources = [], []
    first = ""
    rate = size = 0
    for row in rows:
        waves = {}
        for role in roles:
            wave, found = read_wave(folder / row[role])
            rate, size, first = rate or found, size or wave.size, first or row[role]
            if (found, wave.size) != (rate, size):
                raise DataError(
                    f"{folder / row[role]}: {wave.size} samples at {found} Hz, {first} has {size} at {rate} Hz; all "
                    "files of a set need the same length and rate"
                )
            waves[role] = wave
        parts = [waves[role] for role in roles if role != MIXTURE]
        if np.abs(waves[MIXTURE] - np.sum(parts, axis=0)).max() > _ROUNDING:
            raise DataError(f"{folder / row[MIXTURE]}: is not the sum of its sources; make the set again")
        mixtures.append(waves[MIXTURE])
        sources.append(np.stack([waves[role] for role in roles if role not in (MIXTURE, NOISE)]))
    names = tuple(map(name_of, rows))
    return SeparationSet(folder, names, np.stack(mixtures), np.stack(sources), rate, tuple(rows))
