"""``stream-ser listen``: the microphone, live."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from stream_ser.cli._run import (
    Tapped,
    drive,
    follow,
    model_option,
    output_option,
    provider_option,
    recognizer_for,
    results_to,
    stop_on_signals,
    vad_option,
    view_on,
)
from stream_ser.errors import AudioError, OutputError
from stream_ser.events import Block
from stream_ser.sinks import Sink

if TYPE_CHECKING:
    from stream_ser.engine import Provider


#: Half a lifetime.
MAX_DURATION_S = 1e9


def _check_duration(ctx: click.Context, param: click.Parameter, duration: float | None) -> float | None:
    """Written so that NaN is out of range too."""
    if duration is not None and not 0 < duration <= MAX_DURATION_S:
        raise click.BadParameter(f"{duration:g} is not more than 0 and at most {MAX_DURATION_S:g} seconds")
    return duration


@click.command()
@click.option("--device", "-d", metavar="NAME|NUMBER", help="Audio input (see 'stream-ser devices').")
@model_option
@provider_option
@vad_option
@click.option("--duration", type=float, callback=_check_duration, metavar="SECONDS", help="Stop after this.")
@click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="WAV",
    help="Keep what was captured; 'stream-ser file' on it gives the same decisions.",
)
@click.option("--force", is_flag=True, help="Let --record overwrite a file.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["jsonl", "csv", "none"]),
    default="none",
    show_default=True,
    help="Results for programs, on standard output or in --output; the view moves to standard error.",
)
@output_option
@click.option("--no-view", is_flag=True, help="Show nothing; with --format.")
def listen(
    device: str | None,
    model: str | None,
    provider: Provider,
    vad: bool | None,
    duration: float | None,
    record: Path | None,
    force: bool,
    format_: str,
    output: Path | None,
    no_view: bool,
) -> None:
    """Hear the microphone and show the emotion, live. Ctrl-C ends it and prints what it came to."""
    if output is not None and format_ == "none":
        raise click.UsageError("--output needs --format jsonl or csv")
    if output is not None and record is not None and output.absolute() == record.absolute():
        raise OutputError(f"--output and --record are both {output}; choose two names")
    if record is not None and record.exists() and not force:
        raise OutputError(f"{record} exists already; choose another name or use --force")
    from stream_ser.microphone import Microphone
    from stream_ser.sources import WavRecorder

    recognizer = recognizer_for(model, provider, vad)
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(results_to(output))
        microphone = Microphone(device, duration_s=duration)
        stack.enter_context(microphone)
        # Now that the device delivers: one that does not start must leave no empty recording, nor replace one.
        recorder = None
        if record is not None:
            recorder = stack.enter_context(WavRecorder(record, microphone.sample_rate, force=force))
        # Closed, the microphone hands out what it has captured, and ends.
        should_stop = stack.enter_context(stop_on_signals(microphone.close))
        sinks: list[Sink] = []
        on_block: Callable[[Block], None] | None = None
        if not no_view:
            # Results own standard output; people then look at standard error.
            people = sys.stderr if format_ != "none" and output is None else sys.stdout
            view = view_on(people, recognizer.engine.provider)
            sinks.append(view)
            on_block = follow(view, recognizer, lambda: microphone.overflows)
        results = _results(format_, out)
        if results is not None:
            sinks.append(results)
        try:
            drive(Tapped(microphone, recorder), recognizer, sinks, on_block=on_block)
        except AudioError as error:
            # An end before there was enough to hear is no mistake of anybody's.
            if duration is None and not should_stop():
                raise
            click.echo(f"stream-ser: {error}", err=True)
    if record is not None:
        click.echo(f"stream-ser: recorded {record}", err=True)


def _results(format_: str, out: TextIO) -> Sink | None:
    if format_ == "jsonl":
        from stream_ser.sinks.jsonl import JsonLines

        return JsonLines(out, flush=True)
    if format_ == "csv":
        from stream_ser.sinks.csv_ import Csv

        return Csv(out, flush=True)
    return None
