"""Pieces of text that the printed table and the live view share: pure, and exactly as wide as asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from stream_ser.events import SILENCE, TOO_SHORT, UNCERTAIN
from stream_ser.sinks.draw.palette import FAINT, LOST

EIGHTHS_RIGHT = " ▏▎▍▌▋▊▉█"
EIGHTHS_UP = " ▁▂▃▄▅▆▇█"
#: Label of a stretch of audio that was lost, for :func:`strip`.
GAP = "lost"
#: Cells of a stretch that claims no emotion look different without colours, too.
FILL = {SILENCE: "·", UNCERTAIN: "░", TOO_SHORT: "▒", GAP: "╳"}
#: Steps of a time axis, seconds.
_AXIS_STEPS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)

Run = tuple[str, int]
"""A label ("" for nothing yet) and for how many cells it lasts."""


def fit(content: str, width: int) -> str:
    """Cut or padded to exactly ``width`` terminal cells; a cut shows as an ellipsis."""
    if cell_len(content) > width > 0:
        return set_cell_size(content, width - 1) + "…"
    return set_cell_size(content, max(width, 0))


def fit_tail(content: str, width: int) -> str:
    """Like :func:`fit`, but a cut loses the beginning: of a path, the end says most."""
    if cell_len(content) <= width:
        return fit(content, width)
    tail = content
    while tail and cell_len(tail) > width - 1:
        tail = tail[1:]
    return fit("…" + tail, width)


def bar(fraction: float, width: int, colour: str) -> Text:
    """A horizontal bar, drawn to an eighth of a cell.

    Args:
        fraction: clipped to 0..1.
        width: cells of a full bar.
        colour: of the filled part.
    """
    eighths = round(min(max(fraction, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    filled = "█" * full + (EIGHTHS_RIGHT[rest] if rest else "")
    text = Text(filled, style=colour, end="")
    text.append(" " * (width - len(filled)))
    return text


def runs(labels: Sequence[str]) -> list[Run]:
    """Run-length code of one label a cell."""
    out: list[Run] = []
    for label in labels:
        if out and out[-1][0] == label:
            out[-1] = (label, out[-1][1] + 1)
        else:
            out.append((label, 1))
    return out


def strip(cells: Sequence[str], colours: dict[str, str]) -> Text:
    """A coloured timeline, one cell a time step; each stretch carries its name where there is room.

    Args:
        cells: label of each cell; :data:`GAP` for lost audio, "" for nothing yet.
        colours: colour of each label.
    """
    text = Text(end="")
    for label, length in runs(cells):
        if not label:
            text.append(" " * length)
            continue
        colour = LOST if label == GAP else colours.get(label, FAINT)
        name = label if len(label) + 1 <= length else ""
        if name:
            ink = colour if label in FILL else f"bold #101216 on {colour}"
            text.append(name, style=ink)
        text.append(FILL.get(label, "█") * (length - len(name)), style=colour)
    return text


def sample_cells(spans: Sequence[tuple[int, int, str]], start: int, end: int, width: int) -> list[str]:
    """Label of each of ``width`` cells that share ``[start, end)`` evenly.

    Args:
        spans: ``(start, end, label)`` in order; of two in one cell the longer one is shown, but lost audio
            always.
        start: first sample.
        end: one past the last sample.
        width: number of cells.
    """
    cells: list[str] = []
    length = max(end - start, 1)
    first = 0
    for cell in range(width):
        low = start + cell * length / width
        high = start + (cell + 1) * length / width
        while first < len(spans) and spans[first][1] <= low:
            first += 1
        best, best_overlap = "", 0.0
        for span_start, span_end, label in spans[first:]:
            if span_start >= high:
                break
            overlap = min(span_end, high) - max(span_start, low)
            if overlap > 0 and label == GAP:
                best = GAP
                break
            if overlap > best_overlap:
                best, best_overlap = label, overlap
        cells.append(best)
    return cells


def axis(start_s: float, end_s: float, width: int, name: Callable[[float], str]) -> Text:
    """A time axis with as many round times as fit.

    Args:
        start_s: time at the left edge.
        end_s: time at the right edge.
        width: cells.
        name: writes a time.
    """
    length_s = max(end_s - start_s, 1e-9)
    room = max(len(name(start_s)), len(name(end_s))) + 4
    fitting = (step for step in _AXIS_STEPS_S if step / length_s * width >= room)
    step_s = next(fitting, length_s)
    line = [" "] * width
    tick = -(-start_s // step_s)
    used = 0
    while tick * step_s <= end_s + 1e-9:
        cell = round((tick * step_s - start_s) / length_s * width)
        mark = name(tick * step_s)
        cell = min(cell, width - len(mark))
        if cell >= used:
            line[cell : cell + len(mark)] = mark
            used = cell + len(mark) + 1
        tick += 1
    return Text("".join(line)[:width], style=FAINT, end="")
