"""Where the emotion changes within an utterance: Viterbi over the evidence of each hop.

What a network says of the first ``n`` seconds of an utterance is taken for the mean of what it would say of each hop:
``n log p_n = sum_t e_t``. So what hop ``t`` adds is ``e_t = n_t log p_t - n_(t-1) log p_(t-1)``, a stretch scores
``sum_t e_t[label]``, and a change of label costs a constant. Of a network that forgets by ``exp(-t / memory)`` the same
holds with decayed sums; of one that sees a window, what left the window is added back.

Nothing that is the same for all labels matters to the path, so that log-probabilities do as well as logits.

Reference: A. Viterbi, "Error bounds for convolutional codes", 1967; a label is kept for a least duration as in the
explicit-duration model of J. Ferguson, 1980, with a flat duration above it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Probabilities below this count as this: one hop does not decide about an utterance.
LEAST_PROBABILITY = 1e-4
#: Of a window's opinion, the share that is put down to its newest hop alone.
SHARPENED = 0.5


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of one emotion.

    Attributes:
        start: first sample.
        end: one past the last.
        seconds: of speech that were heard in it.
        log_probs: mean evidence over it, unnormalised, in the order of the labels.
    """

    start: int
    end: int
    seconds: float
    log_probs: NDArray[np.float64]


def normalized(log_probs: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.float64]:
    """Log-probabilities that sum to one, of any scores divided by the temperature."""
    scaled = log_probs / temperature
    scaled = scaled - scaled.max()
    return np.asarray(scaled - math.log(float(np.exp(scaled).sum())))


class Segmenter:
    """Cuts one utterance, hop by hop.

    Args:
        cost: of a change of label, in seconds times nats.
        shortest: of a stretch, samples.
        rate: Hz.
        memory_s: of the network's mean, seconds.
    """

    def __init__(self, cost: float, shortest: int, rate: int, memory_s: float) -> None:
        self._cost, self._shortest, self._rate, self._memory_s = cost, shortest, rate, memory_s
        self.begin(0)

    def begin(self, start: int) -> None:
        """An utterance begins at sample ``start``."""
        #: Ends of the hops, the utterance's start first.
        self._edges: list[int] = [start]
        self._evidence: list[NDArray[np.float64]] = []
        self._seconds: list[float] = [0.0]
        #: Sums of the evidence up to each edge, scores of the best paths that end there by label, and where the last
        #: stretch of each begins, with the label before it.
        self._sums: list[NDArray[np.float64]] = []
        self._scores: list[NDArray[np.float64]] = []
        self._begins: list[tuple[tuple[int, int], ...]] = []
        self._last: NDArray[np.float64] | None = None
        self._last_mass = 0.0
        self._last_end = start

    def __len__(self) -> int:
        """Hops."""
        return len(self._evidence)

    def push(self, probabilities: Sequence[float], seen_from: int, end: int, seconds: float) -> None:
        """Take what the network says now.

        Args:
            probabilities: by label.
            seen_from: first sample that it looked at.
            end: one past the last sample of speech that it heard.
            seconds: of speech in the utterance so far.
        """
        log_probs = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), LEAST_PROBABILITY))
        if not self._sums:
            self._sums.append(np.zeros_like(log_probs))
            self._scores.append(np.zeros_like(log_probs))
            self._begins.append(((0, -1),) * log_probs.size)
        evidence = self._new_evidence(log_probs, seen_from, end, seconds)
        self._last, self._last_end = log_probs, end
        end = max(end, self._edges[-1])
        if self._evidence and end == self._edges[-1]:
            # No more speech than before, but another opinion of it.
            evidence += self._evidence[-1]
            for kept in (self._evidence, self._edges, self._seconds, self._sums, self._scores, self._begins):
                kept.pop()
        self._append(evidence, end, seconds)

    def _new_evidence(
        self, log_probs: NDArray[np.float64], seen_from: int, end: int, seconds: float
    ) -> NDArray[np.float64]:
        first = self._edges[0]
        if seen_from > first and self._last is not None:
            # A window that has left the beginning behind: it holds what the hops in it said.
            held = [e for e, edge in zip(self._evidence, self._edges[1:], strict=True) if edge > seen_from]
            mass = max(end - seen_from, 1) / self._rate
            self._last_mass = mass
            within = np.sum(held, axis=0) if held else np.zeros_like(log_probs)
            new = max(end - self._edges[-1], 0) / self._rate
            # All of the difference would be right for a mean without noise; with noise, errors would add up for ever.
            return np.asarray(SHARPENED * (mass * log_probs - within) + (1.0 - SHARPENED) * new * log_probs)
        mass = self._memory_s * -math.expm1(-seconds / self._memory_s)
        before = np.zeros_like(log_probs)
        if self._last is not None:
            kept = math.exp(-max(0, end - self._last_end) / self._rate / self._memory_s)
            before = kept * self._last_mass * self._last
        self._last_mass = mass
        return np.asarray(mass * log_probs - before)

    def _append(self, evidence: NDArray[np.float64], end: int, seconds: float) -> None:
        sums = self._sums[-1] + evidence
        scores = self._scores[-1] + evidence
        begins = list(self._begins[-1])
        place = self._latest_before(end - self._shortest)
        if place > 0:
            before = self._scores[place]
            order = np.argsort(before)
            best, second = int(order[-1]), int(order[-2])
            gained = sums - self._sums[place] - self._cost
            for label in range(scores.size):
                other = second if label == best else best
                score = before[other] + gained[label]
                if score > scores[label]:
                    scores[label], begins[label] = score, (place, other)
        self._evidence.append(evidence)
        self._edges.append(end)
        self._seconds.append(seconds)
        self._sums.append(sums)
        self._scores.append(scores)
        self._begins.append(tuple(begins))

    def _latest_before(self, sample: int) -> int:
        """The last edge at or before a sample from which the first stretch is long enough; 0 for none."""
        place = len(self._edges) - 1
        while place > 0 and self._edges[place] > sample:
            place -= 1
        return place if self._edges[place] - self._edges[0] >= self._shortest else 0

    @property
    def newest(self) -> Segment:
        """The stretch that goes on."""
        label = int(np.argmax(self._scores[-1]))
        return self._segment(self._begins[-1][label][0], len(self))

    def segments(self) -> list[Segment]:
        """The best path, in order."""
        found: list[Segment] = []
        end = len(self)
        label = int(np.argmax(self._scores[-1]))
        while True:
            first, before = self._begins[end][label]
            found.append(self._segment(first, end))
            if before < 0:
                return found[::-1]
            end, label = first, before

    def forget(self, end: int) -> None:
        """Keep only what lies behind sample ``end``, an edge between two stretches."""
        place = self._edges.index(end)
        evidence, edges, seconds = self._evidence[place:], self._edges[place:], self._seconds[place:]
        like = self._sums[0]
        self._edges, self._evidence, self._seconds = [edges[0]], [], [seconds[0]]
        self._sums, self._scores = [np.zeros_like(like)], [np.zeros_like(like)]
        self._begins = [((0, -1),) * like.size]
        for row, edge, heard in zip(evidence, edges[1:], seconds[1:], strict=True):
            self._append(row, edge, heard)

    def _segment(self, first: int, end: int) -> Segment:
        seconds = self._seconds[end] - self._seconds[first]
        total = self._sums[end] - self._sums[first]
        return Segment(self._edges[first], self._edges[end], seconds, total / max(seconds, 1e-6))
