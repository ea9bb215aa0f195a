"""What a stream came to, by its finished timeline: its emotion, how long each label lasts, which one when."""

from __future__ import annotations

from collections import deque

import numpy as np

from stream_ser.events import SILENCE, TOO_SHORT, UNCERTAIN, UNCLAIMED, Decision, Provisional

#: Decisions that are looked at for the emotion of a stretch: more than fall into a line of words.
_RECENT = 256


class Tally:
    """Counts what was decided of one stream.

    Args:
        labels: of the model.
        sample_rate: Hz.
        keep_judged: keep the probabilities that the whole is the mean of.

    Attributes:
        judged: those, where they are kept.
        seconds: time on each label of the timeline.
    """

    def __init__(self, labels: tuple[str, ...], sample_rate: int, keep_judged: bool) -> None:
        self._labels = labels
        self._rate = sample_rate
        self._keep_judged = keep_judged
        self.reset()

    def reset(self) -> None:
        """Back to the start of a stream."""
        self.judged: list[tuple[float, ...]] = []
        self.seconds: dict[str, float] = {}
        self._recent: deque[Decision] = deque(maxlen=_RECENT)
        self._sum = np.zeros(len(self._labels))
        self._weight = 0
        #: Samples of each label, and those times their confidence: whole numbers first, so that ties are exact.
        self._samples: dict[str, int] = {}
        self._sure: dict[str, float] = {}

    def decided(self, decision: Decision) -> None:
        """A stretch of the timeline is final."""
        samples, label = decision.end - decision.start, decision.label
        self._samples[label] = self._samples.get(label, 0) + samples
        self._sure[label] = self._sure.get(label, 0.0) + samples * decision.confidence
        self.seconds[label] = self._samples[label] / self._rate
        self._recent.append(decision)
        if decision.probabilities:
            self._sum += samples * np.array(decision.probabilities)
            self._weight += samples
            if self._keep_judged:
                self.judged.append(decision.probabilities)

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Mean over the speech that was judged, by time; none where nothing was."""
        return tuple((self._sum / self._weight).tolist()) if self._weight else ()

    @property
    def label(self) -> str:
        """The emotion that lasts longest, the surer one of equals; else why there is none."""
        claimed = [label for label in self._samples if label not in UNCLAIMED]
        if claimed:
            return max(claimed, key=lambda label: (self._samples[label], self._sure[label]))
        return next((label for label in (UNCERTAIN, TOO_SHORT) if label in self._samples), SILENCE)

    @property
    def confidence(self) -> float:
        """Mean confidence of the stretches with :attr:`label`, by time."""
        label = self.label
        return self._sure[label] / self._samples[label] if self._samples.get(label) else 0.0

    def during(self, start: int, end: int, current: Provisional | None) -> str:
        """The emotion of most of ``[start, end)``; uncertain where there is none.

        Args:
            start: sample.
            end: sample.
            current: what is shown now of what is not final yet.
        """
        samples: dict[str, int] = {}
        stretches = [(decision.label, decision.start, decision.end) for decision in self._recent]
        if current is not None:
            stretches.append((current.label, current.start, end))
        for label, first, last in stretches:
            if label not in UNCLAIMED:
                samples[label] = samples.get(label, 0) + max(0, min(last, end) - max(first, start))
        best = max(samples, key=lambda label: samples[label], default=UNCERTAIN)
        return best if samples.get(best, 0) else UNCERTAIN
