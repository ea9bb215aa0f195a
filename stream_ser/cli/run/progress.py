"""How far a training is: bars on a terminal, without one a line an epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class Bars:
    """Bars for what is prepared, then for epochs and for the steps of each. A context manager.

    Args:
        console: on standard error.
        shown: without it there are only the lines of the epochs.
    """

    def __init__(self, console: Console, shown: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description:>9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._console = console
        self._progress = Progress(*columns, console=console, disable=not shown)

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def prepare(self, clips: int, work: Callable[[Callable[[], None]], object]) -> None:
        """Run ``work``, which calls what it gets once a clip."""
        task = self._progress.add_task("decoding", total=clips, note="")
        work(lambda: self._progress.advance(task))
        self._progress.remove_task(task)

    def begin(self, epochs: int, done: int, steps: int) -> None:
        """Training begins: so many epochs, some of them done already, of so many steps."""
        self._epochs = self._progress.add_task("epochs", total=epochs, completed=done, note="")
        self._steps = self._progress.add_task("steps", total=steps, note="")

    def step(self, step: int, loss: float) -> None:
        """A step, counted from 1, is done."""
        self._progress.update(self._steps, completed=step, note=f"loss {loss:.4f}")

    def epoch(self, line: str, note: str = "") -> None:
        """An epoch is done: a line that stays, and a note beside the bar."""
        self._progress.update(self._epochs, advance=1, note=note)
        self._console.print(line, highlight=False, soft_wrap=True)


def check_folder(out: Path, checkpoint: str, there: bool, resume: bool) -> None:
    """See that a run begins in a folder without one, or goes on in its own.

    Args:
        out: run folder.
        checkpoint: name of the file in it.
        there: whether it exists.
        resume: whether it should.

    Raises:
        TrainError: the other way round.
    """
    from stream_ser.errors import TrainError

    if there and not resume:
        raise TrainError(f"{out}: holds a run already; go on with --resume or choose another --out")
    if resume and not there:
        raise TrainError(f"{out}: holds no {checkpoint} to resume; leave --resume away to start a run")
