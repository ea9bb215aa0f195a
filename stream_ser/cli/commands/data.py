"""``stream-ser data``: look after corpora, make sets of mixtures."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from stream_ser.cli.commands.data_sets import mixtures, sines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from stream_ser.train.data.corpus_check import Finding, Report

#: More are counted; ``--json`` lists all.
_LISTED = 20


@click.group(invoke_without_command=True)
@click.pass_context
def data(ctx: click.Context) -> None:
    """Look after corpora, make sets of mixtures."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


data.add_command(sines)
data.add_command(mixtures)


@data.command()
@click.argument("corpora", nargs=-1, required=True, metavar="CORPUS=PATH...")
@click.option("--json", "as_json", is_flag=True, help="One JSON array with everything that was found.")
@click.pass_context
def check(ctx: click.Context, corpora: tuple[str, ...], as_json: bool) -> None:
    """Decode every clip, count what is there and list what is wrong.

    Corpora are read in their official layouts, from .wav, .flac, .ogg or .mp3: crema-d, ravdess, tess, savee, emo-db,
    nemo, esc-50, speech-commands, librispeech, an4, speechocean762; folder=PATH is a folder of label sub-folders,
    csv=FILE a manifest.

    Defects: a clip that cannot be decoded or not to its end, holds NaN, is silent or shorter than a frame, or has the
    same audio as another one. Clips of which many samples are at full scale, or with another sample rate than the rest,
    are remarked upon. Exit code 1: there are defects besides those that are known and left out.

    \b
    Example:
      stream-ser data check crema-d=/data/crema-d
    """  # noqa: D301 - click wants the character, not its escape
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from stream_ser.sinks.table import console_for
    from stream_ser.train.data.corpora import load, parse_data_option
    from stream_ser.train.data.corpus_check import check as run
    from stream_ser.train.data.labels import name_apart

    loaded = name_apart([load(name, path) for name, path in parse_data_option(corpora)])
    errors = Console(stderr=True)
    columns = (TextColumn("decoding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=sum(len(corpus.clips) for corpus in loaded))
        reports = run(loaded, lambda: progress.advance(task))
    if as_json:
        import json

        click.echo(json.dumps([report.as_dict() for report in reports], indent=1, ensure_ascii=False))
    else:
        console = console_for(sys.stdout)
        for report in reports:
            _print(console, report)
    if any(report.defects for report in reports):
        ctx.exit(1)


def _print(console: Console, report: Report) -> None:
    """A heading, what there is, the labels, what is wrong."""
    from rich.table import Table

    from stream_ser.sinks import clock

    content = report.as_dict()
    console.print(report.corpus.name, style="bold")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="grey62", no_wrap=True)
    grid.add_column(overflow="fold")
    lengths = content["clip_seconds"]
    grid.add_row("clips", f"{content['clips']:,}, {content['speakers']:,} speakers")
    grid.add_row(
        "length",
        f"{clock(content['seconds'])} in all; a clip {lengths['shortest']:.2f} to {lengths['longest']:.2f} s, "
        f"median {lengths['median']:.2f} s",
    )
    grid.add_row("rate", ", ".join(f"{rate} Hz ({count:,})" for rate, count in content["sample_rates_hz"].items()))
    for name in ("parts", "folds"):
        if content[name]:
            grid.add_row(name, ", ".join(f"{key} ({count:,})" for key, count in content[name].items()))
    for name, key in (("text", "with_text"), ("votes", "with_votes")):
        if content[key]:
            grid.add_row(name, f"{content[key]:,} clips")
    grid.add_row("licence", report.corpus.licence)
    console.print(grid)
    console.print()
    console.print(_labels(report))
    console.print()
    for stem, reason in report.corpus.dropped:
        console.print(f"  known, left out  {stem}: {reason}", style="grey62", soft_wrap=True)
    for what in dict.fromkeys(finding.what for finding in report.findings):
        _print_findings(console, [finding for finding in report.findings if finding.what == what])
    defects, remarks = len(report.defects), len(report.findings) - len(report.defects)
    verdict = f"{defects} new defect{'s' * (defects != 1)}" if defects else "no new defects"
    verdict += f", {remarks} remark{'s' * (remarks != 1)}" if remarks else ""
    console.print(f"  {verdict}", style="bold red" if defects else "bold green")
    console.print()


def _labels(report: Report) -> Table:
    """A row a label; the bars compare the numbers of clips."""
    from rich.table import Table
    from rich.text import Text

    from stream_ser.sinks.draw.palette import colours
    from stream_ser.sinks.draw.timeline import bar

    colour = colours(report.corpus.labels)
    groups = report.by_label()
    most = max((len(clips) for _, clips in groups), default=0)
    table = Table(box=None, padding=(0, 2), header_style="grey62")
    table.add_column("label", no_wrap=True)
    table.add_column("clips", justify="right")
    table.add_column("speakers", justify="right")
    table.add_column("seconds", justify="right")
    table.add_column("", no_wrap=True)
    for label, clips in groups:
        table.add_row(
            Text(label, style=colour[label]),
            f"{len(clips):,}",
            f"{len({clip.speaker for clip in clips}):,}",
            f"{report.seconds(clips):,.0f}",
            bar(len(clips) / max(most, 1), 24, colour[label]),
        )
    return table


def _print_findings(console: Console, findings: list[Finding]) -> None:
    style = "red" if findings[0].defect else "yellow"
    console.print(f"  {findings[0].what}: {len(findings)}", style=style)
    for finding in findings[:_LISTED]:
        console.print(f"    {finding.clip.path}: {finding.detail}", soft_wrap=True)
    if len(findings) > _LISTED:
        console.print(f"    … and {len(findings) - _LISTED} more: --json lists all", style="grey62")
