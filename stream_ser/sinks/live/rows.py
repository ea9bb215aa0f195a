"""The live view of several streams: the same rows for each, below one another, on one axis of time.

:func:`render` is pure, from states and a size to lines of text. What a stream has of rows follows from the height: who
it is with what it sounds like, the last minute, the level, the probabilities, a chart; streams that do not fit at all
are counted below the others. :class:`LiveRows` takes over the screen with the first stream that begins and gives it
back with the first that ends, for they come and go together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from stream_ser.events import UNCLAIMED, Event, Provisional, StreamInfo, Summary
from stream_ser.sinks import clock
from stream_ser.sinks.draw.captions import captions
from stream_ser.sinks.draw.palette import FAINT, GREY, LOST, colours
from stream_ser.sinks.draw.timeline import EIGHTHS_UP, bar, fit, fit_tail
from stream_ser.sinks.live.parts import METER_COLOURS, decibels, legend, level_row, meter, minute, time_axis, timeline
from stream_ser.sinks.live.screen import Screen
from stream_ser.sinks.live.single import MAX_WIDTH
from stream_ser.sinks.live.state import LiveState
from stream_ser.sinks.table import Table

#: Rows of a stream that has all there is, one of them empty, without the chart above the last minute.
_ALL_ROWS = 5
_MAX_CHART_ROWS = 4
_LABEL_WIDTH = 10
_METER_CELLS = 8


class LiveRows:
    """Draws several streams in the terminal's alternate screen, and prints what they came to at the end.

    Args:
        console: a terminal.
        count: of the streams.
        provider: execution provider that the session really got.

    Attributes:
        rows: a view for each stream.
    """

    def __init__(self, console: Console, count: int, *, provider: str) -> None:
        self._screen = Screen(console)
        self._states = [LiveState(provider=provider) for _ in range(count)]
        self._begun = 0
        self.rows = [Row(self, state, Table(console)) for state in self._states]

    def begin(self) -> None:
        """A stream begins; with the last one all is known that is shown."""
        self._begun += 1
        if self._begun == len(self.rows):
            self._screen.start()
            self.draw()

    def end(self) -> None:
        """A stream ended."""
        self._screen.stop()

    def tick(self) -> None:
        """Draw, if the last frame is old enough."""
        if self._screen.due:
            self.draw()

    def draw(self) -> None:
        """Draw a frame."""
        self._screen.draw(lambda width, height: render(self._states, width, height))


class Row:
    """The view of one of several streams."""

    def __init__(self, board: LiveRows, state: LiveState, result: Table) -> None:
        self._board = board
        self._state = state
        self._result = result

    def open(self, info: StreamInfo) -> None:
        """Take over the screen, if all the others have begun."""
        self._state.begin(info)
        self._result.open(info)
        self._board.begin()

    def write(self, event: Event) -> None:
        """Take an event into the state; nothing is drawn before the next :meth:`tick`."""
        self._state.take(event)
        self._result.write(event)

    def tick(
        self,
        samples: NDArray[np.float32],
        current: Provisional | None,
        probabilities: tuple[float, ...],
        overflows: int = 0,
    ) -> None:
        """A block was heard and recognised; arguments as of :meth:`LiveView.tick`."""
        if samples.size:
            self._state.hear(samples)
        self._state.show(current, probabilities)
        self._state.overflows = overflows
        self._board.tick()

    def warn(self, text: str) -> None:
        """Show a line about something that is no event, such as an output that cannot be written any more."""
        self._state.warn(text)

    def give_back(self) -> None:
        """Give the screen back, if that was not done."""
        self._board.end()

    def close(self, summary: Summary | None) -> None:
        """Give the screen back and print the stream's result."""
        self.give_back()
        self._result.close(summary)


