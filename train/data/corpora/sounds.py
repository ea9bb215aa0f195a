"""Corpora of sounds and words: ESC-50, Speech Commands."""

from __future__ import annotations

import re
from pathlib import Path

from stream_ser.errors import DataError

from .base import Clip, Corpus, audio_files, file_in, read_lines, read_table

_COMMAND_NAME = re.compile(r"(?P<speaker>[0-9a-f]+)_nohash_\d+")
_COMMAND_LISTS = {"validation_list.txt": "validation", "testing_list.txt": "test"}


def esc_50(root: Path) -> Corpus:
    """ESC-50 (Piczak 2015): ``audio/FOLD-SOURCE-TAKE-TARGET.wav`` and ``meta/esc50.csv``; five official folds.

    The "speaker" is the recording that a clip was cut from, so that a split by speaker keeps its takes together.

    Raises:
        DataError: missing folder or table, or the two do not fit each other.
    """
    table = file_in(root, "meta/esc50.csv", "esc50.csv")
    files = {path.stem: path for path in audio_files(root / "audio")}
    clips: list[Clip] = []
    labels: dict[int, str] = {}
    for _, row in read_table(table, ("filename", "fold", "target", "category", "src_file")):
        path = files.pop(Path(row["filename"]).stem, None)
        if path is None:
            raise DataError(f"{root / 'audio' / row['filename']}: no such file; {table.name} lists it")
        try:
            fold, target = int(row["fold"]), int(row["target"])
        except ValueError:
            raise DataError(f"{table}: fold and target of {row['filename']} are not numbers") from None
        if labels.setdefault(target, row["category"]) != row["category"]:
            raise DataError(f"{table}: target {target} is both {labels[target]} and {row['category']}")
        clips.append(Clip(path, row["category"], f"esc-50/{row['src_file']}", fold=fold))
    if files:
        raise DataError(f"{min(files.values())}: not listed in {table}")
    return Corpus("esc-50", tuple(clips), tuple(labels[target] for target in sorted(labels)), "CC BY-NC 3.0")


def speech_commands(root: Path) -> Corpus:
    """Speech Commands V2 (Warden 2018): ``WORD/SPEAKER_nohash_N.wav`` with the official lists of clips.

    Raises:
        DataError: a missing list, a listed clip that is not there, or a file name that does not follow the layout.
    """
    parts = {
        Path(line).with_suffix("").as_posix(): part
        for name, part in _COMMAND_LISTS.items()
        for line in read_lines(file_in(root, name))
    }
    words = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))
    if not words:
        raise DataError(f"{root / 'yes'}: no such folder; expected a folder for each word")
    clips = []
    for word in words:
        for path in audio_files(root / word):
            match = _COMMAND_NAME.fullmatch(path.stem)
            if not match:
                raise DataError(f"{path}: name is not SPEAKER_nohash_NUMBER")
            part = parts.pop(f"{word}/{path.stem}", "train")
            clips.append(Clip(path, word, f"speech-commands/{match['speaker']}", part, word))
    if parts:
        raise DataError(f"{root / min(parts)}: no such file; an official list names it")
    return Corpus("speech-commands", tuple(clips), tuple(words), "CC BY 4.0")
