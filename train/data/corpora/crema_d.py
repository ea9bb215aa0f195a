"""CREMA-D."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from stream_ser.errors import DataError

from .base import EMOTIONS, PARTS, Clip, Corpus, audio_files, read_table

#: What the raters were given: the voice, the face, or both.
Modality = Literal["voice", "face", "both"]

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

#: Beside the folder of the audio, or where the official archive has it.
_VOTES = ("tabulatedVotes.csv", "processedResults/tabulatedVotes.csv")
#: Columns of the votes, in the order of the labels.
_VOTE_COLUMNS = ("A", "D", "F", "H", "N", "S")
#: Leading digit of a row's number. The official table's first column, which holds them, has no name.
_MODALITY_DIGITS: dict[Modality, str] = {"voice": "1", "face": "2", "both": "3"}


def crema_d(root: Path, votes: Modality = "voice") -> Corpus:
    """CREMA-D (Cao et al. 2014): ``AudioWAV/ACTOR_SENTENCE_EMOTION_INTENSITY.wav``.

    The label is the intended emotion. Known defective clips are dropped and listed. Where ``tabulatedVotes.csv`` is
    in the folder or in its ``processedResults``, clips carry the raters' votes.

    Args:
        root: the corpus' folder.
        votes: whose votes: of the raters who were given the voice, the face, or both.

    Raises:
        DataError: missing folder, a file name that does not follow the layout, an ``actors.csv`` that does not
            name an actor of the corpus or puts one into two parts, or a table of votes that cannot be read.
    """
    parts = _parts(root)
    table = next((root / name for name in _VOTES if (root / name).is_file()), None)
    shares = _votes(table, _MODALITY_DIGITS[votes]) if table else {}
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
        clips.append(
            Clip(
                path,
                CREMA_D_EMOTIONS[emotion],
                f"crema-d/{actor}",
                parts[actor] if parts is not None else "validation" if actor in CREMA_D_VALIDATION else "train",
                CREMA_D_SENTENCES[sentence],
                votes=shares.get(path.stem, ()),
            )
        )
    return Corpus("crema-d", tuple(clips), EMOTIONS, "ODbL 1.0 + DbCL 1.0", tuple(dropped))


def _parts(root: Path) -> dict[str, str] | None:
    path = root / "actors.csv"
    if not path.is_file():
        return None
    parts: dict[str, str] = {}
    for _, row in read_table(path, ("actor", "split")):
        if row["split"] not in PARTS:
            raise DataError(f"{path}: split {row['split']!r} is not train, validation or test")
        if parts.setdefault(row["actor"], row["split"]) != row["split"]:
            raise DataError(f"{path}: actor {row['actor']} is in two parts")
    return parts


def _votes(path: Path, modality: str) -> dict[str, tuple[float, ...]]:
    """Share of the votes for each label by file stem."""
    shares = {}
    for line, row in read_table(path, ("fileName", *_VOTE_COLUMNS)):
        number = row.get("row", row.get("", ""))
        if number[:1] not in _MODALITY_DIGITS.values():
            raise DataError(
                f"{path}, line {line}: row number {number!r} does not begin with 1 (voice), 2 (face) or 3 (both); "
                f"download the table again"
            )
        if not number.startswith(modality):
            continue
        try:
            counts = [int(row[column]) for column in _VOTE_COLUMNS]
        except ValueError:
            raise DataError(f"{path}: votes of {row['fileName']} are not numbers; download the table again") from None
        if min(counts) < 0:
            raise DataError(f"{path}: votes of {row['fileName']} are negative; download the table again")
        if total := sum(counts):
            shares[row["fileName"]] = tuple(count / total for count in counts)
    return shares
