"""Plain lines for pipes and logs, one a change of what is shown live, one a verdict, and the sum at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len, set_cell_size

from stream_ser.events import (
    SILENCE,
    TOO_SHORT,
    Decision,
    Event,
    Gap,
    Notice,
    Provisional,
    StreamInfo,
    Summary,
    Transcript,
)
from stream_ser.text import printable


class Lines:
    """Writes a line as soon as the label changes, so that the output can be followed live, and one when it is final.

    Args:
        out: text stream; stays open.
        names: of all streams whose lines go there, where there are several: each line begins with its stream's.
    """

    def __init__(self, out: TextIO, names: Sequence[str] = ()) -> None:
        self._out = out
        self._width = max((cell_len(printable(name)) for name in names), default=0)
        self._info = StreamInfo("", "", (), 1)
        self._announced: tuple[int, int, str] | None = None

    def open(self, info: StreamInfo) -> None:
        """Say what is heard, and by which model."""
        self._info = info
        self._announced = None
        self._say(f"({info.model})" if self._width else f"{printable(info.name)} ({info.model})")

    def write(self, event: Event) -> None:
        """Write a line for a verdict, for a gap and for what was said."""
        if isinstance(event, Gap):
            self._say(f"{self._at(event.start)}  {event.length} samples lost")
        elif isinstance(event, Notice):
            self._say(f"{self._at(event.at)}  {event.kind}: {printable(event.text)}")
        elif isinstance(event, Transcript):
            if event.final:
                self._say(f"{self._at(event.start)}  [{event.label}] {printable(event.text)}")
        elif isinstance(event, Decision):
            self._finish(event)

    def tick(
        self,
        samples: NDArray[np.float32],
        current: Provisional | None,
        probabilities: tuple[float, ...],
        overflows: int = 0,
    ) -> None:
        """Write a line if what is shown has changed."""
        if current is not None:
            self._announce(current)

    def warn(self, text: str) -> None:
        """Nothing: what is no event is said where it is reported, and there are no frames here to be torn by it."""

    def close(self, summary: Summary | None) -> None:
        """Write the length and the emotion of the whole."""
        if summary is None:
            return
        shares = ", ".join(f"{label} {seconds:.2f} s" for label, seconds in summary.seconds.items() if seconds)
        self._say(f"{self._at(summary.samples)}  end: {summary.label} overall" + (f" ({shares})" if shares else ""))

    def _announce(self, shown: Provisional) -> None:
        """What is shown of an utterance that goes on, whenever it changes."""
        if shown.label == TOO_SHORT or (shown.utterance, shown.start, shown.label) == self._announced:
            return
        self._announced = shown.utterance, shown.start, shown.label
        if shown.label == SILENCE:
            self._say(f"{self._at(shown.start)}  {SILENCE}")
            return
        self._say(f"{self._at(shown.end)}  {shown.label}? {shown.confidence:.0%}")

    def _finish(self, stretch: Decision) -> None:
        if stretch.label == SILENCE:
            return
        sure = f" {stretch.confidence:.0%}" if stretch.confidence else ""
        until = f"to {stretch.end / self._info.sample_rate:.2f} s"
        self._say(f"{self._at(stretch.start)}  {stretch.label}{sure}  {until}")

    def _at(self, samples: int) -> str:
        return f"{samples / self._info.sample_rate:9.2f} s"

    def _say(self, line: str) -> None:
        name = set_cell_size(printable(self._info.name), self._width) + " " if self._width else ""
        self._out.write(name + line + "\n")
        self._out.flush()
