"""What stands on a terminal is the last frame, though only rows that changed are written."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from stream_ser.sinks.live import screen
from stream_ser.sinks.live.screen import Screen

_TOKEN = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])|([^\x1b])")


class Emulator:
    """As much of a terminal as a screen uses: cells, moves of the cursor, clearing, the alternate screen."""

    def __init__(self, width: int, height: int) -> None:
        self.out = io.StringIO()
        self.console = Console(file=self.out, force_terminal=True, width=width, height=height, legacy_windows=False)
        self.alternate = self.hidden = False
        self.written = 0
        self.resize(width, height)

    def resize(self, width: int, height: int) -> None:
        """The worst that a terminal may do to what stands on it."""
        self.width, self.height = self.console._width, self.console._height = width, height
        self.cells = [["#"] * width for _ in range(height)]
        self.row = self.column = 0

    def read(self) -> list[str]:
        """Take in what was written, and say what stands there."""
        text = self.out.getvalue()
        self.out.seek(0)
        self.out.truncate()
        self.written = len(text)
        at = 0
        while at < len(text):
            token = _TOKEN.match(text, at)
            assert token, f"no such sequence: {text[at : at + 12]!r}"
            at = token.end()
            private, numbers, command, glyph = token.groups()
            if glyph is not None:
                self._put(glyph)
            else:
                self._obey(private, numbers, command)
        return ["".join(row).rstrip() for row in self.cells]

    def _put(self, glyph: str) -> None:
        if glyph == "\n":
            self.row, self.column = self.row + 1, 0
            return
        assert self.row < self.height, "written below the screen"
        assert self.column < self.width, "written past the edge"
        self.cells[self.row][self.column] = glyph
        self.column += 1

    def _obey(self, private: str, numbers: str, command: str) -> None:
        if private:
            if numbers == "1049":
                self.alternate = command == "h"
            elif numbers == "25":
                self.hidden = command == "l"
        elif command == "H":
            row, column = (int(number) for number in numbers.split(";")) if numbers else (1, 1)
            self.row, self.column = row - 1, column - 1
        elif command == "J":
            self.cells = [[" "] * self.width for _ in range(self.height)]
        else:
            assert command == "m", f"unknown command {command}"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [100.0]
    monkeypatch.setattr(screen.time, "monotonic", lambda: clock[0])
    return clock


def frame_of(*lines: str):
    return lambda width, height: [Text(line[:width]) for line in lines[:height]]


FRAMES = st.lists(
    st.tuples(
        st.tuples(st.integers(1, 12), st.integers(1, 6)),
        st.lists(st.tuples(st.text("ab ●█", max_size=14), st.sampled_from(["", "red", "bold"])), max_size=8),
    ),
    min_size=1,
    max_size=8,
)


@given(FRAMES)
def test_what_stands_there_is_the_last_frame(frames) -> None:
    terminal = Emulator(5, 3)
    drawn = Screen(terminal.console)
    drawn.start()
    for (width, height), rows in frames:
        if (width, height) != (terminal.width, terminal.height):
            terminal.resize(width, height)
        lines = [Text(text[:width], style=style) for text, style in rows[:height]]
        drawn.draw(lambda _width, _height, lines=lines: lines)
        wanted = [line.plain.rstrip() for line in lines]
        assert terminal.read() == wanted + [""] * (height - len(wanted))


def test_only_what_changed_is_written(now) -> None:
    terminal = Emulator(40, 10)
    drawn = Screen(terminal.console)
    drawn.start()
    terminal.read()
    drawn.draw(frame_of(*"abcdefghij"))
    assert terminal.read() == list("abcdefghij")
    whole = terminal.written
    assert whole > 10 * 40
    drawn.draw(frame_of(*"abcdefghij"))
    terminal.read()
    assert terminal.written == 0
    drawn.draw(frame_of(*"abcXefghij"))
    assert terminal.read() == list("abcXefghij")
    assert 0 < terminal.written < 40 + 20


@pytest.mark.parametrize("change", [{"style": "red"}, {"spans": True}])
def test_a_colour_is_a_change(change) -> None:
    terminal = Emulator(20, 1)
    drawn = Screen(terminal.console)
    drawn.start()
    drawn.draw(lambda width, height: [Text("mood")])
    terminal.read()
    line = Text("mood", style=change.get("style", ""))
    if "spans" in change:
        line.stylize("bold", 1, 2)
    drawn.draw(lambda width, height: [line])
    assert terminal.read() == ["mood"]
    assert terminal.written > 0


def test_what_another_program_wrote_there_does_not_stay(now) -> None:
    terminal = Emulator(20, 3)
    drawn = Screen(terminal.console)
    drawn.start()
    drawn.draw(frame_of("one", "two"))
    terminal.read()
    terminal.cells[0][:5] = terminal.cells[2][:5] = list("noise")
    now[0] += 1.0
    drawn.draw(frame_of("one", "two"))
    assert terminal.read() == ["noise", "two", "noise"]
    now[0] += 5.0
    drawn.draw(frame_of("one", "two"))
    assert terminal.read() == ["one", "two", ""]


def test_the_terminal_is_given_back_once(now) -> None:
    terminal = Emulator(20, 3)
    drawn = Screen(terminal.console)
    drawn.draw(frame_of("too early"))
    terminal.read()
    assert terminal.written == 0
    drawn.start()
    terminal.read()
    assert terminal.alternate
    assert terminal.hidden
    drawn.stop()
    terminal.read()
    assert not terminal.alternate
    assert not terminal.hidden
    drawn.stop()
    drawn.draw(frame_of("too late"))
    terminal.read()
    assert terminal.written == 0


def test_no_more_than_ten_frames_a_second_are_due(now) -> None:
    drawn = Screen(Emulator(20, 3).console)
    drawn.start()
    assert drawn.due
    drawn.draw(frame_of("one"))
    assert not drawn.due
    now[0] += 0.099
    assert not drawn.due
    now[0] += 0.002
    assert drawn.due
