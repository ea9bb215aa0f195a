"""CSV: a header and one row a decision, for spreadsheets and notebooks. A row is one line, whatever the names."""

from __future__ import annotations

import csv
import re
from typing import TextIO

from stream_ser.events import Decision, Event, StreamInfo, Summary, Transcript

COLUMNS = ("file", "start_s", "end_s", "label", "confidence")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: What a spreadsheet takes for a formula; ``-``, ``-#1`` are standard input and its first channel.
_FORMULA = re.compile(r"[=+@]|-(?!$|#\d+$)")


class Csv:
    """Writes ``file,start_s,end_s,label,confidence``, and ``text``; the header once, before the first stream.

    Args:
        out: text stream opened with ``newline=""`` (the rows end in a bare line feed); stays open.
        flush: hand every row on at once, for live streams.
        header: whether to write it; not where several streams come at the same time, and another's sink does.
    """

    def __init__(self, out: TextIO, *, flush: bool = False, header: bool = True) -> None:
        self._out = out
        self._flush = flush
        self._rows = csv.writer(out, lineterminator="\n")
        self._info: StreamInfo | None = None
        self._begun = not header

    def open(self, info: StreamInfo) -> None:
        """Write the header, for the first stream: at once if rows are flushed, else before what follows."""
        self._info = info
        if self._flush:
            self._begin()

    def write(self, event: Event) -> None:
        """Write a row for a decision and for a finished line of words; other events have none."""
        if self._info is None or not isinstance(event, Decision | Transcript):
            return
        if isinstance(event, Transcript) and not event.final:
            return
        self._begin()
        rate = self._info.sample_rate
        row = [
            cell(self._info.name),
            f"{event.start / rate:.4f}",
            f"{event.end / rate:.4f}",
            cell(event.label),
            f"{event.confidence:.4f}",
        ]
        if self._info.transcribes:
            row.append(cell(event.text) if isinstance(event, Transcript) else "")
        self._rows.writerow(row)
        if self._flush:
            self._out.flush()

    def close(self, summary: Summary | None) -> None:
        """Hand on what is buffered; a stream without rows leaves the header."""
        if summary is not None:
            self._begin()
        self._out.flush()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            more = ("text",) if self._info is not None and self._info.transcribes else ()
            self._rows.writerow((*COLUMNS, *more))


def cell(text: str) -> str:
    r"""A name as a cell that neither runs as a formula in a spreadsheet nor drives a terminal.

    Reference: OWASP, CSV Injection: an apostrophe makes text of what begins like a formula. JSON lines hold every name
    as it is.

    Example:
        >>> cell("=1+1.wav"), cell("two\nlines.wav"), cell("-"), cell("Müller, 1.wav")
        ("'=1+1.wav", 'two\\nlines.wav', '-', 'Müller, 1.wav')
    """
    text = _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
    return f"'{text}" if _FORMULA.match(text) else text
