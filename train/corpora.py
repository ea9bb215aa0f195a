"""Corpora in their official layouts. Reading one needs no torch."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from stream_ser.errors import DataError

#: The formats in which corpora come; stream_ser.cli.file takes whatever libsndfile reads.
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
#: The labels of every emotion corpus here, in the order of the networks' outputs.
EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad")


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled recording.

    Attributes:
        path: audio file.
        label: one of the corpus' labels.
        speaker: unique within the corpus, prefixed with its name.
        part: ``train`` or ``validation`` where the corpus comes with a fixed list, else empty.
        text: what is said, where known.
    """

    path: Path
    label: str
    speaker: str
    part: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Corpus:
    """A loaded corpus.

    Attributes:
        name: such as ``crema-d``.
        clips: in a fixed order (by file name).
        labels: classes, in the order of the networks' outputs.
        licence: terms that bind what is trained on it.
        dropped: defective clips that were left out, as (file stem, reason).
    """

    name: str
    clips: tuple[Clip, ...]
    labels: tuple[str, ...]
    licence: str
    dropped: tuple[tuple[str, str], ...] = field(default=())

    def describe(self) -> str:
        """One line for people: clips, speakers, labels, what was dropped."""
        counts = Counter(clip.label for clip in self.clips)
        speakers = len({clip.speaker for clip in self.clips})
        labels = ", ".join(f"{label} {counts[label]}" for label in self.labels)
        dropped = f"; dropped {len(self.dropped)} defective" if self.dropped else ""
        return f"{self.name}: {len(self.clips)} clips, {speakers} speakers ({labels}){dropped}"


CREMA_D_EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
CREMA_D_SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
CREMA_D_DEFECTS = {
    "1076_MTI_SAD_XX": "digital silence",
    "1006_TIE_HAP_XX": "same audio as 1006_TIE_NEU_XX under another label",
    "1006_TIE_NEU_XX": "same audio as 1006_TIE_HAP_XX under another label",
    "1013_WSI_DIS_XX": "same audio as 1013_WSI_SAD_XX under another label",
    "1013_WSI_SAD_XX": "same audio as 1013_WSI_DIS_XX under another label",
}
#: Speaker-disjoint validation actors. An ``actors.csv`` in the corpus folder (actor,split) takes precedence.
CREMA_D_VALIDATION = ("1009", "1011", "1022", "1034", "1039", "1047", "1066", "1070", "1082")


def audio_files(folder: Path) -> list[Path]:
    """Audio files right inside ``folder``, by name.

    Raises:
        DataError: no such folder, no audio in it, or two files with the same stem.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected the corpus in its official layout")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        raise DataError(f"{folder}: no audio file ({', '.join(AUDIO_SUFFIXES)}) in it")
    twice = [stem for stem, count in Counter(path.stem for path in files).items() if count > 1]
    if twice:
        raise DataError(f"{folder}: {twice[0]} is there in more than one format; keep one")
    return files


def crema_d(root: Path) -> Corpus:
    """CREMA-D (Cao et al. 2014): ``AudioWAV/ACTOR_SENTENCE_EMOTION_INTENSITY.wav``.

    The label is the intended emotion. Known defective clips are dropped and listed.

    Raises:
        DataError: missing folder, a file name that does not follow the layout, or an ``actors.csv`` that does not
            name an actor of the corpus or puts one into two parts.
    """
    parts = _crema_d_parts(root)
    clips, dropped = [], []
    for path in audio_files(root / "AudioWAV"):
        if path.stem in CREMA_D_DEFECTS:
            dropped.append((path.stem, CREMA_D_DEFECTS[path.stem]))
            continue
        fields = path.stem.split("_")
        if len(fields) != 4 or fields[1] not in CREMA_D_SENTENCES or fields[2] not in CREMA_D_EMOTIONS:
            raise DataError(f"{path}: name is not ACTOR_SENTENCE_EMOTION_INTENSITY with the corpus' codes")
        actor, sentence, emotion, _ = fields
        if parts is not None and actor not in parts:
            raise DataError(f"{root / 'actors.csv'}: actor {actor} of {path.name} is not listed")
        part = parts[actor] if parts is not None else "validation" if actor in CREMA_D_VALIDATION else "train"
        clips.append(Clip(path, CREMA_D_EMOTIONS[emotion], f"crema-d/{actor}", part, CREMA_D_SENTENCES[sentence]))
    return Corpus("crema-d", tuple(clips), EMOTIONS, "ODbL 1.0 + DbCL 1.0", tuple(dropped))


def _crema_d_parts(root: Path) -> dict[str, str] | None:
    path = root / "actors.csv"
    if not path.is_file():
        return None
    parts: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not {"actor", "split"} <= set(reader.fieldnames or ()):
            raise DataError(f"{path}: needs the columns actor and split")
        for row in reader:
            if row["split"] not in ("train", "validation", "test"):
                raise DataError(f"{path}: split {row['split']!r} is not train, validation or test")
            if parts.setdefault(row["actor"], row["split"]) != row["split"]:
                raise DataError(f"{path}: actor {row['actor']} is in two parts")
    return parts


CORPORA: dict[str, Callable[[Path], Corpus]] = {"crema-d": crema_d}


def parse_data_option(values: Iterable[str]) -> list[tuple[str, Path]]:
    """Parse ``CORPUS=PATH`` options.

    Raises:
        DataError: no option, no ``=``, an unknown corpus, or one named twice.
    """
    pairs: list[tuple[str, Path]] = []
    for value in values:
        name, equals, path = value.partition("=")
        if not equals or not path:
            raise DataError(f"--data {value!r}: expected CORPUS=PATH, such as crema-d=/data/crema-d")
        if name not in CORPORA:
            raise DataError(f"--data {value!r}: unknown corpus {name!r}; known: {', '.join(sorted(CORPORA))}")
        if name in dict(pairs):
            raise DataError(f"--data: {name} is given twice")
        pairs.append((name, Path(path)))
    if not pairs:
        raise DataError("--data CORPUS=PATH is needed, such as --data crema-d=/data/crema-d")
    return pairs


def load(name: str, root: Path) -> Corpus:
    """Load a corpus by name.

    Raises:
        DataError: unknown name, or a folder that is not in the official layout.
    """
    if name not in CORPORA:
        raise DataError(f"unknown corpus {name!r}; known: {', '.join(sorted(CORPORA))}")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected {name} in its official layout")
    return CORPORA[name](root)
