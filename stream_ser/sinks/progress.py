"""A progress bar over files, on standard error; a sink, so that it leaves before results are printed."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from stream_ser.events import Event, Prediction, StreamInfo, Summary
from stream_ser.sinks.draw.timeline import fit_tail
from stream_ser.text import printable


class FileProgress:
    """How far through how many files.

    Args:
        console: of standard error.
        files: how many streams will come; the bar stays until the last one ends or :meth:`stop`.
    """

    def __init__(self, console: Console, files: int) -> None:
        self._files = files
        self._done = 0
        self._seconds = 1.0
        self._rate = 1
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%", markup=False),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=float(files))

    def expect(self, index: int, duration_s: float | None) -> None:
        """Number of the next stream, from 0, and its length where it is known."""
        self._done = index
        self._seconds = duration_s or float("inf")

    def open(self, info: StreamInfo) -> None:
        """Show the name of the stream."""
        self._rate = info.sample_rate
        self._bar.start()
        count = f"{self._done + 1}/{self._files} " if self._files > 1 else ""
        self._bar.update(self._task, description=count + fit_tail(printable(info.name), 30))

    def write(self, event: Event) -> None:
        """Move on with every prediction."""
        if isinstance(event, Prediction):
            part = min(event.end / self._rate / self._seconds, 1.0)
            self._bar.update(self._task, completed=self._done + part)

    def close(self, summary: Summary | None) -> None:
        """The stream is done."""
        self._bar.update(self._task, completed=self._done + 1)
        if self._done + 1 >= self._files:
            self.stop()

    def note(self, message: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(Text(message), soft_wrap=True)

    def stop(self) -> None:
        """Take the bar off the screen."""
        self._bar.stop()
