"""The live view: who is heard, what it sounds like, since when, and whether the machine keeps up.

:func:`render` is pure, from a state and a size to lines of text; :class:`LiveView` is the sink that keeps the
state and draws at most ten times a second, driven by the audio itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from stream_ser.events import SILENCE, UNCERTAIN, Event, Provisional, StreamInfo, Summary
from stream_ser.sinks import clock
from stream_ser.sinks.draw.captions import captions
from stream_ser.sinks.draw.palette import BIG_ROWS, FAINT, GREY, LOST, big, colours
from stream_ser.sinks.draw.timeline import bar, fit, fit_tail
from stream_ser.sinks.live.parts import METER_COLOURS, legend, level_row, timeline
from stream_ser.sinks.live.screen import Screen
from stream_ser.sinks.live.state import LiveState
from stream_ser.sinks.table import Table

MAX_WIDTH = 140
MAX_CHART_ROWS = 6
MAX_CAPTION_ROWS = 4
_LABEL_WIDTH = 10


class LiveView:
    """Draws the stream in the terminal's alternate screen, and prints what it came to at the end.

    Args:
        console: a terminal.
        provider: execution provider that the session really got.
        duration_s: length of a file, None for a microphone.
    """

    def __init__(self, console: Console, *, provider: str, duration_s: float | None = None) -> None:
        self._screen = Screen(console)
        self._state = LiveState(provider=provider, duration_s=duration_s)
        self._result = Table(console)

    def open(self, info: StreamInfo) -> None:
        """Take over the screen."""
        self._state.begin(info)
        self._result.open(info)
        self._screen.start()
        self._draw()

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
        """A block was heard and recognised: draw, if the last frame is old enough.

        Args:
            samples: ``(time,)`` float32 at the model's rate.
            current: the stretch being shown now.
            probabilities: calibrated, in the order of the labels; empty in silence.
            overflows: reported by the device so far.
        """
        if samples.size:
            self._state.hear(samples)
        self._state.show(current, probabilities)
        self._state.overflows = overflows
        if self._screen.due:
            self._draw()

    def warn(self, text: str) -> None:
        """Show a line about something that is no event, such as an output that cannot be written any more."""
        self._state.warn(text)

    def give_back(self) -> None:
        """Give the screen back, if that was not done."""
        self._screen.stop()

    def close(self, summary: Summary | None) -> None:
        """Give the screen back and print the result."""
        self.give_back()
        self._result.close(summary)

    def _draw(self) -> None:
        self._screen.draw(lambda width, height: render(self._state, width, height))


def render(state: LiveState, width: int, height: int) -> list[Text]:
    """One frame.

    Args:
        state: what is known.
        width: cells; no line is wider.
        height: rows; there are never more. With six labels 18 rows hold everything; below that, rows go, but never
            what is wrong.

    Returns:
        The lines.
    """
    width = max(1, min(width, MAX_WIDTH))
    colour = colours(state.labels)
    status = _status(state, width)
    # Spare rows go to, in this order: what is said, chart rows, the axis, the legend, air between the parts.
    spare = height - (2 + BIG_ROWS + len(state.labels) + 1 + 1 + len(status))
    caption_rows = max(1, min(spare // 2, MAX_CAPTION_ROWS)) if state.transcribes else 0
    spare -= caption_rows
    axis_rows, legend_rows = int(spare >= 1), int(spare >= 4)
    spare -= axis_rows + legend_rows
    chart_rows = max(0, min(spare, 2))
    gaps = max(0, min(spare - chart_rows, 4))
    chart_rows += max(0, min(spare - chart_rows - gaps, MAX_CHART_ROWS - chart_rows))

    lines = [_header(state, width), Text("─" * width, style=FAINT)]
    if gaps >= 4:
        lines.append(Text())
    lines += _headline(state, colour, width)
    lines += captions(state.said, width, caption_rows, colour)
    if gaps >= 1:
        lines.append(Text())
    lines += _bars(state, colour, width)
    if gaps >= 2:
        lines.append(Text())
    lines += timeline(state, colour, width, chart_rows, bool(axis_rows))
    if legend_rows:
        lines.append(legend(state, colour, width))
    if gaps >= 3:
        lines.append(Text())
    lines += [level_row(state, width), *status]
    if state.warning and 0 < height < len(lines):
        lines[height - 1] = status[0]
    for line in lines:
        line.no_wrap = True
        line.truncate(width)
    return lines[: max(height, 0)]


def _header(state: LiveState, width: int) -> Text:
    elapsed = clock(state.heard / state.sample_rate)
    if state.duration_s is not None:
        elapsed += f" / {clock(state.duration_s)}"
    provider = state.provider.removesuffix("ExecutionProvider")
    line = Text(" ● " if state.heard else " ○ ", style=METER_COLOURS[2] if state.heard else FAINT)
    line.append("stream-ser", style="bold")
    about = f"  {state.model} · {provider} · "
    room = width - line.cell_len - len(elapsed) - 2
    line.append(fit(about, min(len(about), max(room, 0))), style=GREY)
    line.append(fit_tail(state.source, max(0, room - len(about))) if room > len(about) else "", style=GREY)
    line.append(" " * max(1, width - line.cell_len - len(elapsed) - 1))
    return line.append(elapsed, style="bold")


def _headline(state: LiveState, colour: dict[str, str], width: int) -> list[Text]:
    """The current emotion in big letters, with how sure that is and since when."""
    side_width = 24
    current = state.current
    if current is None or state.listening:
        return [Text(), Text("  listening …", style=f"italic {GREY}"), Text()]
    hue = colour.get(current.label, GREY)
    word = big(current.label, width - 2 - 3 - 12)
    since_s = max(current.end, state.heard) - current.start
    notes = {SILENCE: "no emotion claimed", UNCERTAIN: "nothing stands out"}
    side = [
        Text(notes.get(current.label, ""), style=GREY),
        Text(f"for {since_s / state.sample_rate:.1f} s", style=GREY),
        Text(),
    ]
    if current.label not in notes:
        side[0] = Text(f"{current.confidence:.0%}", style=f"bold {hue}").append(" sure so far", style=GREY)
    lines = []
    for letters, note in zip(word, side, strict=True):
        style = hue if current.label in notes else f"bold {hue}"
        line = Text("  ").append(letters, style=style).append("   ")
        note.truncate(side_width)
        lines.append(line.append_text(note))
    return lines


def _bars(state: LiveState, colour: dict[str, str], width: int) -> list[Text]:
    shown = state.current.label if state.current is not None else ""
    bar_width = max(0, width - 2 - 2 - _LABEL_WIDTH - 7)
    lines = []
    for index, label in enumerate(state.labels):
        here = label == shown
        line = Text("  ▸ " if here else "    ", style=f"bold {colour[label]}")
        name_style = f"bold {colour[label]}" if here else (colour[label] if state.probabilities else FAINT)
        line.append(fit(label, _LABEL_WIDTH), style=name_style)
        if state.probabilities:
            probability = state.probabilities[index]
            line.append(f"{probability:4.0%} ", style="bold" if here else GREY)
            line.append_text(bar(probability, bar_width, colour[label]))
        else:
            line.append("   – ", style=FAINT)
        lines.append(line)
    return lines


def _status(state: LiveState, width: int) -> list[Text]:
    """What tells whether the machine keeps up, after what is wrong now; as many rows as the width needs."""
    latency, factor = state.latency_ms, state.real_time_factor
    lost_s = state.lost / state.sample_rate
    items = [
        ("latency", "–" if latency is None else f"{latency[0]:.1f} ms, p95 {latency[1]:.1f}", GREY),
        ("audio age", "–" if state.age_ms is None else f"{state.age_ms:.0f} ms", GREY),
        (
            "RTF",
            "–" if factor is None else f"{factor:.3f}",
            LOST if factor is not None and factor > 1 else GREY,
        ),
        ("lost", f"{lost_s:.2f} s" if state.lost else "0", LOST if state.lost else GREY),
        ("overflows", str(state.overflows), LOST if state.overflows else GREY),
    ]
    lines = [Text()]
    for name, value, hue in items:
        if lines[-1].cell_len + 2 + len(name) + 1 + len(value) > width and lines[-1].cell_len:
            lines.append(Text())
        lines[-1].append(f"  {name} ", style=FAINT).append(value, style=hue)
    if state.warning:
        lines.insert(0, Text(fit(f"  ! {state.warning}", width), style=f"bold {LOST}"))
    return lines
