"""``stream-ser listen``: the microphone, live."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_ser.cli._log import logging_to
from stream_ser.cli._options import Results, recognition_options, result_options, targets
from stream_ser.cli._outputs import Claims, Troubles, opened
from stream_ser.cli._run import (
    Tapped,
    draws_on,
    drive,
    follow,
    recognizer_for,
    stop_on_signals,
    view_on,
)
from stream_ser.errors import AudioError, OutputError
from stream_ser.events import Block
from stream_ser.text import printable

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
@recognition_options
@result_options("none: the view has it, and moves to standard error where results are there")
@click.option("--duration", type=float, callback=_check_duration, metavar="SECONDS", help="Stop after this.")
@click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="WAV",
    help="Keep what was captured; 'stream-ser file' on it gives the same decisions.",
)
@click.option("--force", is_flag=True, help="Let --record overwrite a file.")
@click.option("--no-view", is_flag=True, help="Show nothing; with --format or --output.")
@click.pass_context
def listen(
    ctx: click.Context,
    device: str | None,
    model: str | None,
    provider: Provider,
    vad: bool | None,
    results: Results,
    duration: float | None,
    record: Path | None,
    force: bool,
    no_view: bool,
) -> None:
    """Hear the microphone and show the emotion, live. Ctrl-C ends it and prints what it came to.

    Exit code 1: an output could not be written to its end.
    """
    claims = Claims([Path(name) for name in (model, results.config) if name])
    if record is not None and record.exists() and not force:
        raise OutputError(f"{record} exists already; choose another name or use --force")
    if record is not None:
        claims.write(record, "--record")
    from stream_ser.microphone import Microphone
    from stream_ser.sources import WavRecorder

    # Results own standard output; people then look at standard error.
    people = sys.stderr if any(target.path is None for target in targets(results, None)) else sys.stdout
    viewed = not (no_view or results.quiet)
    drawn = viewed and draws_on(people)
    recognizer = recognizer_for(model, provider, vad)
    troubles = Troubles(later=drawn)
    with contextlib.ExitStack() as stack:
        stack.callback(troubles.show)
        stack.enter_context(logging_to(results, claims, troubles.add, screen=not (drawn and sys.stderr.isatty())))
        outputs = stack.enter_context(opened(results, None, claims, troubles.add, live=True))
        if results.plot is not None:
            outputs.add_plot(results.plot, recognizer.card.features)
        microphone = Microphone(device, duration_s=duration)
        stack.enter_context(microphone)
        # Now that the device delivers: one that does not start must leave no empty recording, nor replace one.
        recorder = None
        if record is not None:
            recorder = stack.enter_context(WavRecorder(record, microphone.sample_rate, force=force))
        # Closed, the microphone hands out what it has captured, and ends.
        stop = stack.enter_context(stop_on_signals(microphone.close))
        hearers: list[Callable[[Block], None]] = [outputs.hear]
        if viewed:
            view = view_on(people, recognizer.engine.provider)
            guard = outputs.guard_view(view, people)
            hearers.append(follow(view, recognizer, lambda: microphone.overflows, guard))

        def on_block(block: Block) -> None:
            for hear in hearers:
                hear(block)

        source = Tapped(microphone, recorder, lambda: outputs.pipe_closed)
        try:
            drive(source, recognizer, outputs.sinks, on_block=on_block)
        except AudioError as error:
            # An end before there was enough to hear is no mistake of anybody's.
            if duration is None and not stop() and not outputs.pipe_closed:
                raise
            click.echo(f"stream-ser: {error}", err=True)
    if record is not None:
        click.echo(f"stream-ser: recorded {printable(str(record))}", err=True)
    if outputs.pipe_closed:
        raise BrokenPipeError
    if outputs.failed:
        ctx.exit(1)
