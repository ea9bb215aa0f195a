"""The user's own recordings: a folder of label sub-folders, or a CSV manifest."""

from __future__ import annotations

from pathlib import Path

from stream_ser.errors import DataError

from .base import PART_NAMES, Clip, Corpus, audio_files, part_named, read_table

#: The speaker of clips that come without one. A split by speaker keeps them together.
UNKNOWN_SPEAKER = "unknown"
_LICENCE = "the user's own"


def folder(root: Path) -> Corpus:
    """``LABEL/*.wav`` or ``LABEL/SPEAKER/*.wav``; the same below ``train``, ``validation`` and ``test`` (or ``val``,
    ``dev``), if all sub-folders are called so.

    Raises:
        DataError: no sub-folder, one without audio, or files where a label or a speaker was expected.
    """  # noqa: D205 - the layouts belong together
    tops = _subfolders(root)
    if not tops:
        raise DataError(f"{root}: no sub-folder; expected one for each label, such as {root / 'happy'}")
    parts = {top: PART_NAMES.get(top.name.lower(), "") for top in tops}
    if not all(parts.values()):
        parts = {root: ""}
    clips = []
    for part_root, part in parts.items():
        for label in _subfolders(part_root):
            for path in audio_files(label, deep=True):
                between = path.relative_to(label).parts[:-1]
                if len(between) > 1:
                    raise DataError(f"{path}: too deep; expected LABEL/FILE or LABEL/SPEAKER/FILE below {part_root}")
                speaker = between[0] if between else UNKNOWN_SPEAKER
                clips.append(Clip(path, label.name, f"folder/{speaker}", part))
    if not clips:
        raise DataError(f"{tops[0]}: no sub-folder; expected one for each label, such as {tops[0] / 'happy'}")
    return Corpus("folder", tuple(clips), tuple(sorted({clip.label for clip in clips})), _LICENCE)


def _subfolders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def manifest(path: Path) -> Corpus:
    """A CSV file with the columns path and label, and as far as known speaker, text, split and fold.

    Paths are relative to the manifest's folder.

    Raises:
        DataError: a column is missing, a row lacks its path, label or file, or comes twice, or only some
            rows have a split.
    """
    clips: dict[Path, Clip] = {}
    for line, row in read_table(path, ("path", "label")):
        where = f"{path}, line {line}"
        if not row["path"] or not row["label"]:
            raise DataError(f"{where}: path or label is empty; fill it or remove the row")
        audio = path.parent / row["path"]
        if not audio.is_file():
            raise DataError(f"{audio}: no such file; {where} names it")
        fold = row.get("fold") or "0"
        if not fold.isdecimal():
            raise DataError(f"{where}: fold {fold!r} is not a number from 1")
        speaker = row.get("speaker") or UNKNOWN_SPEAKER
        part = part_named(row.get("split") or "", where)
        if audio in clips:
            raise DataError(f"{where}: {row['path']} is listed twice; keep one row")
        clips[audio] = Clip(audio, row["label"], f"csv/{speaker}", part, row.get("text") or "", int(fold))
    if not clips:
        raise DataError(f"{path}: no row; expected one for each recording")
    rows = clips.values()
    if len({bool(clip.part) for clip in rows}) == 2 or len({bool(clip.fold) for clip in rows}) == 2:
        raise DataError(f"{path}: some rows have a split (or a fold) and some have none; fill all of them or none")
    return Corpus("csv", tuple(rows), tuple(sorted({clip.label for clip in rows})), _LICENCE)
