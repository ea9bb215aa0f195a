"""``stream-ser doctor``: what is wrong with this installation, and how to mend it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from stream_ser.doctor.checks import Check

_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool) -> int:
    """Check Python, packages, telemetry, models, GPU libraries, microphones, folders, clock and terminal.

    Exit code 0 without an error, 1 with one; warnings do not count.
    """
    import json

    from stream_ser.doctor.checks import examine, report
    from stream_ser.doctor.environment import Terminal, World
    from stream_ser.sinks.table import console_for

    console = console_for(sys.stdout)
    here = Terminal(console.is_terminal, console.encoding, console.width, console.color_system)
    checks = examine(World(here))
    content = report(checks)
    if as_json:
        click.echo(json.dumps(content, indent=1))
    else:
        show(checks, console)
    return 0 if content["ok"] else 1


def show(checks: list[Check], console: Console) -> None:
    """Print the checks: on a terminal a table, else a line each, tab-separated, with the remedy last."""
    from rich.table import Table
    from rich.text import Text

    from stream_ser.doctor.checks import verdict
    from stream_ser.text import printable

    if not console.is_terminal:
        for check in checks:
            click.echo("\t".join(printable(part) for part in (check.status, check.name, check.found, check.remedy)))
        click.echo(verdict(checks))
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for check in checks:
        found = Text(printable(check.found))
        if check.remedy:
            found.append(f"\n{printable(check.remedy)}", style="bold")
        grid.add_row(Text(check.status, style=_STYLES[check.status]), check.name, found)
    console.print(grid)
    worst = next((status for status in ("error", "warning") if any(c.status == status for c in checks)), "ok")
    console.print(verdict(checks), style=_STYLES[worst])
