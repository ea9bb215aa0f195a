"""What a corpus is, and what all loaders share."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from stream_ser.errors import DataError

#: The formats in which corpora come; stream_ser.cli.commands.file takes whatever libsndfile reads.
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
#: The common labels of emotion corpora, in the order of the networks' outputs.
EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad")
PARTS = ("train", "validation", "test")
#: The parts by their usual names, in lower case.
PART_NAMES = {
    **{part: part for part in PARTS},
    **dict.fromkeys(("valid", "val", "dev"), "validation"),
    "training": "train",
    "testing": "test",
}


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled recording.

    Attributes:
        path: audio file.
        label: one of the corpus' labels.
        speaker: unique within the corpus, prefixed with its name.
        part: ``train``, ``validation`` or ``test`` where the corpus comes with a fixed list, else empty.
        text: what is said, where known.
        fold: official fold, from 1; 0 where there is none.
        votes: share of the raters' votes for each of the corpus' labels, summing to 1; empty where unknown.
    """

    path: Path
    label: str
    speaker: str
    part: str = ""
    text: str = ""
    fold: int = 0
    votes: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Corpus:
    """A loaded corpus.

    Attributes:
        name: such as ``crema-d``.
        clips: in a fixed order (by file name).
        labels: classes, in the order of the networks' outputs.
        licence: terms that bind what is trained on it.
        dropped: defective clips that were left out, as (file stem, reason).
        unused: labels that have no place among ``labels``, as (label, clips that were left out with it).
    """

    name: str
    clips: tuple[Clip, ...]
    labels: tuple[str, ...]
    licence: str
    dropped: tuple[tuple[str, str], ...] = ()
    unused: tuple[tuple[str, int], ...] = ()

    def describe(self) -> str:
        """One line for people: clips, speakers, labels, what was dropped."""
        counts = Counter(clip.label for clip in self.clips)
        speakers = len({clip.speaker for clip in self.clips})
        labels = ", ".join(f"{label} {counts[label]}" for label in self.labels)
        unused = f"; left out {', '.join(f'{label} {count}' for label, count in self.unused)}" if self.unused else ""
        dropped = f"; dropped {len(self.dropped)} defective" if self.dropped else ""
        return f"{self.name}: {len(self.clips)} clips, {speakers} speakers ({labels}){unused}{dropped}"


def present(labels: Iterable[str], clips: Iterable[Clip]) -> tuple[str, ...]:
    """Those of ``labels`` that a clip carries, in their order."""
    found = {clip.label for clip in clips}
    return tuple(label for label in labels if label in found)


def folder_in(root: Path, *names: str) -> Path:
    """The first of the folders ``names`` that is there.

    Raises:
        DataError: none of them is.
    """
    for name in names:
        if (root / name).is_dir():
            return root / name
    others = f" (nor {', '.join(names[1:])})" if len(names) > 1 else ""
    raise DataError(f"{root / names[0]}: no such folder{others}; expected the corpus in its official layout")


def file_in(root: Path, *names: str) -> Path:
    """The first of the files ``names`` that is there.

    Raises:
        DataError: none of them is.
    """
    for name in names:
        if (root / name).is_file():
            return root / name
    others = f" (nor {', '.join(names[1:])})" if len(names) > 1 else ""
    raise DataError(f"{root / names[0]}: no such file{others}; it comes with the corpus: copy it there")


def audio_files(folder: Path, *, deep: bool = False, suffixes: tuple[str, ...] = AUDIO_SUFFIXES) -> list[Path]:
    """Audio files of ``folder``, by name; ``deep`` looks into its sub-folders as well.

    Raises:
        DataError: no such folder, no audio in it, or one recording in two formats.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected the corpus in its official layout")
    # Names that start with a dot are left by other systems' archivers (._x.wav) and hold no audio.
    files = sorted(
        path
        for path in (folder.rglob("*") if deep else folder.iterdir())
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and not path.is_dir()
    )
    if not files:
        raise DataError(f"{folder}: no audio file ({', '.join(suffixes)}) in it")
    twice = [stem for stem, count in Counter(path.with_suffix("") for path in files).items() if count > 1]
    if twice:
        raise DataError(f"{twice[0].parent}: {twice[0].name} is there in more than one format; keep one")
    return files


def refuse_copies(files: Iterable[Path]) -> None:
    """Refuse a corpus that was unpacked twice into the same folder.

    Raises:
        DataError: two files have the same stem.
    """
    seen: dict[str, Path] = {}
    for path in files:
        other = seen.setdefault(path.stem, path)
        if other != path:
            raise DataError(f"{path}: also there as {other}; keep one copy of the corpus")


def read_lines(path: Path) -> list[str]:
    """Lines of a text file that are not empty.

    Raises:
        DataError: it is not UTF-8 text.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text; expected the corpus' own list") from None


def read_table(path: Path, needed: Iterable[str], *, tabs: bool = False) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file with a header, each with the number of its line; fields that a short row lacks are empty.

    Blanks around names and fields are left out. With ``tabs``, fields are separated by tabs and quotes are plain text.

    Raises:
        DataError: it lacks a needed column, has a row with more fields than columns, or is not UTF-8 text.
    """
    needed = tuple(needed)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(file)
            columns = [name.strip() for name in next(reader, [])]
            if missing := [column for column in needed if column not in columns]:
                has = ", ".join(columns) or "nothing"
                raise DataError(f"{path}: has no column {missing[0]} ({has}); needs the columns {' and '.join(needed)}")
            for row in reader:
                fields = [field.strip() for field in row]
                if any(fields[len(columns) :]):
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(fields)} fields for {len(columns)} columns; "
                        + ("a field holds a tab" if tabs else "put a field with a comma in double quotes")
                    )
                if fields:
                    yield reader.line_num, dict(zip_longest(columns, fields[: len(columns)], fillvalue=""))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: no CSV in UTF-8 ({error}); save it again as such") from None


def part_named(value: str, where: str) -> str:
    """A part by one of its usual names; empty stays empty.

    Raises:
        DataError: unknown name.
    """
    if not value:
        return ""
    if value.lower() not in PART_NAMES:
        raise DataError(f"{where}: split {value!r} is not {', '.join(PARTS[:-1])} or {PARTS[-1]}")
    return PART_NAMES[value.lower()]
