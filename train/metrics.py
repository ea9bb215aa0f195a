"""Classification and calibration metrics, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
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


def answers(probabilities: Floats) -> Ints:
    """The most probable class of each row ``(clips, classes)``; -1 where all are alike, for nothing is claimed then."""
    return np.where(np.ptp(probabilities, axis=1) > 0.0, probabilities.argmax(axis=1), -1)


def present_classes(truth: Ints, classes: int) -> NDArray[np.bool_]:
    """Which classes occur in ``truth``, ``(classes,)``."""
    return np.bincount(truth, minlength=classes) > 0


def restrict(probabilities: Floats, classes: NDArray[np.bool_]) -> Floats:
    """The posterior given that the answer is one of some classes: 0 for the others, divided by the sum of the rest.

    A corpus without a class (nEMO has no disgust) is scored so: the model knows which classes there are. A row that
    claims nothing (:func:`answers`) stays as it is; so does one whose probability all lies on the other classes, which
    is then wrong.

    Args:
        probabilities: ``(clips, classes)``.
        classes: which may be answered, ``(classes,)``, or one row a clip.
    """
    kept = np.where(classes, probabilities, 0.0)
    sums = kept.sum(axis=1, keepdims=True)
    changed = (answers(probabilities) >= 0) & (sums[:, 0] > 0.0) & ~np.all(classes, axis=-1)
    return np.where(changed[:, None], kept / np.where(sums > 0.0, sums, 1.0), probabilities)


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Softmax over the last axis of ``logits / temperature``, in float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    exponentials = np.exp(scaled)
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def clip_means(values: Floats, owners: Ints) -> Floats:
    """Mean of window rows ``(windows, classes)`` over the windows of each clip, ``(clips, classes)``."""
    count = np.bincount(owners).astype(np.float64)
    sums = np.stack([np.bincount(owners, weights=column) for column in values.T], axis=1)
    return np.asarray(sums / count[:, None])


@dataclass(frozen=True)
class Reliability:
    """Bins of a reliability diagram; those without a clip have confidence and accuracy 0.

    Attributes:
        counts: clips, ``(bins,)``.
        confidence: mean top probability, ``(bins,)``.
        accuracy: share that is right, ``(bins,)``.
    """

    counts: Ints
    confidence: Floats
    accuracy: Floats

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean distance of confidence and accuracy over the clips."""
        return float((self.counts * np.abs(self.accuracy - self.confidence)).sum() / max(self.counts.sum(), 1))


