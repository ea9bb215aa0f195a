"""What a teacher said of every clip, computed once and read from a file: class posteriors and features to be learnt.

The file is an ``.npz`` of ``keys`` (:func:`key_of` each clip), ``labels``, ``posterior`` ``(clips, labels)`` with rows
of zeros where the teacher says nothing, ``features`` ``(clips, width)`` with unit variance, likewise, and ``about``,
one line on the teacher. ``python -m stream_ser.train.experiments.teacher`` writes one.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from stream_ser.errors import TrainError

from .corpora import Clip


def key_of(clip: Clip) -> str:
    """The name of a clip in a teacher's file: speaker, which names the corpus, and file stem."""
    return f"{clip.speaker}/{clip.path.stem}"


@dataclass(frozen=True)
class Taught:
    """A teacher's file.

    Attributes:
        name: of the file, what the teacher was and a fingerprint of its values, for the record.
        rows: row of each clip, by key.
        labels: of the posteriors.
        posterior: ``(rows, labels)``.
        features: ``(rows, width)``.
    """

    name: str
    rows: dict[str, int]
    labels: tuple[str, ...]
    posterior: NDArray[np.float32]
    features: NDArray[np.float32]

    @classmethod
    def read(cls, path: Path) -> Taught:
        """Read a file.

        Raises:
            TrainError: not readable, or not a teacher's file.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                keys, labels, about = file["keys"].tolist(), tuple(file["labels"].tolist()), str(file["about"])
                posterior, features = (file[name].astype(np.float32) for name in ("posterior", "features"))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise TrainError(f"{path}: not a teacher's file ({type(error).__name__}: {error})") from None
        if posterior.shape != (len(keys), len(labels)) or features.ndim != 2 or len(features) != len(keys):
            raise TrainError(f"{path}: posterior {posterior.shape} and features {features.shape} for {len(keys)} clips")
        digest = hashlib.sha256(posterior.tobytes() + features.tobytes()).hexdigest()[:12]
        return cls(
            f"{path.name}: {about} [{digest}]",
            dict(zip(keys, range(len(keys)), strict=True)),
            labels,
            posterior,
            features,
        )

    def soften(self, targets: NDArray[np.float32], clips: Sequence[Clip], labels: Sequence[str], share: float) -> None:
        """Mix ``share`` of the teacher's posterior into ``targets`` ``(clips, labels)``, where it says something.

        Raises:
            TrainError: the teacher has other labels.
        """
        if tuple(labels) != self.labels:
            raise TrainError(f"{self.name}: labels {', '.join(self.labels)}, the network has {', '.join(labels)}")
        for row, clip in enumerate(clips):
            place = self.rows.get(key_of(clip))
            if place is not None and self.posterior[place].sum() > 0.0:
                targets[row] = (1.0 - share) * targets[row] + share * self.posterior[place]

    def features_of(self, clips: Sequence[Clip]) -> NDArray[np.float32]:
        """``(clips, width)``, zeros for a clip that the teacher has not heard."""
        found = np.zeros((len(clips), self.features.shape[1]), np.float32)
        for row, clip in enumerate(clips):
            place = self.rows.get(key_of(clip))
            if place is not None:
                found[row] = self.features[place]
        return found


def feature_loss(said: Tensor, features: Tensor) -> Tensor:
    """Mean squared error over the clips that have features (rows that are not zeros), 0 without any.

    Args:
        said: ``(batch, width)``.
        features: ``(batch, width)``.
    """
    known = features.abs().sum(dim=1) > 0.0
    if not bool(known.any()):
        return said.sum() * 0.0
    return F.mse_loss(said[known].float(), features[known].float())


def ordinary_targets(clips: int, labels: Sequence[str], neutral: float) -> NDArray[np.float32]:
    """Weak targets of plain speech ``(clips, labels)``: ``neutral`` of each for neutral, the rest shared by the others.

    Nobody labelled such speech. That it is mostly neutral, and that no emotion stands out, is an assumption.

    Raises:
        TrainError: the labels have no neutral.
    """
    if "neutral" not in labels:
        raise TrainError(f"plain speech needs the label neutral; there are {', '.join(labels)}")
    row = np.full(len(labels), (1.0 - neutral) / max(1, len(labels) - 1), np.float32)
    row[list(labels).index("neutral")] = neutral
    return np.tile(row, (clips, 1))


def hold_out_speakers(
    clips: Sequence[Clip], share: float = 0.2, seed: int = 0
) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
    """Hold out the clips of drawn speakers, and official test and validation clips: those to train on, and the others.

    Which speakers are held out depends on their names and the seed alone, not on which others there are.
    """

    def held(clip: Clip) -> bool:
        if clip.part in ("validation", "test"):
            return True
        digest = hashlib.sha256(f"{seed}/{clip.speaker}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < share * 2**64

    return tuple(c for c in clips if not held(c)), tuple(c for c in clips if held(c))
