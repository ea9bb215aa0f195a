"""Metrics of timelines: what was said against what was shown, in samples. Pure Python.

Reference: the emotion diarization error rate is that of Wang, Ravanelli and Yacoubi 2023 ("Speech Emotion Diarization:
Which Emotion Appears When?", ASRU), the sum of missed, falsely claimed and confused time. They divide by the length of
the recording; here, as in speaker diarization (NIST's DER), it is divided by the reference's emotion time, so that long
pauses do not make a system look better. ``neutral`` is a label like the others. There is no collar.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from stream_ser.events import SILENCE, UNCLAIMED

#: Labels that claim no emotion.
NOTHING = UNCLAIMED


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch ``[start, end)`` with one label."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Diarization:
    """Times of a timeline against its reference, in samples; the sum of two is that of both streams.

    Attributes:
        reference: time that carries an emotion in the reference.
        pause: time that carries none there.
        missed: of the former, claimed by nobody: silent or uncertain ...
        confusion: ... or claimed to be another emotion.
        false_alarm: of the latter, claimed to be an emotion.
    """

    reference: int = 0
    pause: int = 0
    missed: int = 0
    confusion: int = 0
    false_alarm: int = 0

    def __add__(self, other: Diarization) -> Diarization:
        return Diarization(
            self.reference + other.reference,
            self.pause + other.pause,
            self.missed + other.missed,
            self.confusion + other.confusion,
            self.false_alarm + other.false_alarm,
        )

    @property
    def eder(self) -> float:
        """Emotion diarization error rate, a share of the reference's emotion time; above 1 where much is claimed."""
        return (self.missed + self.confusion + self.false_alarm) / max(self.reference, 1)

    @property
    def precision(self) -> float:
        """Share of the claimed time in which the claim is right; 0 where nothing is claimed."""
        right = self.reference - self.missed - self.confusion
        return right / max(right + self.confusion + self.false_alarm, 1)


def diarize(reference: Sequence[Span], claimed: Sequence[Span], length: int) -> Diarization:
    """Compare two timelines of a stream.

    Args:
        reference: the emotions, in order, without overlap.
        claimed: what was shown, in order, without overlap; what it leaves out is silence.
        length: of the stream, samples.

    Example:
        >>> diarize([Span(10, 50, "anger")], [Span(0, 30, "anger"), Span(30, 60, "sad")], 100)
        Diarization(reference=40, pause=60, missed=0, confusion=20, false_alarm=20)
    """
    spoken = sum(span.end - span.start for span in reference)
    claims = [span for span in claimed if span.label not in NOTHING]
    hit = confusion = 0
    for first, second, shared in _overlaps(reference, claims):
        if first.label == second.label:
            hit += shared
        else:
            confusion += shared
    total = sum(span.end - span.start for span in claims)
    return Diarization(
        reference=spoken,
        pause=length - spoken,
        missed=spoken - hit - confusion,
        confusion=confusion,
        false_alarm=total - hit - confusion,
    )


def _overlaps(first: Sequence[Span], second: Sequence[Span]) -> list[tuple[Span, Span, int]]:
    """Pairs of spans that share samples, and how many."""
    found = []
    i = j = 0
    while i < len(first) and j < len(second):
        a, b = first[i], second[j]
        shared = min(a.end, b.end) - max(a.start, b.start)
        if shared > 0:
            found.append((a, b, shared))
        if a.end <= b.end:
            i += 1
        else:
            j += 1
    return found


class Timeline:
    """Spans in order, to be asked for what was shown when.

    Args:
        spans: without overlap; what they leave out is silence.
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self._starts = [span.start for span in spans]

    def at(self, position: int) -> str:
        """The label at a sample."""
        index = bisect_right(self._starts, position) - 1
        if index < 0 or self.spans[index].end <= position:
            return SILENCE
        return self.spans[index].label

    def within(self, start: int, end: int) -> list[Span]:
        """The labels of ``[start, end)``, silence included, neighbours with the same label as one."""
        found: list[Span] = []

        def add(first: int, last: int, label: str) -> None:
            if first >= last:
                return
            if found and found[-1].label == label:
                first = found.pop().start
            found.append(Span(first, last, label))

        position = start
        for span in self.spans[max(0, bisect_right(self._starts, start) - 1) :]:
            if span.start >= end:
                break
            first, last = max(span.start, start), min(span.end, end)
            if first >= last:
                continue
            add(position, first, SILENCE)
            add(first, last, span.label)
            position = last
        add(position, end, SILENCE)
        return found


def settled_after(shown: Timeline, onset: int, offset: int, label: str) -> int | None:
    """Samples from the onset of speech to where the right label is shown until the speech ends; None for never."""
    *_, last = shown.within(onset, offset)
    return last.start - onset if last.label == label else None


def flips(shown: Timeline, onset: int, offset: int) -> int:
    """Changes of what is shown during one utterance beyond the first one, silence and uncertain included."""
    return max(0, len(shown.within(onset, offset)) - 2)


def longest(timeline: Timeline, onset: int, offset: int) -> str:
    """The emotion that an utterance carries longest, the first of equals; silence where it carries none."""
    seconds: dict[str, int] = {}
    for span in timeline.within(onset, offset):
        if span.label not in NOTHING:
            seconds[span.label] = seconds.get(span.label, 0) + span.end - span.start
    return max(seconds, key=seconds.__getitem__) if seconds else SILENCE
