"""Rows that the live views share: the last minute, what its colours mean, the level of the input."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rich.text import Text

from stream_ser.events import SILENCE, UNCERTAIN, UNCLAIMED
from stream_ser.sinks.draw.palette import FAINT, GREY, LOST
from stream_ser.sinks.draw.timeline import EIGHTHS_UP, FILL, GAP, axis, strip
from stream_ser.sinks.live.state import FLOOR_DBFS, HISTORY_S, LiveState

#: Above these levels the meter turns yellow and red: headroom is going, clipping is near.
_LOUD_DBFS = -12.0
_CLIPPING_DBFS = -3.0
#: Labels that are shown as they are whether final or not; others have a question mark while they are provisional.
PLAIN = UNCLAIMED | {"", GAP}
METER_COLOURS = ("#46a758", "#ffc53d", "#e5484d")


def timeline(state: LiveState, colour: dict[str, str], width: int, chart_rows: int, with_axis: bool) -> list[Text]:
    """The last minute: height is confidence, colour is emotion, the strip below carries the names."""
    columns = max(1, width - 4)
    cells, heights = _columns(state, columns)
    colour = _with_provisional(colour)
    hues = [colour.get(label, FAINT) for label in cells]
    eighths = [round(confidence * chart_rows * 8) for confidence in heights]
    lines = []
    for row in range(chart_rows, 0, -1):
        glyphs = [EIGHTHS_UP[min(max(height - 8 * (row - 1), 0), 8)] for height in eighths]
        lines.append(Text("  ").append_text(_coloured(glyphs, hues)))
    lines.append(Text("  ").append_text(strip(cells, colour)))
    if with_axis:
        lines.append(Text("  ").append_text(time_axis(columns)))
    return lines


def minute(state: LiveState, colour: dict[str, str], columns: int) -> Text:
    """The last minute in one row of so many cells."""
    return strip(_columns(state, columns)[0], _with_provisional(colour))


def _with_provisional(colour: dict[str, str]) -> dict[str, str]:
    return colour | {f"{label}?": hue for label, hue in colour.items()}


def time_axis(columns: int) -> Text:
    """What stands below :func:`minute`."""
    return axis(-HISTORY_S, 0.0, columns, _ago)


def _coloured(glyphs: Sequence[str], hues: Sequence[str]) -> Text:
    """Cells as text, one span a run of a colour: spans are what costs when a frame is drawn."""
    text = Text()
    start = 0
    for hue, run in itertools.groupby(hues):
        end = start + sum(1 for _ in run)
        text.append("".join(glyphs[start:end]), style=hue)
        start = end
    return text


def _columns(state: LiveState, columns: int) -> tuple[list[str], list[float]]:
    """Label and confidence of each column, from old to new; lost audio is never painted over."""
    column_samples = HISTORY_S * state.sample_rate / columns
    # Columns stand on a fixed grid of samples: while time passes they move, but don't flicker.
    newest = int(state.heard / column_samples)
    labels = [""] * columns
    confidences = [0.0] * columns
    start = 0
    for moment in state.moments:
        first = columns - 1 - (newest - int(start / column_samples))
        last = columns - 1 - (newest - int(max(moment.end - 1, start) / column_samples))
        for column in range(max(first, 0), min(last, columns - 1) + 1):
            if labels[column] != GAP:
                labels[column] = moment.label if moment.final or moment.label in PLAIN else f"{moment.label}?"
                confidences[column] = moment.confidence
        start = moment.end
    return labels, confidences


def _ago(seconds: float) -> str:
    return "now" if seconds == 0 else f"{seconds:g} s"


def legend(state: LiveState, colour: dict[str, str], width: int) -> Text:
    """What the colours and patterns mean: all of them where there is room, else those that are no emotion."""
    marks = [(f"{FILL[label]} {label}", colour.get(label, LOST)) for label in (UNCERTAIN, SILENCE, GAP)]
    named = [(f"█ {label}", colour[label]) for label in state.labels]
    if 2 + sum(len(text) + 2 for text, _ in named + marks) <= width:
        marks = named + marks
    line = Text("  ")
    for text, hue in marks:
        line.append(f"{text}  ", style=hue)
    return line


def level_row(state: LiveState, width: int) -> Text:
    """The level of the input as a row with its numbers."""
    line = Text("  level     ", style=GREY)
    numbers = f" {decibels(state.level_dbfs)} dBFS  peak {decibels(state.peak_dbfs)}"
    cells = max(0, width - line.cell_len - len(numbers) - 2)
    return line.append_text(meter(state, cells)).append(numbers, style=GREY)


def meter(state: LiveState, cells: int) -> Text:
    """The level of the input, and its peak, from :data:`FLOOR_DBFS` to full scale."""
    level, peak = (
        round((value - FLOOR_DBFS) / -FLOOR_DBFS * cells) for value in (state.level_dbfs, min(state.peak_dbfs, 0.0))
    )
    glyphs = ["█" if cell < level else "·" for cell in range(cells)]
    hues = [FAINT] * cells
    shown = list(range(min(max(level, 0), cells)))
    if max(level, 0) < peak:
        glyphs[peak - 1] = "┃"
        shown.append(peak - 1)
    for cell in shown:
        dbfs = FLOOR_DBFS * (1 - (cell + 1) / cells)
        hues[cell] = METER_COLOURS[(dbfs > _LOUD_DBFS) + (dbfs > _CLIPPING_DBFS)]
    return _coloured(glyphs, hues)


def decibels(dbfs: float) -> str:
    """A level, three cells wide."""
    return "  –" if dbfs <= FLOOR_DBFS else f"{dbfs:3.0f}"
