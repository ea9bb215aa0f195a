"""From a stream of probabilities to labels: a provisional one while an utterance goes on, a final one when it ended.

While somebody speaks, the best posterior so far is shown from the first hop on: *provisional*, with the probability
that it is right after so much speech. A rival takes over when it leads by ``switch_cost``, and has done so for
``hold_s``. When a pause of ``silence_s`` ends the utterance, its verdict rests on all of it and is *final*; where the
emotion really changed (:mod:`stream_ser.segments`) it has several parts. The finals are the timeline: everything else
is made of them.

Nothing below the threshold is claimed: what was heard of less than ``short_s`` is then ``too short``, else
``uncertain``. An utterance without end is cut after ``limit_s``, so that memory is bounded.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from stream_ser.config import DeciderConfig
from stream_ser.events import SILENCE, TOO_SHORT, UNCERTAIN, Decision, Prediction, Provisional
from stream_ser.segments import Segment, Segmenter, normalized


@dataclass
class _Utterance:
    """Speech that goes on: where it began, where a voice was last heard, and what is shown of it."""

    number: int
    #: Where it began, and where what is not final yet begins.
    first: int
    start: int
    voice_end: int
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
        self._segmenter = Segmenter(
            config.cut_cost, round(config.min_duration_s * sample_rate), sample_rate, config.memory_s
        )
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
        self._utterance = _Utterance(self._count, start, start, start)
        self._segmenter.begin(start)
        return silence

    def _hear(self, utterance: _Utterance, prediction: Prediction) -> None:
        if not prediction.probabilities:
            return
        end = min(prediction.end, utterance.voice_end)
        if end <= utterance.start:
            return
        seconds = (end - utterance.first) / self._rate
        self._segmenter.push(prediction.probabilities, prediction.start, end, seconds)

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
        parts = self._parts(self._segmenter.segments()) if len(self._segmenter) else []
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
        if not len(self._segmenter):
            return []
        parts = self._parts(self._segmenter.segments())
        if len(parts) > 1:
            parts.pop()
        found = [self._final(utterance, part, part.end) for part in parts if part.end > self._settled]
        self._segmenter.forget(parts[-1].end)
        utterance.start = parts[-1].end
        return found

    def _parts(self, segments: list[Segment]) -> list[Segment]:
        """Neighbours whose label is the same, or of which one claims nothing, as one."""
        parts = list(segments)
        while len(parts) > 1:
            labels = [self._judge(part)[0] for part in parts]
            pairs = itertools.pairwise(labels)
            weak = [place for place, (a, b) in enumerate(pairs) if a == b or not {a, b} <= set(self.labels)]
            if not weak:
                break
            place = weak[0]
            parts[place : place + 2] = [_joined(parts[place], parts[place + 1])]
        return parts

    def _judge(self, part: Segment) -> tuple[str, float, tuple[float, ...]]:
        """Label, confidence and calibrated probabilities of a stretch."""
        probabilities = self._calibrated(part)
        best = max(probabilities)
        return self._claim(self.labels[probabilities.index(best)], best, part.seconds), best, probabilities

    def _claim(self, label: str, confidence: float, seconds: float) -> str:
        if confidence >= self.config.abstain_below:
            return label
        return TOO_SHORT if seconds < self.config.short_s else UNCERTAIN

    def _calibrated(self, part: Segment) -> tuple[float, ...]:
        temperature = self.config.temperature_at(part.seconds)
        return tuple(np.exp(normalized(part.log_probs, temperature)).tolist())

    def _final(self, utterance: _Utterance, part: Segment, end: int) -> Decision:
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
        if not len(self._segmenter):
            self._current = Provisional(
                max(utterance.start, self._settled), prediction.end, TOO_SHORT, 0.0, utterance.number
            )
            return
        newest = self._segmenter.newest
        probabilities = self._calibrated(newest)
        label = self._choose(utterance, probabilities, newest.seconds, prediction.end)
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


def _joined(first: Segment, second: Segment) -> Segment:
    seconds = first.seconds + second.seconds
    log_probs = (first.seconds * first.log_probs + second.seconds * second.log_probs) / max(seconds, 1e-6)
    return Segment(first.start, second.end, seconds, log_probs)
