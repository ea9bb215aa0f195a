"""JSON lines: one object a line, for programs. ``stream-ser schema`` prints their JSON Schema.

Every object has ``type`` and ``file`` (the path, ``-``, or the device). Positions are integers in samples at
``sample_rate``; the same in seconds ends in ``_s``. Floats are rounded: the same audio gives the same bytes.

``stream``
    First line of each stream. ``schema`` (4), ``model``, ``labels`` (the order of all ``probabilities``),
    ``sample_rate`` in Hz.
``prediction``
    One run of the network. ``start``, ``end``: the audio it saw. ``label``: the most probable label, or
    ``silence`` where the network was not asked. ``probabilities``: by label, null for silence.
    ``level_dbfs``: of the newest hop, -120 for digital silence. ``timing``, for live streams only:
    ``features_ms``, ``inference_ms`` and ``age_ms``, from the capture of the last sample to the prediction.
``provisional``
    What is shown of an utterance that goes on, whenever that changes: ``utterance`` (its number, from 1), ``start``,
    ``end``, ``label``, ``confidence``, ``probabilities`` (calibrated for so much speech, null before the network was
    asked) and ``final``, which is false. The next one of the utterance takes its place, and its decisions do at last.
``decision``
    A stretch of the finished timeline, which stays: ``start``, ``end``, ``label`` (one of the labels, ``silence``,
    ``uncertain`` or ``too short``), ``confidence`` (the calibrated probability that the label is right, 0 for silence),
    ``utterance`` (its number, null for silence), ``probabilities`` (null for silence) and ``final``, which is true. An
    utterance in which the emotion changes has several.
``gap``
    ``length`` samples from ``start`` on that were lost before they reached the recogniser.
``notice``
    Something about a live capture: ``at``, the sample up to which the stream had come, ``kind`` (``stalled``,
    ``resumed``, ``lost``, ``attached``, ``overflow``, ``behind`` or ``recording``) and ``text`` for people.
``transcript``
    What was said, from a model that transcribes: ``words``, each with ``text``, ``start``, ``end`` and ``confidence``;
    ``text``, all of them; ``label``, the emotion of the line. While ``final`` is false the line comes again with each
    new character, and takes the place of the one before.
``summary``
    Last line. ``samples``, ``duration_s``, ``lost`` (samples), ``label`` that the timeline carries longest,
    ``confidence`` and ``probabilities`` (null for silence): means of the decisions' over time; ``seconds`` by label,
    ``skipped`` (predictions that were left out because the recogniser was late). A stream without this line broke off
    with an error; a file that gave no event before it broke off has no line at all.
"""

from __future__ import annotations

import json
from typing import Any, TextIO

from stream_ser.events import SILENCE, Decision, Event, Gap, Prediction, Provisional, StreamInfo, Summary, Transcript

#: Changes with the lines, and with assets/events.schema.json, which describes them for machines.
SCHEMA_VERSION = 4
#: A sample at 16 kHz is 62.5 us.
SECONDS_DIGITS = 4
PROBABILITY_DIGITS = 4
MEASURE_DIGITS = 2


class JsonLines:
    """Writes the lines described in this module's docstring.

    Args:
        out: text stream; stays open.
        flush: hand every line on at once, for live streams read by another program.
    """

    def __init__(self, out: TextIO, *, flush: bool = False) -> None:
        self._out = out
        self._flush = flush
        self._info = StreamInfo("", "", (), 1)
        self._begun = True

    def open(self, info: StreamInfo) -> None:
        """Write the ``stream`` line: at once if every line is flushed, else before the next one."""
        self._info = info
        self._begun = False
        if self._flush:
            self._begin()

    def write(self, event: Event) -> None:
        """Write the line of an event."""
        self._begin()
        if isinstance(event, Prediction):
            self._prediction(event)
        elif isinstance(event, Decision):
            self._stretch("decision", event)
        elif isinstance(event, Provisional):
            self._stretch("provisional", event)
        elif isinstance(event, Gap):
            self._gap(event)
        elif isinstance(event, Transcript):
            self._transcript(event)
        else:
            self._line("notice", at=event.at, at_s=self._seconds(event.at), kind=event.kind, text=event.text)

    def close(self, summary: Summary | None) -> None:
        """Write the ``summary`` line, if there is a summary."""
        if summary is not None:
            self._begin()
            self._line(
                "summary",
                samples=summary.samples,
                duration_s=self._seconds(summary.samples),
                lost=summary.lost,
                label=summary.label,
                confidence=round(summary.confidence, PROBABILITY_DIGITS),
                probabilities=self._probabilities(summary.probabilities),
                seconds={label: round(value, SECONDS_DIGITS) for label, value in summary.seconds.items()},
                skipped=summary.skipped,
            )
        self._out.flush()

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        info = self._info
        self._line(
            "stream",
            schema=SCHEMA_VERSION,
            model=info.model,
            labels=list(info.labels),
            sample_rate=info.sample_rate,
        )

    def _prediction(self, event: Prediction) -> None:
        best = SILENCE
        if event.probabilities:
            best = self._info.labels[event.probabilities.index(max(event.probabilities))]
        timing: dict[str, Any] = {}
        if event.timing is not None and event.timing.age_ms is not None:
            cost = {
                "features_ms": event.timing.features_ms,
                "inference_ms": event.timing.inference_ms,
                "age_ms": event.timing.age_ms,
            }
            timing["timing"] = {name: round(value, MEASURE_DIGITS) for name, value in cost.items()}
        self._line(
            "prediction",
            **self._span(event.start, event.end),
            label=best,
            probabilities=self._probabilities(event.probabilities),
            level_dbfs=round(event.level_dbfs, MEASURE_DIGITS),
            **timing,
        )

    def _stretch(self, kind: str, event: Decision | Provisional) -> None:
        self._line(
            kind,
            utterance=event.utterance or None,
            **self._span(event.start, event.end),
            label=event.label,
            confidence=round(event.confidence, PROBABILITY_DIGITS),
            probabilities=self._probabilities(event.probabilities),
            final=isinstance(event, Decision),
        )

    def _gap(self, event: Gap) -> None:
        self._line(
            "gap",
            start=event.start,
            length=event.length,
            start_s=self._seconds(event.start),
            length_s=self._seconds(event.length),
        )

    def _transcript(self, event: Transcript) -> None:
        words = [
            {
                "text": word.text,
                **self._span(word.start, word.end),
                "confidence": round(word.confidence, PROBABILITY_DIGITS),
            }
            for word in event.words
        ]
        span = self._span(event.start, event.end)
        self._line("transcript", **span, label=event.label, text=event.text, words=words, final=event.final)

    def _span(self, start: int, end: int) -> dict[str, Any]:
        return {"start": start, "end": end, "start_s": self._seconds(start), "end_s": self._seconds(end)}

    def _seconds(self, samples: int) -> float:
        return round(samples / self._info.sample_rate, SECONDS_DIGITS)

    def _probabilities(self, values: tuple[float, ...]) -> dict[str, float] | None:
        if not values:
            return None
        named = zip(self._info.labels, values, strict=True)
        return {label: round(value, PROBABILITY_DIGITS) for label, value in named}

    def _line(self, kind: str, /, **content: Any) -> None:
        line = {"type": kind, "file": self._info.name, **content}
        self._out.write(json.dumps(line, allow_nan=False) + "\n")
        if self._flush:
            self._out.flush()
