"""Whether a label's number is the share of times that the label is right, after so many seconds of speech. No torch.

Two numbers are looked at: while somebody speaks, the one beside the label that is shown; at the end, the one beside
each final label.

Reference: C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (expected calibration error).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import DeciderConfig
from stream_ser.events import Decision
from stream_ser.recognition.decider import Decider

from .stream_metrics import TIMES_S, Heard

#: Probabilities below this count as this in the log-likelihood.
_TINY = 1e-6
_BINS = 15


@dataclass(frozen=True)
class Confidence:
    """How right labels are, and how sure they say they are.

    Attributes:
        labels: how many were shown.
        confidence: mean of their numbers.
        accuracy: share that is right.
        ece: expected calibration error, 15 bins.
        nll: mean negative log-likelihood of the truth under the whole posterior.
    """

    labels: int
    confidence: float
    accuracy: float
    ece: float
    nll: float


def confidences(heard: Sequence[Heard], labels: tuple[str, ...], config: DeciderConfig) -> dict[str, Confidence]:
    """By seconds after the onset of speech, and ``end`` for what is final.

    A clip that is over before that time counts with the last number that was shown of it.

    Args:
        heard: streams with their predictions.
        labels: of the model.
        config: of the decider, with its calibration.
    """
    names = [*(f"{time:g}" for time in TIMES_S), "end"]
    sure: dict[str, list[tuple[float, bool]]] = {name: [] for name in names}
    loss: dict[str, list[float]] = {name: [] for name in names}
    for each in heard:
        shown, decisions = _run(each, labels, config)
        ends = np.array([end for end, *_ in shown])
        for placed in each.placed:
            truth = labels.index(placed.clip.label)
            for time in TIMES_S:
                at = min(placed.onset + round(time * each.rate), placed.offset - 1)
                place = int(np.searchsorted(ends, at, side="right")) - 1
                if place < 0:
                    continue
                _, label, confidence, posterior = shown[place]
                if label in labels:
                    sure[f"{time:g}"].append((confidence, label == placed.clip.label))
                if posterior:
                    loss[f"{time:g}"].append(-np.log(max(posterior[truth], _TINY)))
            inside = [d for d in decisions if d.utterance and d.start < placed.offset and d.end > placed.onset]
            if inside:
                final = max(inside, key=lambda d: min(d.end, placed.offset) - max(d.start, placed.onset))
                if final.label in labels:
                    sure["end"].append((final.confidence, final.label == placed.clip.label))
                if final.probabilities:
                    loss["end"].append(-np.log(max(final.probabilities[truth], _TINY)))
    return {time: _summed(pairs, loss[time]) for time, pairs in sure.items()}


def _run(
    heard: Heard, labels: tuple[str, ...], config: DeciderConfig
) -> tuple[list[tuple[int, str, float, tuple[float, ...]]], list[Decision]]:
    decider = Decider(labels, heard.rate, config)
    shown: list[tuple[int, str, float, tuple[float, ...]]] = []
    decisions: list[Decision] = []
    for prediction in heard.predictions:
        decisions += [event for event in decider.push(prediction) if isinstance(event, Decision)]
        current = decider.current
        if current is not None:
            shown.append((prediction.end, current.label, current.confidence, current.probabilities))
    decisions += [event for event in decider.flush() if isinstance(event, Decision)]
    return shown, decisions


def _summed(pairs: Sequence[tuple[float, bool]], loss: Sequence[float]) -> Confidence:
    if not pairs:
        return Confidence(0, 0.0, 0.0, 0.0, float(np.mean(loss)) if loss else 0.0)
    confidence, right = (np.array(column, dtype=np.float64) for column in zip(*pairs, strict=True))
    return Confidence(
        len(pairs), float(confidence.mean()), float(right.mean()), _ece(confidence, right), float(np.mean(loss))
    )


def _ece(confidence: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    apart = np.abs(np.bincount(bins, confidence, _BINS) - np.bincount(bins, right, _BINS))
    return float(apart.sum() / counts.sum())
