"""What the network is asked for: class targets from labels and raters' votes, and the balance between classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_ser.errors import TrainError
from stream_ser.train.config import TrainConfig
from stream_ser.train.data.corpora import Clip


def class_indices(clips: Sequence[Clip], labels: Sequence[str]) -> NDArray[np.int64]:
    """Index of each clip's label, ``(clips,)``.

    Raises:
        TrainError: a label that is not one of ``labels``.
    """
    index = {label: number for number, label in enumerate(labels)}
    for clip in clips:
        if clip.label not in index:
            raise TrainError(f"{clip.path}: label {clip.label!r} is not one of {', '.join(labels)}")
    return np.asarray([index[clip.label] for clip in clips], dtype=np.int64)


def training_targets(clips: Sequence[Clip], labels: Sequence[str], votes: float) -> NDArray[np.float32]:
    """Distributions over the classes, ``(clips, classes)``: the label and, where raters voted, what they heard.

    The label is one-hot and counts ``1 - votes``, the raters' shares count ``votes``. A clip without votes keeps its
    label. Reference: Steidl et al. 2005; Fayek et al. 2016 ("Modeling subjectiveness in emotion recognition ...").

    Raises:
        TrainError: votes for another number of classes.
    """
    targets = np.eye(len(labels), dtype=np.float32)[class_indices(clips, labels)]
    if votes <= 0.0:
        return targets
    for row, clip in enumerate(clips):
        if clip.votes and len(clip.votes) != len(labels):
            raise TrainError(f"{clip.path}: {len(clip.votes)} votes for {len(labels)} labels ({', '.join(labels)})")
        heard = np.asarray(clip.votes, dtype=np.float32)
        if heard.sum() > 0.0:
            targets[row] = (1.0 - votes) * targets[row] + votes * heard / heard.sum()
    return targets


def class_weights(clips: Sequence[Clip], labels: Sequence[str]) -> NDArray[np.float32]:
    """Weight of each class in the loss, ``(classes,)``: inverse to its count, 1 on average over the clips."""
    counts = np.bincount(class_indices(clips, labels), minlength=len(labels)).astype(np.float64)
    present = counts > 0
    share = np.divide(1.0, counts, out=np.zeros_like(counts), where=present)
    return np.asarray(share * len(clips) / present.sum(), dtype=np.float32)


def sampling_probabilities(clips: Sequence[Clip], labels: Sequence[str]) -> NDArray[np.float64]:
    """Probability of each clip to be drawn, ``(clips,)``, by which every class is drawn equally often."""
    drawn = class_weights(clips, labels).astype(np.float64)[class_indices(clips, labels)]
    return np.asarray(drawn / drawn.sum())


def balance(
    clips: Sequence[Clip], labels: Sequence[str], config: TrainConfig
) -> tuple[NDArray[np.float32] | None, NDArray[np.float64] | None]:
    """Class weights of the loss and drawing probabilities of the clips; None where ``config.balance`` asks for none."""
    return (
        class_weights(clips, labels) if config.balance == "weights" else None,
        sampling_probabilities(clips, labels) if config.balance == "sampling" else None,
    )
