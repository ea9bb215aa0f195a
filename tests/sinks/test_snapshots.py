"""The views as text, to the letter. ``python tests/sinks/test_snapshots.py`` writes them anew; look at what changed."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console, Group
from sink_events import INFO, SPANS, SUMMARY
from view_states import LABELS, RATE, empty, eventful, many_labels, silent, talking, unsure

from stream_ser.events import Notice, Prediction, Provisional, StreamInfo, Timing
from stream_ser.sinks import table
from stream_ser.sinks.live import rows, single
from stream_ser.sinks.live.single import LiveView
from stream_ser.sinks.live.state import LiveState


def lost():
    """The device has gone, and an emotion is still shown."""
    state = eventful()
    state.take(Notice(state.heard, "lost", "the microphone was unplugged; looking for it"))
    return state


def called(name: str, state: LiveState) -> LiveState:
    """A state of a stream of that name."""
    state.source = name
    return state


def several(count: int) -> list[LiveState]:
    """Streams in four states, over and over."""
    makers = (eventful, silent, unsure, lost)
    names = ("agent", "customer", "Microphone of the second customer, front left#1", "line 4")
    return [called(names[number % 4], makers[number % 4]()) for number in range(count)]


FOLDER = Path(__file__).parent / "snapshots"
#: columns and rows: narrow, usual and wide terminals, low and high ones.
SIZES = [(60, 18), (60, 24), (80, 24), (80, 12), (200, 24), (200, 60)]
STATES = {
    state.__name__.replace("_", "-"): state for state in (empty, silent, unsure, eventful, many_labels, lost, talking)
}
WIDTHS = (60, 80, 200)
#: Streams, columns and rows: all there is, less and less of each, and more streams than fit.
ROWS = [(2, 60, 18), (2, 80, 24), (2, 200, 24), (4, 80, 24), (4, 60, 12), (12, 80, 24), (12, 60, 16), (30, 80, 24)]


def text_of(renderable: object, width: int) -> str:
    """What a terminal of that width shows, without colours and without what nobody sees at the ends of lines."""
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return "".join(line.rstrip() + "\n" for line in console.file.getvalue().splitlines())


def live_frame(state: str, width: int, height: int) -> str:
    return text_of(Group(*single.render(STATES[state](), width, height)), width)


def live_rows_frame(count: int, width: int, height: int) -> str:
    return text_of(Group(*rows.render(several(count), width, height)), width)


def printed_table(width: int) -> str:
    return text_of(table.render(INFO, SPANS, SUMMARY, min(width, table.MAX_WIDTH)), width)


def frames() -> dict[str, Callable[[], str]]:
    """File name: what makes its text."""
    found = {
        f"live-{state}-{width}x{height}.txt": partial(live_frame, state, width, height)
        for state in STATES
        for width, height in (SIZES if state in ("eventful", "talking") else [(80, 24)])
    }
    found |= {f"live-rows-{n}-{w}x{h}.txt": partial(live_rows_frame, n, w, h) for n, w, h in ROWS}
    return found | {f"table-{width}.txt": partial(printed_table, width) for width in WIDTHS}


@pytest.mark.parametrize("name", sorted(frames()))
def test_what_is_shown_is_what_was_looked_at(name: str) -> None:
    path = FOLDER / name
    assert path.exists(), f"run python {Path(__file__).name} and look at {path}"
    assert frames()[name]() == path.read_text(encoding="utf-8")


def test_no_snapshot_is_left_over() -> None:
    assert {path.name for path in FOLDER.glob("*.txt")} == set(frames())


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("state", STATES)
def test_nothing_wraps_or_scrolls(state: str, width: int, height: int) -> None:
    lines = live_frame(state, width, height).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("count", [1, 2, 5, 40])
@pytest.mark.parametrize("width", [1, 5, 10, 33, 60, 200])
@pytest.mark.parametrize("height", [1, 2, 3, 7, 24, 60])
def test_rows_of_several_streams_fit_any_terminal(count: int, width: int, height: int) -> None:
    lines = live_rows_frame(count, width, height).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_streams_that_do_not_fit_are_counted() -> None:
    text = live_rows_frame(30, 80, 24)
    assert text.count("\n") == 24
    assert "… and 9 more: " in text


class Resizable(io.StringIO):
    """A terminal's screen; :attr:`drawn` are the texts between two moves of the cursor to the top."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_that_changes_its_size_gets_frames_that_fit(no_color, monkeypatch) -> None:
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    now = [0.0]
    monkeypatch.setattr("stream_ser.sinks.live.screen.time.monotonic", lambda: now[0])
    drawn: list[tuple[int, int, str]] = []
    real = single.render

    def render(state, width, height):
        frame = real(state, width, height)
        drawn.append((width, height, text_of(Group(*frame), 500)))
        return frame

    monkeypatch.setattr("stream_ser.sinks.live.single.render", render)
    screen = Resizable()
    console = table.console_for(screen)
    view = LiveView(console, provider="CPUExecutionProvider")
    sizes = [(200, 50), (60, 18), (80, 24), (20, 5), (120, 40)]
    console.size = sizes[0]  # type: ignore[assignment]
    view.open(StreamInfo("clip", "septr", LABELS, RATE))
    for count, (width, height) in enumerate(sizes, start=1):
        console._width, console._height = width, height
        now[0] += 1.0
        probabilities = (0.1, 0.1, 0.1, 0.5, 0.1, 0.1)
        view.write(Prediction(0, count * RATE, probabilities, -20.0, Timing(1.0, 1.0)))
        view.tick(np.full(RATE, 0.1, np.float32), Provisional(0, count * RATE, "happy", 0.5), probabilities)
    view.close(None)
    assert [(width, height) for width, height, _ in drawn[-len(sizes) :]] == sizes
    for width, height, text in drawn:
        assert len(text.splitlines()) <= height
        assert max(map(len, text.splitlines())) <= width
    # With its end: a row may be the 38th.
    assert bool(re.search(r"\x1b\[(\d+;)*38;[\d;]*m", screen.getvalue())) != no_color


def write() -> None:
    """Write all snapshots anew."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.txt"):
        path.unlink()
    for name, text in frames().items():
        (FOLDER / name).write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    write()
    sys.stdout.write(f"wrote {len(frames())} snapshots to {FOLDER}; look at git diff\n")
