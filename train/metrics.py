"""Classification and calibration metrics, in numpy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def confusion_matrix(truth: Ints, predicted: Ints, classes: int) -> Ints:
    """Counts ``(classes, classes)``: row = truth, column = prediction."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (truth, predicted), 1)
    return matrix


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Softmax over the last axis of ``logits / temperature``, in float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    exponentials = np.exp(scaled)
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def ece(probabilities: Floats, truth: Ints, bins: int = 15) -> float:
    """Expected calibration error with equal-width bins of the top probability (Naeini et al. 2015; Guo et al. 2017)."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == truth
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    error = 0.0
    for bin_index in range(bins):
        inside = index == bin_index
        if inside.any():
            error += float(inside.mean()) * abs(float(correct[inside].mean() - confidence[inside].mean()))
    return error


@dataclass(frozen=True)
class Scores:
    """Scores of one set of predictions.

    Attributes:
        clips: number of clips.
        wa: weighted accuracy, the share of clips that are right.
        uar: unweighted average recall, the mean over the classes of their recall.
        f1: macro F1.
        ece: expected calibration error, 15 bins.
        nll: mean negative log-likelihood, nats.
        recall: recall of each class.
        confusion: rows are truth.
    """

    clips: int
    wa: float
    uar: float
    f1: float
    ece: float
    nll: float
    recall: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def score(probabilities: Floats, truth: Ints) -> Scores:
    """Score ``probabilities`` ``(clips, classes)`` against ``truth`` ``(clips,)``.

    Classes that do not occur in ``truth`` have no recall and are left out of UAR and F1.

    Raises:
        ValueError: shapes that do not fit, no clips, or values that are not finite.
    """
    if probabilities.ndim != 2 or len(probabilities) != len(truth) or not len(truth):
        raise ValueError(f"probabilities {probabilities.shape} do not fit truth {truth.shape}")
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities hold NaN or infinity")
    classes = probabilities.shape[1]
    matrix = confusion_matrix(truth, probabilities.argmax(axis=1), classes)
    hits, actual, claimed = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    present = actual > 0
    recall = np.divide(hits, actual, out=np.zeros(classes), where=present)
    f1 = np.divide(2 * hits, actual + claimed, out=np.zeros(classes), where=actual + claimed > 0)
    likelihood = np.clip(probabilities[np.arange(len(truth)), truth], 1e-12, None)
    return Scores(
        clips=len(truth),
        wa=float(hits.sum() / len(truth)),
        uar=float(recall[present].mean()),
        f1=float(f1[present].mean()),
        ece=ece(probabilities, truth),
        nll=float(-np.log(likelihood).mean()),
        recall=tuple(map(float, recall)),
        confusion=tuple(tuple(map(int, row)) for row in matrix),
    )


def fit_temperature(logits: Floats, truth: Ints) -> float:
    """The temperature that minimises the negative log-likelihood (Guo et al. 2017), within [0.1, 10].

    Args:
        logits: ``(clips, classes)``.
        truth: ``(clips,)``.
    """

    def nll(log_temperature: float) -> float:
        chosen = softmax(logits, float(np.exp(log_temperature)))[np.arange(len(truth)), truth]
        return float(-np.log(np.clip(chosen, 1e-12, None)).mean())

    # Golden-section search: the likelihood is unimodal in the temperature.
    low, high, ratio = np.log(0.1), np.log(10.0), (np.sqrt(5.0) - 1.0) / 2.0
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if nll(left) < nll(right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2.0))
