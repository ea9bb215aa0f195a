"""From a stream of probabilities to labels: a provisional one while an utterance goes on, a final one when it ended.

While somebody speaks, the best posterior so far is shown from the first hop on: *provisional*, with the probability
that it is right after so much speech. A rival takes over when it leads by ``switch_cost``, and has done so for
``hold_s``. When a pause of ``silence_s`` ends the utterance, its verdict rests on all of it and is *final*; where the
emotion really changed (:mod:`stream_ser.recognition.changes`) it has several parts. The finals are the timeline:
everything else is made of them.

Nothing below the threshold is claimed: what was heard of less than ``short_s`` is then ``too short``, else
``uncertain``. An utterance without end is cut after ``limit_s``, so that memory is bounded.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import DeciderConfig
from stream_ser.events import SILENCE, TOO_SHORT, UNCERTAIN, Decision, Prediction, Provisional

#: Probabilities below this count as this: one prediction does not decide about an utterance.
LEAST_PROBABILITY = 1e-4
#: Windows that hold at least this share of what the fullest one holds are averaged.
NEARLY_FULL = 0.98


@dataclass
class _Part:
    """A stretch of one emotion.

    Attributes:
        start: first sample.
        end: one past the last sample of speech that was heard of it.
        log_probs: what the network says of it, unnormalised; None before it says anything.
        fullest: samples of it in the window that holds the most of it.
        windows: how many were averaged.
    """

    start: int
    end: int
    log_probs: NDArray[np.float64] | None = None
    fullest: int = 0
    windows: int = 0

    def hear(self, probabilities: Sequence[float], seen_from: int, end: int) -> None:
        """Take a prediction of what lies between two samples.

        A network that has heard all of the part is believed as it is. Of one whose window has left the beginning of
        the part behind, the windows that hold the most of it are averaged.
        """
        log_probs = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), LEAST_PROBABILITY))
        heard = max(1, end - max(seen_from, self.start))
        self.end = max(self.end, end)
        if heard < NEARLY_FULL * self.fullest:
            return
        if seen_from <= self.start or self.log_probs is None or NEARLY_FULL * heard > self.fullest:
            self.log_probs, self.windows = log_probs, 1
        else:
            self.windows += 1
            self.log_probs = self.log_probs + (log_probs - self.log_probs) / self.windows
        self.fullest = max(self.fullest, heard)


@dataclass
class _Utterance:
    """Speech that goes on: where it began, where a voice was last heard, and what is shown of it.

    ``parts`` is what is not final yet, the newest last.
    """

    number: int
    start: int
    voice_end: int
    parts: list[_Part] = field(default_factory=list)
    shown: str | None = None
    #: Who leads, but not enough, and from which sample on.
    rival: str | None = None
    rival_from: int = 0


class Decider:
    """Turns predictions into labels.

    Args:
        labels: in the order of ``Prediction.probabilities``.
        sample_rate: Hz, of the sample positions.
        config: costs, thresholds and durations.
    """

    def __init__(self, labels: tuple[str, ...], sample_rate: int, config: DeciderConfig | None = None) -> None:
        self.labels = labels
        self.config = config = config or DeciderConfig()
        self._rate = sample_rate
        self.reset()

    def reset(self, start: int = 0) -> None:
        """Back to the start of a stream, whose first sample has the position ``start``."""
        self._utterance: _Utterance | None = None
        self._count = 0
        #: Up to where the stream was heard, where the last utterance's voice ended, and where the finals end.
        self._end = self._voice_end = self._settled = start
        self._begun = False
        self._current: Provisional | None = None

    @property
    def current(self) -> Provisional | None:
        """What is shown now, and since when; None before the first prediction."""
        return self._current

    @property
    def posterior(self) -> tuple[float, ...]:
        """Calibrated probabilities of the utterance that goes on; empty in silence and before the first prediction."""
        return () if self._current is None else self._current.probabilities

    @property
    def settled(self) -> int:
        """Sample up to which the timeline is final."""
        return self._settled

    def push(self, prediction: Prediction) -> list[Provisional | Decision]:
        """Take a prediction; returns the decisions that it makes final, then what is shown now if that changed."""
        before = self._current
        found: list[Provisional | Decision] = []
        voice = self._voice(prediction)
        utterance = self._utterance
        if utterance is not None and voice is not None and prediction.voice and voice[0] >= utterance.voice_end:
            found += self._finish(voice[0])
            utterance = None
        if utterance is None and voice is not None:
            found += self._open(voice[0])
            utterance = self._utterance
        if utterance is not None:
            if voice is not None:
                utterance.voice_end = max(utterance.voice_end, voice[1])
            self._cut(utterance, prediction)
            self._hear(utterance, prediction)
            if self._quiet(utterance, prediction) >= self.config.silence_s * self._rate:
                found += self._finish(prediction.end)
            elif prediction.end - utterance.start >= self.config.limit_s * self._rate:
                found += self._settle_part(utterance)
        self._begun, self._end = True, prediction.end
        self._show(prediction)
        utterance = self._utterance
        if utterance is not None and utterance.voice_end > self._settled and self._differs(before):
            assert self._current is not None
            found.append(self._current)
        return found

    def flush(self) -> list[Provisional | Decision]:
        """End of the stream: the verdict on an utterance that it cuts short, or the silence."""
        found: list[Provisional | Decision] = []
        found += self._finish(self._end)
        found += self._silence(self._end)
        self._current = None
        return found

    def _voice(self, prediction: Prediction) -> tuple[int, int] | None:
        """Where somebody speaks, as far as it is news: first sample and one past the last."""
        if prediction.voice is None:
            # Without voice activity detection, whatever is loud is an utterance.
            if not prediction.probabilities or prediction.level_dbfs < self.config.silence_dbfs:
                return None
            # A level tells about the last hop alone: what lies before the first prediction may not be quiet.
            return self._end, prediction.end
        first, end = prediction.voice
        if self._utterance is not None:
            return first, end
        if end <= self._voice_end and self._begun:
            return None
        return max(first, self._voice_end), end

    def _quiet(self, utterance: _Utterance, prediction: Prediction) -> int:
        return prediction.end - utterance.voice_end

    def _open(self, start: int) -> list[Decision]:
        # The network's window may reach over the end of what was decided.
        start = max(start, self._settled)
        silence = self._silence(start)
        self._count += 1
        self._utterance = _Utterance(self._count, start, start, [_Part(start, start)])
        return silence

    def _cut(self, utterance: _Utterance, prediction: Prediction) -> None:
        """The emotion has changed within the utterance."""
        for change in prediction.changes:
            part = utterance.parts[-1]
            if not part.start < change.at < max(prediction.end, utterance.voice_end):
                continue
            part.end = change.at
            part.log_probs = np.log(np.maximum(np.asarray(change.before), LEAST_PROBABILITY))
            utterance.parts.append(_Part(change.at, change.at))

    def _hear(self, utterance: _Utterance, prediction: Prediction) -> None:
        part = utterance.parts[-1]
        end = min(prediction.end, utterance.voice_end)
        if prediction.probabilities and end > part.start:
            part.hear(prediction.probabilities, prediction.start, end)

    def _finish(self, end: int) -> list[Decision]:
        """The verdict on the utterance that has ended; the stream was heard up to ``end``."""
        utterance, self._utterance = self._utterance, None
        if utterance is None:
            return []
        self._voice_end = voice_end = utterance.voice_end
        if voice_end <= self._settled:
            return []
        # No more than the quiet that followed: at the end of a stream a voice may go on.
        beyond = min(round(self.config.hangover_s * self._rate), max(0, end - voice_end))
        end = max(voice_end - beyond, self._settled + 1)
        found = []
        parts = self._parts(utterance)
        for place, part in enumerate(parts):
            last = place == len(parts) - 1
            until = end if last else min(part.end, end)
            if until > self._settled:
                found.append(self._final(utterance, part, until))
        if not found and end > self._settled:
            label = self._claim(UNCERTAIN, 0.0, (end - self._settled) / self._rate)
            found.append(self._emit(Decision(self._settled, end, label, 0.0, utterance.number)))
        return found

    def _settle_part(self, utterance: _Utterance) -> list[Decision]:
        """The utterance is long: what is known of its beginning is final."""
        parts = self._parts(utterance)
        if not parts:
            return []
        newest = parts[-1]
        if len(parts) > 1:
            parts.pop()
        found = [self._final(utterance, part, part.end) for part in parts if part.end > self._settled]
        rest = newest if newest not in parts else _Part(newest.end, newest.end)
        utterance.parts, utterance.start = [rest], rest.start
        return found

    def _parts(self, utterance: _Utterance) -> list[_Part]:
        """Those of which anything is known; neighbours with the same label, or of which one claims nothing, as one."""
        parts = [part for part in utterance.parts if part.log_probs is not None]
        while len(parts) > 1:
            labels = [self._judge(part)[0] for part in parts]
            pairs = itertools.pairwise(labels)
            weak = [place for place, (a, b) in enumerate(pairs) if a == b or not {a, b} <= set(self.labels)]
            if not weak:
                break
            place = weak[0]
            parts[place : place + 2] = [_joined(parts[place], parts[place + 1])]
        return parts

    def _judge(self, part: _Part) -> tuple[str, float, tuple[float, ...]]:
        """Label, confidence and calibrated probabilities of a stretch."""
        probabilities = self._calibrated(part)
        best = max(probabilities)
        return self._claim(self.labels[probabilities.index(best)], best, self._seconds(part)), best, probabilities

    def _seconds(self, part: _Part) -> float:
        return (part.end - part.start) / self._rate

    def _claim(self, label: str, confidence: float, seconds: float) -> str:
        if confidence >= self.config.abstain_below:
            return label
        return TOO_SHORT if seconds < self.config.short_s else UNCERTAIN

    def _calibrated(self, part: _Part) -> tuple[float, ...]:
        assert part.log_probs is not None
        temperature = self.config.temperature_at(self._seconds(part))
        return tuple(np.exp(normalized(part.log_probs, temperature)).tolist())

    def _final(self, utterance: _Utterance, part: _Part, end: int) -> Decision:
        label, confidence, probabilities = self._judge(part)
        return self._emit(Decision(self._settled, end, label, confidence, utterance.number, probabilities))

    def _silence(self, end: int) -> list[Decision]:
        return [self._emit(Decision(self._settled, end, SILENCE, 0.0))] if end > self._settled else []

    def _emit(self, decision: Decision) -> Decision:
        self._settled = decision.end
        return decision

    def _show(self, prediction: Prediction) -> None:
        utterance = self._utterance
        if utterance is None:
            self._current = Provisional(self._settled, prediction.end, SILENCE, 0.0)
            return
        newest = utterance.parts[-1]
        if newest.log_probs is None:
            self._current = Provisional(
                max(utterance.start, self._settled), prediction.end, TOO_SHORT, 0.0, utterance.number
            )
            return
        probabilities = self._calibrated(newest)
        label = self._choose(utterance, probabilities, self._seconds(newest), prediction.end)
        start = max(newest.start, self._settled)
        confidence = probabilities[self.labels.index(label)] if label in self.labels else max(probabilities)
        self._current = Provisional(start, prediction.end, label, confidence, utterance.number, probabilities)

    def _choose(self, utterance: _Utterance, probabilities: tuple[float, ...], seconds: float, end: int) -> str:
        """The label to show: what is shown stays until a rival leads clearly, and as long as it may be claimed."""
        best = max(probabilities)
        rival = self._claim(self.labels[probabilities.index(best)], best, seconds)
        shown = utterance.shown
        if shown is None:
            # Nothing was claimed yet: of what has just begun only what is clear.
            config = self.config
            if seconds < config.listen_s and (best < config.listen_confidence or rival not in self.labels):
                return TOO_SHORT
        elif shown in self.labels and (own := probabilities[self.labels.index(shown)]) >= self.config.abstain_below:
            if rival == shown or math.log(best / own) < self.config.switch_cost:
                utterance.rival = None
                return shown
            if utterance.rival != rival:
                utterance.rival, utterance.rival_from = rival, end
            if end - utterance.rival_from < self.config.hold_s * self._rate:
                return shown
        utterance.shown, utterance.rival = rival, None
        return rival

    def _differs(self, before: Provisional | None) -> bool:
        now = self._current
        if before is None or now is None:
            return now is not None
        return (now.utterance, now.label, now.start, now.probabilities) != (
            before.utterance,
            before.label,
            before.start,
            before.probabilities,
        )


def _joined(first: _Part, second: _Part) -> _Part:
    """Both as one: the mean of what was said of each, by time."""
    assert first.log_probs is not None
    assert second.log_probs is not None
    weights = first.end - first.start, second.end - second.start
    total = max(sum(weights), 1)
    log_probs = (weights[0] * normalized(first.log_probs) + weights[1] * normalized(second.log_probs)) / total
    return _Part(first.start, second.end, log_probs)


def normalized(log_probs: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.float64]:
    """Log-probabilities that sum to one, of any scores divided by the temperature."""
    scaled = log_probs / temperature
    scaled = scaled - scaled.max()
    return np.asarray(scaled - math.log(float(np.exp(scaled).sum())))
