"""``stream-ser report``: many runs in one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from stream_ser.train.evaluation.run_table import Row

#: As in stream_ser.train.evaluation.run_table, which needs numpy.
SORTS = ("name", "uar", "wa", "f1", "ece", "parameters", "macs", "time", "latency")
#: Columns where standard output is no terminal.
_WIDTH = 150


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUNS...")
@click.option("--sort", type=click.Choice(SORTS), default="uar", show_default=True, help="Best first.")
@click.option("--latency", is_flag=True, help="Measure the median time of one window in one thread.")
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help="Also draw the table into this file.")
@click.option("--csv", "format_", flag_value="csv", help="Print CSV.")
@click.option("--json", "format_", flag_value="json", help="Print JSON.")
def report(paths: tuple[Path, ...], sort: str, latency: bool, png: Path | None, format_: str | None) -> None:
    """Put trained runs into one table.

    RUNS are run folders, or folders that hold some; a finished series (folds, seeds) is one row of means. Runs that
    were scored on different splits are kept apart, and where speakers are in more than one part it says so.

    Scores are those of the last epoch, on the test part where the split has one. ECE is the expected calibration error
    as trained; "calibrated" with a temperature fitted on other speakers. MACs count one window.

    \b
    Example:
      stream-ser report runs --sort macs --png runs.png
    """  # noqa: D301 - click wants the character itself
    import sys

    from rich.console import Console

    from stream_ser.errors import OutputError
    from stream_ser.train.evaluation import run_table

    rows = []
    for folder in run_table.find(paths):
        row = run_table.read(folder)
        if row is None:
            click.echo(f"{folder}: no epoch is finished yet, left out", err=True)
            continue
        row = run_table.with_macs(row)
        rows.append(run_table.with_latency(row) if latency else row)
    groups = run_table.arrange(rows, sort)
    if format_ is not None:
        _print_data(groups, format_)
    elif groups:
        _print(Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH), groups)
    if png is not None and groups:
        from stream_ser.train.evaluation.plots import plot_runs

        try:
            plot_runs(groups, png)
        except OSError as error:
            raise OutputError(f"{png}: cannot be written ({error.strerror}); choose another --png") from None
        click.echo(f"{png}: written", err=True)


def _print_data(groups: Sequence[Sequence[Row]], format_: str) -> None:
    import json
    import sys

    content = [row.as_dict() for group in groups for row in group]
    if format_ == "json":
        click.echo(json.dumps(content, indent=1))
        return
    import csv
    from dataclasses import fields

    from stream_ser.train.evaluation.run_table import Row

    writer = csv.DictWriter(sys.stdout, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for line in content:
        writer.writerow({**line, "seeds": " ".join(map(str, line["seeds"]))})


def columns(rows: Sequence[Row]) -> dict[str, Callable[[Row], str]]:
    """Heading and text of each column that any of ``rows`` fills."""
    from stream_ser.train.evaluation.run_table import duration, names, short

    called = names(rows)
    found: dict[str, Callable[[Row], str]] = {
        "run": lambda r: called[r.folder],
        "network": lambda r: r.network,
        "parameters": lambda r: short(r.parameters),
        "MACs": lambda r: short(r.macs) or "-",
        "trained": lambda r: duration(r.train_seconds),
        "seeds": lambda r: ", ".join(map(str, r.seeds)),
        "WA": lambda r: f"{r.wa:.4f}",
        "UAR": lambda r: f"{r.uar:.4f}" + ("" if r.uar_std is None else f" ± {r.uar_std:.4f}"),
        "F1": lambda r: f"{r.f1:.4f}",
        "ECE": lambda r: f"{r.ece:.3f}",
    }
    if any(row.ece_calibrated is not None for row in rows):
        found["calibrated"] = lambda r: "-" if r.ece_calibrated is None else f"{r.ece_calibrated:.3f}"
    if any(row.latency_ms is not None for row in rows):
        found["latency"] = lambda r: "-" if r.latency_ms is None else f"{r.latency_ms:.2f} ms, {r.latency_by}"
    return found


def _print(console: Console, groups: Sequence[Sequence[Row]]) -> None:
    from rich.table import Table
    from rich.text import Text

    shown = columns([row for group in groups for row in group])
    for group in groups:
        first = group[0]
        title = Text(f"{first.protocol}; {first.clips:,} clips", style="bold")
        if first.overlap:
            title.append("\nSPEAKERS OVERLAP between the parts: not comparable with the other tables", style="bold red")
        table = Table(title=title, title_justify="left")
        for number, head in enumerate(shown):
            table.add_column(
                head, justify="left" if number < 2 else "right", overflow="fold" if number == 0 else "ellipsis"
            )
        for row in group:
            table.add_row(*(Text(text(row)) for text in shown.values()))
        console.print(table)