def render(states: Sequence[LiveState], width: int, height: int) -> list[Text]:
    """One frame.

    Args:
        states: one a stream, of one model.
        width: cells; no line is wider.
        height: rows; there are never more.

    Returns:
        The lines.
    """
    width = max(1, min(width, MAX_WIDTH))
    colour = colours(states[0].labels)
    count, free = len(states), max(0, height - 2)
    # What stands below all streams comes only where it takes no row of theirs that says more.
    below = next(rows for rows, each in ((2, _ALL_ROWS - 1), (1, 2), (0, 0)) if (free - rows) // count >= each)
    each = max(1, (free - below) // count)
    shown = states if count <= free else states[: max(0, free - 1)]
    lines = [_header(states, width), Text("─" * width, style=FAINT)]
    for state in shown:
        lines += [_single(state, colour, width)] if each == 1 else _block(state, colour, width, each)
    if len(shown) < count:
        lines.append(_hidden(states[len(shown) :], colour, width))
    if below >= 1:
        lines.append(Text("  ").append_text(time_axis(max(1, width - 4))))
    if below >= 2:
        lines.append(legend(states[0], colour, width))
    for line in lines:
        line.no_wrap = True
        line.truncate(width)
    return lines[: max(height, 0)]


def _header(states: Sequence[LiveState], width: int) -> Text:
    first = states[0]
    heard = max(state.heard / state.sample_rate for state in states)
    elapsed = clock(heard)
    line = Text(" ● " if heard else " ○ ", style=METER_COLOURS[2] if heard else FAINT)
    line.append("stream-ser", style="bold")
    about = f"  {first.model} · {first.provider.removesuffix('ExecutionProvider')} · {len(states)} streams"
    line.append(fit(about, max(0, width - line.cell_len - len(elapsed) - 2)), style=GREY)
    line.append(" " * max(1, width - line.cell_len - len(elapsed) - 1))
    return line.append(elapsed, style="bold")


def _block(state: LiveState, colour: dict[str, str], width: int, rows: int) -> list[Text]:
    """A stream in two rows or more, as many as are there or all there is."""
    charted = max(0, min(rows - _ALL_ROWS, _MAX_CHART_ROWS))
    lines = [_title(state, colour, width, warn=rows == 2)]
    if rows >= 4:
        lines.append(_bars(state, colour, width))
    lines += timeline(state, colour, width, charted, with_axis=False)
    if rows >= 3:
        lines.append(_warning(state, width) if state.warning else _sound(state, colour, width))
    if rows >= _ALL_ROWS:
        lines.append(Text())
    return lines


def _sound(state: LiveState, colour: dict[str, str], width: int) -> Text:
    """What is said, from a model that says so; else how loud it is."""
    if not state.transcribes:
        return level_row(state, width)
    (row,) = captions(state.said, width, 1, colour)
    return row


def _title(state: LiveState, colour: dict[str, str], width: int, *, warn: bool) -> Text:
    """Who it is, what it sounds like and since when; at the right whether the machine keeps up, or what is wrong."""
    label = _label(state, colour)
    room = width - 1 - _LABEL_WIDTH - 2 - label.cell_len - 2
    status = _warning(state, max(0, room)) if warn and state.warning else _status(state, room)
    line = Text(" ")
    room = width - 1 - 2 - label.cell_len - status.cell_len - 2
    line.append(fit_tail(state.source, min(max(room, 0), max(cell_len(state.source), _LABEL_WIDTH))), style="bold")
    line.append("  ").append_text(label)
    line.append(" " * max(0, width - line.cell_len - status.cell_len - 1))
    return line.append_text(status)


def _label(state: LiveState, colour: dict[str, str]) -> Text:
    current = state.current
    if current is None or state.listening:
        return Text("listening …", style=f"italic {GREY}")
    hue = colour.get(current.label, GREY)
    if current.label in UNCLAIMED:
        text = Text(current.label, style=hue)
    else:
        text = Text(f"▸ {current.label}?", style=f"bold {hue}").append(f" {current.confidence:.0%}", style=GREY)
    since_s = max(current.end, state.heard) - current.start
    return text.append(f" for {since_s / state.sample_rate:.1f} s", style=FAINT)


def _status(state: LiveState, width: int) -> Text:
    """Whether the machine keeps up; what says least goes first where there is no room."""
    items = [
        ("" if state.latency_ms is None else f"latency {state.latency_ms[0]:.1f} ms", FAINT),
        ("" if state.age_ms is None else f"age {state.age_ms:.0f} ms", FAINT),
        (f"overflows {state.overflows}" if state.overflows else "", LOST),
        (f"lost {state.lost / state.sample_rate:.2f} s" if state.lost else "", LOST),
    ]
    items = [item for item in items if item[0]]
    while items and sum(len(text) + 2 for text, _ in items) - 2 > width:
        del items[0]
    return Text("  ").join(Text(*item) for item in items)


def _warning(state: LiveState, width: int) -> Text:
    return Text(fit(f"  ! {state.warning}", width).rstrip(), style=f"bold {LOST}")


def _bars(state: LiveState, colour: dict[str, str], width: int) -> Text:
    """All probabilities in one row: bars, numbers or heights, by the room there is; the highest of too many labels."""
    labels, shown = state.labels, state.probabilities
    cells = (width - 2) // max(1, len(labels))
    if shown and cells >= max(map(cell_len, labels)) + 12:
        line = Text("  ")
        for label, value in zip(labels, shown, strict=True):
            line.append(label, style=colour[label]).append(f"{value:5.0%} ", style=GREY)
            line.append_text(bar(value, cells - cell_len(label) - 8, colour[label])).append("  ")
        return line
    order = sorted(range(len(labels)), key=lambda index: -shown[index] if shown else index)
    numbered = bool(shown) and sum(cell_len(label) + 7 for label in labels) <= width
    while len(order) > 1 and sum(cell_len(labels[index]) + (7 if numbered else 4) for index in order) > width:
        order.pop()
    parts = []
    for index in sorted(order):
        part = Text(labels[index] + " ", style=colour[labels[index]] if shown else FAINT)
        if not shown:
            part.append("–", style=FAINT)
        elif numbered:
            part.append(f"{shown[index]:.0%}".ljust(4), style=GREY)
        else:
            part.append(EIGHTHS_UP[max(1, round(min(shown[index], 1.0) * 8))])
        parts.append(part)
    return Text("  ").append_text(Text("  ").join(parts))


def _single(state: LiveState, colour: dict[str, str], width: int) -> Text:
    """A stream in one row: its name, what it sounds like, the last minute as far as there is room, the level."""
    name = fit_tail(state.source, min(max(_LABEL_WIDTH, width // 4), 30))
    line = Text(f" {name} ", style="bold")
    if state.warning:
        return line.append(fit(f"! {state.warning}", max(0, width - line.cell_len - 1)), style=f"bold {LOST}")
    current = state.current
    shown = "listening" if current is None or state.listening else current.label
    hue = GREY if current is None else colour.get(current.label, GREY)
    line.append(fit(shown, _LABEL_WIDTH), style=hue if shown in UNCLAIMED else f"bold {hue}")
    sure = current is not None and current.label not in UNCLAIMED
    line.append(f"{current.confidence:4.0%} " if sure and current is not None else "     ", style=GREY)
    lost = Text(f" lost {state.lost / state.sample_rate:.1f} s" if state.lost else "", style=LOST)
    columns = width - line.cell_len - _METER_CELLS - 6 - lost.cell_len
    if columns >= _LABEL_WIDTH:
        line.append_text(minute(state, colour, columns)).append(" ")
    line.append_text(meter(state, _METER_CELLS)).append(f" {decibels(state.level_dbfs)}", style=GREY)
    return line.append_text(lost)


def _hidden(states: Sequence[LiveState], colour: dict[str, str], width: int) -> Text:
    """That there are more, what they sound like, and which of them something is wrong with."""
    line = Text(f" … and {len(states)} more:", style=FAINT)
    for state in states:
        label = "listening" if state.current is None or state.listening else state.current.label
        label, hue = ("!" + label, LOST) if state.warning else (label, colour.get(label, GREY))
        if line.cell_len + 1 + len(label) + 2 > width:
            return line.append(" …", style=FAINT)
        line.append(f" {label}", style=hue)
    return line
