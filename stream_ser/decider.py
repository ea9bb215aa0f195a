"""From a stream of probabilities to a timeline that a person can read.

Probabilities are smoothed; a label takes over only with a lead, and only when it keeps that lead (hysteresis and
minimum hold); where nothing reaches the abstention threshold the timeline says ``uncertain``; where it is quiet it says
``silence``.
"""

from __future__ import annotations

import math

from stream_ser.config import DeciderConfig
from stream_ser.events import SILENCE, UNCERTAIN, Decision, Prediction


class Decider:
    """Turns predictions into decisions.

    Args:
        labels: in the order of ``Prediction.probabilities``.
        sample_rate: Hz, of the sample positions.
        config: thresholds and durations.
    """

    def __init__(self, labels: tuple[str, ...], sample_rate: int, config: DeciderConfig | None = None) -> None:
        self.labels = labels
        self.config = config or DeciderConfig()
        self._sample_rate = sample_rate
        self.reset()

    def reset(self) -> None:
        """Back to the start of a stream."""
        self.smoothed: tuple[float, ...] = ()
        self._label: str | None = None
        self._start = 0
        self._end = 0
        self._weight = 0.0
        self._confidence = 0.0
        self._silent_samples = 0
        self._rival: str | None = None
        self._rival_samples = 0

    @property
    def current(self) -> Decision | None:
        """The label that is being shown, since when, and how probable it is now; None before the first."""
        if self._label is None:
            return None
        return Decision(self._start, self._end, self._label, self._probability(self._label))

    def push(self, prediction: Prediction) -> list[Decision]:
        """Take a prediction; returns the decision that it ends, if it does."""
        elapsed = prediction.end - self._end
        label = self._next_label(prediction, elapsed)
        closed: list[Decision] = []
        if label != self._label:
            closed = self._close()
            self._label, self._start = label, self._end
        self._confidence += elapsed * self._probability(label)
        self._weight += elapsed
        self._end = prediction.end
        return closed

    def flush(self) -> list[Decision]:
        """End of the stream: the open decision."""
        closed = self._close()
        self._label = None
        return closed

    def _close(self) -> list[Decision]:
        if self._label is None or self._end <= self._start:
            return []
        confidence = self._confidence / self._weight if self._weight else 0.0
        self._confidence = self._weight = 0.0
        return [Decision(self._start, self._end, self._label, confidence)]

    def _probability(self, label: str) -> float:
        if not self.smoothed or label == SILENCE:
            return 0.0
        return max(self.smoothed) if label == UNCERTAIN else self.smoothed[self.labels.index(label)]

    def _next_label(self, prediction: Prediction, elapsed: int) -> str:
        quiet = not prediction.probabilities or prediction.level_dbfs < self.config.silence_dbfs
        # A level tells about the last hop alone; what lies before the first prediction is not known to be quiet.
        self._silent_samples = self._silent_samples + (elapsed if self._end else 0) if quiet else 0
        if not prediction.probabilities or self._silent_samples >= self.config.silence_s * self._sample_rate:
            self.smoothed = ()
            self._rival = None
            return SILENCE
        self._smooth(prediction.probabilities, elapsed)
        best = max(self.smoothed)
        leader = self.labels[self.smoothed.index(best)]
        candidate = leader if best >= self.config.abstain_below else UNCERTAIN
        current = self._label
        if current is None or current == SILENCE or candidate == current:
            self._rival = None
            return candidate
        # A label in force has to be beaten clearly; "uncertain" is left only with a margin above its threshold.
        if candidate != UNCERTAIN:
            bar = self.config.abstain_below if current == UNCERTAIN else self._probability(current)
            if best - bar < self.config.enter_margin:
                self._rival = None
                return current
        self._rival_samples = self._rival_samples + elapsed if candidate == self._rival else elapsed
        self._rival = candidate
        if self._rival_samples < self.config.hold_s * self._sample_rate:
            return current
        self._rival = None
        return candidate

    def _smooth(self, probabilities: tuple[float, ...], elapsed: int) -> None:
        if not self.smoothed or self.config.smoothing_s == 0.0:
            self.smoothed = probabilities
            return
        keep = math.exp(-elapsed / (self.config.smoothing_s * self._sample_rate))
        self.smoothed = tuple(
            keep * old + (1.0 - keep) * new for old, new in zip(self.smoothed, probabilities, strict=True)
        )
