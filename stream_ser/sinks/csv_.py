"""CSV: a header and one row a decision, for spreadsheets and notebooks."""

from __future__ import annotations

import csv
from typing import TextIO

from stream_ser.events import Decision, Event, StreamInfo, Summary

COLUMNS = ("file", "start_s", "end_s", "label", "confidence")


class Csv:
    """Writes ``file,start_s,end_s,label,confidence``; the header once, before the first stream.

    Args:
        out: text stream opened with ``newline=""`` (the rows end in a bare line feed); stays open.
        flush: hand every row on at once, for live streams.
    """

    def __init__(self, out: TextIO, *, flush: bool = False) -> None:
        self._out = out
        self._flush = flush
        self._rows = csv.writer(out, lineterminator="\n")
        self._info: StreamInfo | None = None

    def open(self, info: StreamInfo) -> None:
        """Write the header, for the first stream."""
        if self._info is None:
            self._rows.writerow(COLUMNS)
        self._info = info

    def write(self, event: Event) -> None:
        """Write a row for a decision; other events have none."""
        if not isinstance(event, Decision) or self._info is None:
            return
        rate = self._info.sample_rate
        self._rows.writerow(
            (
                self._info.name,
                f"{event.start / rate:.4f}",
                f"{event.end / rate:.4f}",
                event.label,
                f"{event.confidence:.4f}",
            )
        )
        if self._flush:
            self._out.flush()

    def close(self, summary: Summary | None) -> None:
        """Hand on what is buffered."""
        self._out.flush()
