"""What a stream came to: the emotion of the whole, how long each was shown, and which one when."""

from __future__ import annotations

from collections import deque

import numpy as np

from stream_ser.events import SILENCE, UNCERTAIN, Decision

#: Decisions that are looked at for the emotion of a stretch: more than fall into a line of words.
_RECENT = 256


class Tally:
    """Counts what is said of one stream.

    Args:
        labels: of the model.
        sample_rate: Hz.
        keep_judged: keep what the emotion of the whole is the mean of.

    Attributes:
        judged: that, where it is kept.
        seconds: time on each label that was shown.
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
        self._fullest = 0
        self._sum = np.zeros(len(self._labels))
        self._weight = 0

    def window(self, fill: int, probabilities: tuple[float, ...]) -> None:
        """A window was judged that holds ``fill`` frames of audio.

        The whole stream is judged by its fullest windows: those without padding, or else the longest one.
        """
        if fill < self._fullest:
            return
        if fill > self._fullest:
            self._fullest, self._weight = fill, 0
            self._sum[:] = 0.0
            self.judged.clear()
        self.speech(1, probabilities)

    def speech(self, weight: int, probabilities: tuple[float, ...]) -> None:
        """Something was judged that counts for the whole stream in proportion to its weight."""
        self._sum += weight * np.array(probabilities)
        self._weight += weight
        if self._keep_judged:
            self.judged.append(probabilities)

    def decided(self, decision: Decision) -> None:
        """A stretch of the timeline has ended."""
        seconds = (decision.end - decision.start) / self._rate
        self.seconds[decision.label] = self.seconds.get(decision.label, 0.0) + seconds
        self._recent.append(decision)

    def whole(self, abstain_below: float) -> tuple[str, tuple[float, ...]]:
        """Label and mean probabilities of the stream so far; silence, and none, where nobody spoke."""
        if not self._weight:
            return SILENCE, ()
        probabilities = tuple((self._sum / self._weight).tolist())
        best = max(probabilities)
        return self._labels[probabilities.index(best)] if best >= abstain_below else UNCERTAIN, probabilities

    def shown(self, start: int, end: int, current: Decision | None) -> str:
        """The emotion that was shown for most of ``[start, end)``; uncertain where none was.

        Args:
            start: sample.
            end: sample.
            current: what is shown now, and goes on.
        """
        samples: dict[str, int] = {}
        stretches = [(decision.label, decision.start, decision.end) for decision in self._recent]
        if current is not None:
            stretches.append((current.label, current.start, end))
        for label, first, last in stretches:
            if label not in (SILENCE, UNCERTAIN):
                samples[label] = samples.get(label, 0) + max(0, min(last, end) - max(first, start))
        best = max(samples, key=lambda label: samples[label], default=UNCERTAIN)
        return best if samples.get(best, 0) else UNCERTAIN
