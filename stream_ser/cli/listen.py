"""``stream-ser listen``: the microphone, live."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_ser.cli._capture import Capture, Tapped, about, as_recorded, capture_options
from stream_ser.cli._files import Claims
from stream_ser.cli._log import logging_to
from stream_ser.cli._options import Results, recognition_options, result_options, targets
from stream_ser.cli._outputs import Troubles, opened
from stream_ser.cli._run import draws_on, drive, follow, recognizer_for, stop_on_signals, view_on
from stream_ser.errors import AudioError
from stream_ser.events import Block
from stream_ser.text import printable

if TYPE_CHECKING:
    from stream_ser.engine import Provider


@click.command()
@capture_options
@recognition_options
@result_options("none: the view has it, and moves to standard error where results are there")
@click.option("--no-view/--view", default=False, help="Show nothing; with --format or --output.")
@click.pass_context
def listen(
    ctx: click.Context,
    capture: Capture,
    model: str | None,
    provider: Provider,
    vad: bool | None,
    results: Results,
    no_view: bool,
) -> None:
    """Hear the microphone and show the emotion, live. Ctrl-C ends it and prints what it came to.

    Exit code 1: an output could not be written to its end.
    """
    claims = Claims([Path(name) for name in (model, results.config, capture.replay) if name])
    capture.claim(claims)
    # Results own standard output; people then look at standard error.
    people = sys.stderr if any(target.path is None for target in targets(results, None)) else sys.stdout
    viewed = not (no_view or results.quiet)
    drawn = viewed and draws_on(people)
    troubles = Troubles(later=drawn)
    with contextlib.ExitStack() as stack:
        stack.callback(troubles.show)
        # First of all: what PortAudio says of the devices belongs into the log.
        stack.enter_context(logging_to(results, claims, troubles.add, screen=not (drawn and sys.stderr.isatty())))
        heard = stack.push(capture.open())
        model, vad = as_recorded(heard, model, vad)
        recognizer = recognizer_for(model, provider, vad, quiet=results.quiet)
        outputs = stack.enter_context(opened(results, None, claims, troubles.add, live=True))
        if results.plot is not None:
            outputs.add_plot(results.plot, recognizer.card.features)
        stack.enter_context(heard)
        recorders = capture.recorders(heard, stack, about(model, vad))
        # Closed, the microphone hands out what it has captured, and ends.
        stop = stack.enter_context(stop_on_signals(heard.close))
        hearers: list[Callable[[Block], None]] = [outputs.hear]
        if viewed:
            view = view_on(people, recognizer.engine.provider)
            guard = outputs.guard_view(view, people)
            hearers.append(follow(view, recognizer, lambda: heard.overflows, guard))

        def on_block(block: Block) -> None:
            for hear in hearers:
                hear(block)

        source = Tapped(heard, recorders, lambda: outputs.pipe_closed, troubles.add)
        try:
            drive(source, recognizer, outputs.sinks, on_block=on_block)
        except AudioError as error:
            # An end before there was enough to hear is no mistake of anybody's.
            if capture.duration is None and not stop() and not outputs.pipe_closed:
                raise
            click.echo(f"stream-ser: {error}", err=True)
        if warning := getattr(heard, "warning", None):
            troubles.add(f"warning: {warning}")
    for kept in (capture.wav, capture.record_session):
        if kept is not None and not source.failed and not results.quiet:
            click.echo(f"stream-ser: recorded {printable(str(kept))}", err=True)
    if outputs.pipe_closed:
        raise BrokenPipeError
    if outputs.failed or source.failed or troubles.any:
        ctx.exit(1)
