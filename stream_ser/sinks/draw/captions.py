"""What was said, as rows of text for the live view and the printed table: pure, and never wider than asked."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len
from rich.text import Text

from stream_ser.events import Transcript
from stream_ser.sinks.draw.palette import FAINT, GREY
from stream_ser.sinks.draw.timeline import fit
from stream_ser.text import printable

_INDENT = 2


def wrapped(words: Iterable[str], width: int) -> list[str]:
    """Words in rows of at most ``width`` cells; one that is longer is cut.

    Example:
        >>> wrapped(["HOW", "ARE", "YOU"], 8)
        ['HOW ARE', 'YOU']
    """
    rows: list[str] = []
    for word in words:
        if rows and cell_len(rows[-1]) + 1 + cell_len(word) <= width:
            rows[-1] += f" {word}"
        else:
            rows.append(word if cell_len(word) <= width else fit(word, width))
    return rows


def said(line: Transcript, width: int, colour: dict[str, str]) -> list[Text]:
    """A line of words, led by its emotion; dim while it goes on.

    Args:
        line: what was said.
        width: cells; less than 8 show nothing.
        colour: of each label.
    """
    if width < 8:
        return []
    tag = fit(f"[{printable(line.label)}]", min(cell_len(line.label) + 2, width - _INDENT))
    rows = wrapped([tag, *(printable(word.text) for word in line.words)], width - _INDENT)
    style = "" if line.final else f"italic {GREY}"
    texts = [Text(" " * _INDENT).append(row, style=style) for row in rows]
    texts[0].stylize(colour.get(line.label, GREY) if line.final else FAINT, _INDENT, _INDENT + len(tag))
    return texts


def captions(lines: Iterable[Transcript], width: int, rows: int, colour: dict[str, str]) -> list[Text]:
    """The newest lines in exactly ``rows`` rows, the newest at the bottom; of a long one the end.

    Args:
        lines: in order.
        width: cells.
        rows: at least 0.
        colour: of each label.
    """
    shown: list[Text] = []
    for line in reversed(list(lines)):
        if len(shown) >= rows:
            break
        shown = said(line, width, colour) + shown
    shown = shown[max(0, len(shown) - rows) :]
    return [Text() for _ in range(rows - len(shown))] + shown


def listed(line: Transcript, rate: int, width: int, colour: dict[str, str]) -> list[Text]:
    """A finished line with its times, as rows of the printed table."""
    lead = f"  {line.start / rate:8.2f} – {line.end / rate:8.2f} s"
    rows = said(line, width - len(lead), colour)
    return [
        Text(lead if place == 0 else " " * len(lead), style=GREY).append_text(row) for place, row in enumerate(rows)
    ]