def reliability(probabilities: Floats, truth: Ints, bins: int = 15) -> Reliability:
    """Clips by their top probability, in bins of equal width (Naeini et al. 2015; Guo et al. 2017).

    Clips of which nothing is claimed (:func:`answers`) are in none.
    """
    predicted = answers(probabilities)
    claimed = predicted >= 0
    confidence = probabilities.max(axis=1)[claimed]
    correct = (predicted == truth)[claimed].astype(np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    divisor = np.maximum(counts, 1)
    return Reliability(
        counts,
        np.bincount(index, weights=confidence, minlength=bins) / divisor,
        np.bincount(index, weights=correct, minlength=bins) / divisor,
    )


def ece(probabilities: Floats, truth: Ints, bins: int = 15) -> float:
    """Expected calibration error, see :func:`reliability`. 0 is perfect; few clips make it look larger than it is."""
    return reliability(probabilities, truth, bins).ece


def calibrated_ece(probabilities: Floats, draws: int = 200, seed: int = 0) -> tuple[float, float, float]:
    """What :func:`ece` shows of a model that is perfectly calibrated, for so many clips: it is never 0.

    The truth is drawn from the probabilities themselves. (J. Bröcker and L. A. Smith, "Increasing the reliability of
    reliability diagrams", Weather and Forecasting 22, 2007.)

    Args:
        probabilities: ``(clips, classes)``; rows of zeros claim nothing and are left out.
        draws: of the truth of all clips.
        seed: of the draws.

    Returns:
        mean, and the quantiles .05 and .95.
    """
    claimed = probabilities[answers(probabilities) >= 0]
    if not len(claimed):
        return 0.0, 0.0, 0.0
    limits = np.cumsum(claimed, axis=1)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        point = rng.random((len(claimed), 1)) * limits[:, -1:]
        found.append(ece(claimed, (limits <= point).sum(axis=1).astype(np.int64)))
    low, high = np.quantile(found, [0.05, 0.95])
    return float(np.mean(found)), float(low), float(high)


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
        confusion: rows are truth; clips of which nothing is claimed are in no column.
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

    Classes that do not occur in ``truth`` have no recall and are left out of UAR and F1. A clip of which nothing is
    claimed (:func:`answers`) is wrong.

    Raises:
        ValueError: shapes that do not fit, no clips, or values that are not finite.
    """
    if probabilities.ndim != 2 or len(probabilities) != len(truth) or not len(truth):
        raise ValueError(f"probabilities {probabilities.shape} do not fit truth {truth.shape}")
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities hold NaN or infinity")
    classes = probabilities.shape[1]
    predicted = answers(probabilities)
    answered = predicted >= 0
    matrix = confusion_matrix(truth[answered], predicted[answered], classes)
    hits, actual, claimed = matrix.diagonal(), np.bincount(truth, minlength=classes), matrix.sum(axis=0)
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


@dataclass(frozen=True)
class SpeakerScore:
    """How well one speaker is understood; UAR over the classes that the speaker has clips of."""

    speaker: str
    clips: int
    wa: float
    uar: float


def score_speakers(probabilities: Floats, truth: Ints, speakers: Sequence[str]) -> list[SpeakerScore]:
    """Score each speaker alone, from the best UAR to the worst; shapes as for :func:`score`."""
    names = np.asarray(speakers)
    found = []
    for speaker in sorted(set(speakers)):
        own = score(probabilities[names == speaker], truth[names == speaker])
        found.append(SpeakerScore(str(speaker), own.clips, own.wa, own.uar))
    return sorted(found, key=lambda row: (-row.uar, row.speaker))


def uar_interval(
    probabilities: Floats,
    truth: Ints,
    speakers: Sequence[str],
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the UAR over speakers (Efron & Tibshirani 1993).

    Clips of one speaker are not independent, so whole speakers are drawn. The interval tells how far the UAR would move
    with other speakers, not with another seed of the training.

    Returns:
        lower and upper end, or None for fewer than two speakers.
    """
    names, owner = np.unique(np.asarray(speakers), return_inverse=True)
    if len(names) < 2:
        return None
    shape = (len(names), probabilities.shape[1])
    clips, hits = np.zeros(shape), np.zeros(shape)
    np.add.at(clips, (owner, truth), 1.0)
    np.add.at(hits, (owner, truth), answers(probabilities) == truth)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1.0 / len(names)), size=draws).astype(np.float64)
    clips, hits = drawn @ clips, drawn @ hits
    present = clips > 0
    uar = np.divide(hits, clips, out=np.zeros_like(hits), where=present).sum(axis=1) / present.sum(axis=1)
    low, high = np.quantile(uar, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def fit_temperature(logits: Floats, truth: Ints) -> float:
    """The temperature that minimises the negative log-likelihood (Guo et al. 2017), within [0.1, 10].

    Args:
        logits: ``(clips, classes)``.
        truth: ``(clips,)``.
    """
    return fit_temperature_windows(logits, np.arange(len(truth)), truth)


def fit_temperature_windows(logits: Floats, owners: Ints, truth: Ints) -> float:
    """The temperature for clips of several windows, within [0.1, 10].

    The runtime divides each window's logits by the temperature and averages the windows' probabilities over the clip.
    This is the temperature at which those averages have the smallest negative log-likelihood. A temperature for the
    clip's mean logits is another one: averaging probabilities makes them less sure by itself.

    Args:
        logits: ``(windows, classes)``.
        owners: clip that each window belongs to, ``(windows,)``; each clip has a window.
        truth: ``(clips,)``.

    Raises:
        ValueError: shapes that do not fit, or a clip without a window.
    """
    count = np.bincount(owners, minlength=len(truth)).astype(np.float64)
    if len(owners) != len(logits) or len(count) != len(truth) or not len(truth) or not count.all():
        raise ValueError(f"logits {logits.shape} with owners {owners.shape} do not fit {len(truth)} clips")
    # Differences from the true class' logit: what is left of the softmax is one over a sum.
    margins = np.asarray(logits, dtype=np.float64) - np.take_along_axis(logits, truth[owners][:, None], axis=1)

    def nll(log_temperature: float) -> float:
        with np.errstate(over="ignore"):  # an infinite sum is a probability of zero
            chosen = 1.0 / np.exp(margins / np.exp(log_temperature)).sum(axis=1)
        return float(-np.log(np.clip(np.bincount(owners, weights=chosen) / count, 1e-12, None)).mean())

    # A grid, for the likelihood of averages need not be unimodal; around its best, golden sections.
    grid = np.linspace(np.log(0.1), np.log(10.0), 24)
    best = int(np.argmin([nll(value) for value in grid]))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    ratio = (np.sqrt(5.0) - 1.0) / 2.0
    for _ in range(30):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if nll(left) < nll(right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2.0))


def cross_fitted_ece(
    logits: Floats, owners: Ints, truth: Ints, speakers: Sequence[str], *, repeats: int = 5, seed: int = 0
) -> float | None:
    """ECE of clips whose temperature was fitted on other speakers: what calibration brings on people not met before.

    The speakers are halved at random; each half's clips are calibrated with the temperature of the other half, and the
    ECE is taken over all clips. Mean over ``repeats`` halvings. Other arguments as for :func:`fit_temperature_windows`.

    Args:
        logits: ``(windows, classes)``.
        owners: ``(windows,)``.
        truth: ``(clips,)``.
        speakers: of each clip.
        repeats: halvings.
        seed: of the halvings.

    Returns:
        the ECE, or None for fewer than two speakers.
    """
    names, speaker = np.unique(np.asarray(speakers), return_inverse=True)
    if len(names) < 2:
        return None
    rng = np.random.default_rng(seed)
    errors = []
    for _ in range(repeats):
        side = np.zeros(len(names), dtype=bool)
        side[rng.permutation(len(names))[: len(names) // 2]] = True
        first = side[speaker]
        scale = np.empty(len(truth))
        for half in (first, ~first):
            windows = half[owners]
            renumbered = np.cumsum(half) - 1
            fitted = fit_temperature_windows(logits[windows], renumbered[owners[windows]], truth[half])
            scale[~half] = fitted
        errors.append(ece(clip_means(softmax(logits / scale[owners][:, None]), owners), truth))
    return float(np.mean(errors))
