"""The terminal's alternate screen, of which only the rows that changed are written.

Most rows of a view stay as they are from one frame to the next, and laying a row out costs more than composing it: so
a frame takes half the time of drawing everything, and a fraction of the bytes, which counts over a network.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Console, ConsoleDimensions
from rich.region import Region
from rich.style import Style
from rich.text import Span, Text

REFRESH_S = 0.1
#: All rows are written this often: another program may have written on the terminal.
_WHOLE_EVERY_S = 5.0

#: What tells a row from another.
_Row = tuple[str, "str | Style", tuple[Span, ...]]


class Screen:
    """The alternate screen, drawn on at most ten times a second.

    Args:
        console: a terminal with an alternate screen, that is none of an old Windows.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._taken = False
        self._drawn_at = self._whole_at = float("-inf")
        self._size = ConsoleDimensions(0, 0)
        self._rows: list[_Row] = []

    def start(self) -> None:
        """Take it over."""
        self._taken = self.console.set_alt_screen(True)
        if self._taken:
            self.console.show_cursor(False)
        self._drawn_at = self._whole_at = float("-inf")

    @property
    def due(self) -> bool:
        """Whether the last frame is old enough."""
        return time.monotonic() - self._drawn_at >= REFRESH_S

    def draw(self, frame: Callable[[int, int], Sequence[Text]]) -> None:
        """Show what ``frame`` makes of a width and a height, a line a row; nothing while the screen is not taken."""
        if not self._taken:
            return
        size = self.console.size
        lines = list(frame(size.width, size.height))
        lines += [Text()] * (size.height - len(lines))
        rows: list[_Row] = [(line.plain, line.style, tuple(line.spans)) for line in lines]
        now = time.monotonic()
        with self.console:  # one write for all
            if size != self._size:
                self.console.clear()  # what becomes of old rows then, every terminal decides for itself
            if size != self._size or now - self._whole_at >= _WHOLE_EVERY_S:
                self._rows, self._size, self._whole_at = [], size, now
            for number, (line, row) in enumerate(zip(lines, rows, strict=True)):
                if self._rows[number : number + 1] != [row]:
                    self.console.update_screen(line, region=Region(0, number, size.width, 1))
        self._rows, self._drawn_at = rows, now

    def stop(self) -> None:
        """Give it back."""
        if self._taken:
            self._taken = False
            with self.console:  # both or none
                self.console.show_cursor(True)
                self.console.set_alt_screen(False)
