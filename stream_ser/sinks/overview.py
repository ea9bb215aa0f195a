"""One row a file, for spreadsheets and scripts: what each came to, and why the others came to nothing."""

from __future__ import annotations

import csv
import json
from typing import Any, TextIO

from stream_ser.events import SILENCE, Summary
from stream_ser.sinks.csv_ import cell

_DIGITS = 4


class Overview:
    """Writes ``file``, ``label``, ``confidence``, each label's probability, ``speech_s`` and ``error``.

    In CSV the probabilities are columns ``p_LABEL``; in JSON, a list of objects, they are an object by label. A file
    that failed has its name and its error; the rest is empty, or null.

    Args:
        out: text stream opened with ``newline=""``; stays open.
        labels: the model's.
        as_json: JSON instead of CSV.
    """

    def __init__(self, out: TextIO, labels: tuple[str, ...], *, as_json: bool) -> None:
        self._out, self._labels, self._as_json = out, labels, as_json
        self._rows = csv.writer(out, lineterminator="\n")
        self._begun = False

    def add(self, name: str, summary: Summary | None, error: str = "") -> None:
        """Write the row of a file; None for one that failed."""
        if self._as_json:
            self._out.write(",\n " if self._begun else "[\n ")
            self._out.write(json.dumps(self._content(name, summary, error), allow_nan=False))
        else:
            self._header()
            self._rows.writerow(self._row(name, summary, error))
        self._begun = True
        self._out.flush()

    def close(self) -> None:
        """End the list; without files it is empty, or the header alone."""
        if self._as_json:
            self._out.write("\n]\n" if self._begun else "[]\n")
        else:
            self._header()
        self._out.flush()

    def _header(self) -> None:
        if not self._begun:
            self._begun = True
            shares = [cell(f"p_{label}") for label in self._labels]
            self._rows.writerow(["file", "label", "confidence", *shares, "speech_s", "error"])

    def _row(self, name: str, summary: Summary | None, error: str) -> list[str]:
        if summary is None:
            return [cell(name), *[""] * (3 + len(self._labels)), cell(error)]
        shares = [f"{value:.{_DIGITS}f}" for value in summary.probabilities] or [""] * len(self._labels)
        sure, speech_s = f"{summary.confidence:.{_DIGITS}f}", f"{_speech_s(summary):.{_DIGITS}f}"
        return [cell(name), cell(summary.label), sure, *shares, speech_s, cell(error)]

    def _content(self, name: str, summary: Summary | None, error: str) -> dict[str, Any]:
        content: dict[str, Any] = dict.fromkeys(("label", "confidence", "probabilities", "speech_s"))
        if summary is not None:
            shares = zip(self._labels, summary.probabilities, strict=False)
            content = {
                "label": summary.label,
                "confidence": round(summary.confidence, _DIGITS),
                "probabilities": {label: round(value, _DIGITS) for label, value in shares} or None,
                "speech_s": round(_speech_s(summary), _DIGITS),
            }
        return {"file": name, **content, "error": error or None}


def _speech_s(summary: Summary) -> float:
    return sum(seconds for label, seconds in summary.seconds.items() if label != SILENCE)
