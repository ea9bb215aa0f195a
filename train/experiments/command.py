"""What the experiments' command lines share: one-line errors, results as JSON, tables for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from stream_ser.errors import OutputError, StreamSerError


class Mistake(click.ClickException):
    """One line on standard error, then exit code 2."""

    exit_code = StreamSerError.exit_code


class Command(click.Command):
    """A command in which a user's mistake ends as one line and exit code 2, as in ``stream-ser``."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except StreamSerError as error:
            raise Mistake(" ".join(str(error).splitlines())) from None


def make_parent(path: Path) -> None:
    """Make the folder that ``path`` goes to, before any work is done for it.

    Raises:
        OutputError: it cannot be made, or ``path`` is a folder.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, expected a file name; choose another --out")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write results.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None


@contextmanager
def progress_bar(name: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error where that is a terminal; gives what is to be called once a step."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(name, total=total)
        yield lambda: progress.advance(task)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output: the first column is a name, the others are numbers."""
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
