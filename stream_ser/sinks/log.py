"""Events as log records of ``stream_ser.events``, for ``--verbose`` and ``--log-file``."""

from __future__ import annotations

import logging

from stream_ser.events import Decision, Event, Gap, Prediction, Provisional, StreamInfo, Summary, Transcript
from stream_ser.text import printable


class Log:
    """Log records: decisions, what was said and the sum at INFO, predictions and provisional labels at DEBUG.

    Losses and notices are at WARNING.
    """

    def __init__(self) -> None:
        self._log = logging.getLogger("stream_ser.events")
        self._info = StreamInfo("", "", (), 1)

    def open(self, info: StreamInfo) -> None:
        """A stream begins."""
        self._info = info
        self._say(logging.INFO, "begins; model %s, %d Hz", printable(info.model), info.sample_rate)

    def write(self, event: Event) -> None:
        """One record an event."""
        rate = self._info.sample_rate
        if isinstance(event, Prediction):
            if self._log.isEnabledFor(logging.DEBUG):
                shown = " ".join(f"{probability:.3f}" for probability in event.probabilities) or "silence"
                self._say(logging.DEBUG, "%.3f s: prediction %s, %.1f dBFS", event.end / rate, shown, event.level_dbfs)
        elif isinstance(event, Decision):
            span = (event.start / rate, event.end / rate)
            self._say(logging.INFO, "%.2f to %.2f s: %s, %.0f %%", *span, event.label, 100 * event.confidence)
        elif isinstance(event, Provisional):
            if self._log.isEnabledFor(logging.DEBUG):
                shown_s = event.end / rate
                self._say(logging.DEBUG, "%.3f s: %s so far, %.0f %%", shown_s, event.label, 100 * event.confidence)
        elif isinstance(event, Transcript):
            if event.final:
                span = (event.start / rate, event.end / rate)
                self._say(logging.INFO, "%.2f to %.2f s: [%s] %s", *span, event.label, printable(event.text))
        elif isinstance(event, Gap):
            self._say(logging.WARNING, "%.3f s: %d samples lost", event.start / rate, event.length)
        else:
            self._say(logging.WARNING, "%.3f s: %s: %s", event.at / rate, event.kind, printable(event.text))

    def close(self, summary: Summary | None) -> None:
        """The stream ended."""
        if summary is None:
            self._say(logging.WARNING, "broke off")
        else:
            length_s = summary.samples / self._info.sample_rate
            self._say(logging.INFO, "ended after %.2f s: %s overall, %d lost", length_s, summary.label, summary.lost)

    def _say(self, level: int, message: str, *values: object) -> None:
        self._log.log(level, "%s: " + message, printable(self._info.name), *values)
