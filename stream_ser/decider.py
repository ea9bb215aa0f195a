"""From a stream of probabilities to a timeline that a person can read.

Probabilities are smoothed; a label takes over only with a lead, only when it keeps that lead (hysteresis and hold),
and only after the one before it was shown for a while (minimum duration); where nothing reaches the abstention
threshold the timeline says ``uncertain``; where it is quiet it says ``silence``.

The first moments of an utterance tell little: its first label is shown when ``onset_s`` of it were heard, and then
holds from its start on. A pause shorter than ``silence_s`` belongs to what is being said, and nothing is decided in it.
A longer one is silence from where the voice was last heard: that is known ``silence_s`` later. So what a live view
shows lags behind what the finished decision says.
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
        self._rate = sample_rate
        self.reset()

    def reset(self, start: int = 0) -> None:
        """Back to the start of a stream, whose first sample has the position ``start``."""
        self.smoothed: tuple[float, ...] = ()
        self._label: str | None = None
        self._start = self._end = start
        self._weight = 0.0
        self._confidence = 0.0
        #: The prediction on an utterance of which too little was heard to show a label.
        self._early: Prediction | None = None
        #: Where the quiet began that the stream is in; None while somebody speaks.
        self._quiet_from: int | None = None
        self._rival: str | None = None
        self._rival_samples = 0

    @property
    def current(self) -> Decision | None:
        """The label that is being shown, since when, and how probable it is now; None before there is one."""
        if self._label is None:
            return None
        return Decision(self._start, self._end, self._label, self._probability(self._label))

    def push(self, prediction: Prediction) -> list[Decision]:
        """Take a prediction; returns the decision that it ends, if it does."""
        elapsed = prediction.end - self._end
        self._listen(prediction)
        label = self._next_label(prediction, elapsed)
        closed = [] if label is None or label == self._label else self._switch(label, prediction)
        if label is not None:
            self._confidence += elapsed * self._probability(label)
            self._weight += elapsed
        self._end = prediction.end
        return closed

    def flush(self) -> list[Decision]:
        """End of the stream: the open decision. An utterance that it cuts short has its label now."""
        closed = []
        if self._early is not None:
            label = self._candidate()
            closed = self._switch(label, self._early)
            self._confidence, self._weight = self._probability(label), 1.0
        closed += self._close(self._end)
        self._label = self._early = None
        return closed

    def _switch(self, label: str, prediction: Prediction) -> list[Decision]:
        """Close the label in force where the next one begins: at the ends of speech to the sample, else at a hop."""
        voice, begin = prediction.voice, self._end
        if self._label is None:
            begin = self._start
            if label != SILENCE and voice is not None and voice[0] - begin >= self.config.silence_s * self._rate:
                self._label, begin = SILENCE, voice[0]
        elif label == SILENCE:
            begin = self._quiet_from if self._quiet_from is not None else begin
        elif voice is not None and self._label == SILENCE and voice[0] > self._start:
            begin = voice[0]
        closed = self._close(begin)
        self._label, self._start = label, begin
        return closed

    def _close(self, end: int) -> list[Decision]:
        if self._label is None or end <= self._start:
            return []
        confidence = self._confidence / self._weight if self._weight else 0.0
        self._confidence = self._weight = 0.0
        return [Decision(self._start, end, self._label, confidence)]

    def _probability(self, label: str) -> float:
        if not self.smoothed or label == SILENCE:
            return 0.0
        return max(self.smoothed) if label == UNCERTAIN else self.smoothed[self.labels.index(label)]

    def _listen(self, prediction: Prediction) -> None:
        """Follow where the quiet began."""
        if prediction.voice is not None and prediction.voice[1] <= self._end:
            self._quiet_from = prediction.voice[1]
        elif not prediction.probabilities or prediction.level_dbfs < self.config.silence_dbfs:
            if self._quiet_from is None:
                # A level tells about the last hop alone: what lies before the first prediction may not be quiet.
                self._quiet_from = prediction.end if self._label is None else self._end
        else:
            self._quiet_from = None

    def _next_label(self, prediction: Prediction, elapsed: int) -> str | None:
        quiet = self._quiet_from is not None
        quiet_samples = 0 if self._quiet_from is None else prediction.end - self._quiet_from
        if not prediction.probabilities or (quiet and quiet_samples >= self.config.silence_s * self._rate):
            self.smoothed = ()
            self._rival = self._early = None
            return SILENCE
        current = self._label
        if quiet and (current is not None or self._early is not None):
            return current
        if current in (None, SILENCE) and self._spoken(prediction) < self.config.onset_s * self._rate:
            self.smoothed, self._early = prediction.probabilities, prediction
            return current
        self._early = None
        self._smooth(prediction.probabilities, elapsed)
        best, candidate = max(self.smoothed), self._candidate()
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
        shown_samples = prediction.end - self._start
        if (
            self._rival_samples < self.config.hold_s * self._rate
            or shown_samples < self.config.min_duration_s * self._rate
        ):
            return current
        self._rival = None
        return candidate

    def _candidate(self) -> str:
        """What the smoothed probabilities say."""
        best = max(self.smoothed)
        return self.labels[self.smoothed.index(best)] if best >= self.config.abstain_below else UNCERTAIN

    def _spoken(self, prediction: Prediction) -> float:
        """Samples of the newest utterance; endless where nothing tells utterances apart."""
        return math.inf if prediction.voice is None else prediction.voice[1] - prediction.voice[0]

    def _smooth(self, probabilities: tuple[float, ...], elapsed: int) -> None:
        if not self.smoothed or self.config.smoothing_s == 0.0:
            self.smoothed = probabilities
            return
        keep = math.exp(-elapsed / (self.config.smoothing_s * self._rate))
        self.smoothed = tuple(
            keep * old + (1.0 - keep) * new for old, new in zip(self.smoothed, probabilities, strict=True)
        )
