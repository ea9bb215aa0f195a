"""Corpora in their official layouts. Reading one needs no torch.

Each loader takes the corpus' folder and gives a :class:`Corpus`; any of .wav, .flac, .ogg and .mp3 will do for the
audio. Known defects are left out and listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from stream_ser.errors import DataError

from .acted import emo_db, nemo, ravdess, savee, tess
from .base import AUDIO_SUFFIXES, EMOTIONS, PARTS, Clip, Corpus, audio_files
from .crema_d import CREMA_D_DEFECTS, CREMA_D_EMOTIONS, CREMA_D_SENTENCES, CREMA_D_VALIDATION, Modality, crema_d
from .own import UNKNOWN_SPEAKER, folder, manifest
from .sounds import esc_50, speech_commands
from .speech import NO_LABEL, an4, librispeech, speechocean762

__all__ = [
    "AUDIO_SUFFIXES",
    "CORPORA",
    "CREMA_D_DEFECTS",
    "CREMA_D_EMOTIONS",
    "CREMA_D_SENTENCES",
    "CREMA_D_VALIDATION",
    "EMOTIONS",
    "NO_LABEL",
    "OWN",
    "PARTS",
    "UNKNOWN_SPEAKER",
    "Clip",
    "Corpus",
    "Modality",
    "an4",
    "audio_files",
    "crema_d",
    "emo_db",
    "esc_50",
    "folder",
    "librispeech",
    "load",
    "manifest",
    "nemo",
    "parse_data_option",
    "ravdess",
    "savee",
    "speech_commands",
    "speechocean762",
    "tess",
]

CORPORA: dict[str, Callable[[Path], Corpus]] = {
    "crema-d": crema_d,
    "ravdess": ravdess,
    "tess": tess,
    "savee": savee,
    "emo-db": emo_db,
    "nemo": nemo,
    "esc-50": esc_50,
    "speech-commands": speech_commands,
    "librispeech": librispeech,
    "an4": an4,
    "speechocean762": speechocean762,
    "folder": folder,
    "csv": manifest,
}
#: The user's own recordings, of which several may be joined.
OWN = ("folder", "csv")


def parse_data_option(values: Iterable[str]) -> list[tuple[str, Path]]:
    """Parse ``CORPUS=PATH`` options.

    Raises:
        DataError: no option, no ``=``, an unknown corpus, or one named twice.
    """
    pairs: list[tuple[str, Path]] = []
    for value in values:
        name, equals, path = value.partition("=")
        if not equals or not path:
            raise DataError(f"{value!r}: expected CORPUS=PATH, such as crema-d=/data/crema-d")
        if name not in CORPORA:
            raise DataError(f"{value!r}: unknown corpus {name!r}; known: {', '.join(sorted(CORPORA))}")
        # The shell leaves the tilde in crema-d=~/data alone.
        pair = (name, Path(path).expanduser())
        if pair in pairs or (name not in OWN and name in dict(pairs)):
            raise DataError(f"{value!r}: {name} is given twice; leave one out")
        pairs.append(pair)
    if not pairs:
        raise DataError("--data CORPUS=PATH is needed, such as --data crema-d=/data/crema-d")
    return pairs


def load(name: str, root: Path, votes: Modality = "voice") -> Corpus:
    """Load a corpus by name.

    Args:
        name: one of :data:`CORPORA`.
        root: its folder; the manifest's file for ``csv``.
        votes: of CREMA-D's raters, those who were given the voice, the face, or both.

    Raises:
        DataError: unknown name, or a folder that is not in the official layout.
    """
    if name not in CORPORA:
        raise DataError(f"unknown corpus {name!r}; known: {', '.join(sorted(CORPORA))}")
    if name == "csv":
        if not root.is_file():
            what = "a folder" if root.is_dir() else "no such file"
            raise DataError(f"{root}: {what}; expected a CSV manifest with the columns path and label")
    elif not root.is_dir():
        what = "a file" if root.exists() else "no such folder"
        layout = "a folder of label sub-folders" if name == "folder" else f"the folder of {name} in its official layout"
        raise DataError(f"{root}: {what}; expected {layout}")
    return crema_d(root, votes) if name == "crema-d" else CORPORA[name](root)
