"""Where the emotion changes within an utterance: the same speech, heard afresh from a row of places.

What a network says of a whole utterance moves slowly after a change in it. So the network is started again at regular
places (:class:`Candidate`), and what it says of the speech behind one is compared with what it said of the speech
before. A place is a change where the two differ by more than a threshold, and more than at the places next to it.

The measure is the squared Hellinger distance, ``1 - sum_i sqrt(p_i q_i)``: 0 for equal distributions, 1 for those that
share no label. Of the statistics that were tried it finds the most changes at the same number of false ones.

References: E. Hellinger, "Neue Begründung der Theorie quadratischer Formen von unendlichvielen Veränderlichen", Crelle
136, 1909; D. Kifer, S. Ben-David, J. Gehrke, "Detecting Change in Data Streams", VLDB 2004 (two windows, a distance
between their distributions, a threshold).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stream_ser.events import Change

#: From one candidate to the next, seconds: a change is found no farther than half of this from its place.
CANDIDATE_S = 0.48
#: What follows a candidate is judged after so much of it, seconds.
HORIZON_S = 2.4


def hellinger(p: Sequence[float], q: Sequence[float]) -> float:
    """Squared Hellinger distance of two distributions over the same labels, 0 to 1."""
    return max(0.0, 1.0 - sum(math.sqrt(a * b) for a, b in zip(p, q, strict=True)))


@dataclass(slots=True)
class Candidate:
    """A place at which the emotion may have changed.

    Attributes:
        at: sample.
        before: probabilities of the speech before it, back to the last change or the start of the utterance.
        after: probabilities of what follows it, heard afresh; empty until the network was asked.
        judged: enough of what follows was heard.
    """

    at: int
    before: tuple[float, ...]
    after: tuple[float, ...] = ()
    judged: bool = False

    @property
    def distance(self) -> float:
        """Between before and after; 0 where either is not known."""
        return hellinger(self.before, self.after) if self.before and self.after else 0.0


class ChangeFinder:
    """Chooses among the candidates of one utterance.

    Args:
        threshold: distance from which a candidate may be a change; 1 finds none.

    Attributes:
        candidates: those that are still open, in order.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self.candidates: list[Candidate] = []

    @property
    def active(self) -> bool:
        """Whether anything can be found."""
        return self._threshold < 1.0

    def begin(self) -> None:
        """A new utterance, or a new part of one: whatever was open is forgotten."""
        self.candidates = []

    def found(self) -> Candidate | None:
        """The change that is certain now.

        A candidate is decided once the next one is judged too. Those before the decided one are dropped; if it is a
        change, :meth:`begin` is for the caller to call.
        """
        while len(self.candidates) > 1 and self.candidates[1].judged:
            first, second = self.candidates[0], self.candidates[1]
            if first.distance >= self._threshold and first.distance >= second.distance:
                return first
            del self.candidates[0]
        return None

    def last(self, latest: int) -> Candidate | None:
        """The change in what is left when the utterance ends: the best candidate, if it reaches the threshold.

        Args:
            latest: sample of the last candidate that has enough speech behind it.
        """
        left = [each for each in self.candidates if each.at <= latest and each.distance >= self._threshold]
        return max(left, key=lambda each: each.distance, default=None)


def change(candidate: Candidate) -> Change:
    """What the decider is told of a candidate that is a change."""
    return Change(candidate.at, candidate.before)
