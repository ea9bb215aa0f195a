"""``stream-ser demo``: the live view on a bundled clip."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_ser.cli.options.recognition import recognition_options, result_options
from stream_ser.cli.run.decisions import Decisions
from stream_ser.cli.run.files import Claims
from stream_ser.cli.run.log import logging_to
from stream_ser.cli.run.outputs import ErrorReporter, opened
from stream_ser.cli.run.recognizers import recognizer_for
from stream_ser.cli.run.signals import InterruptibleSource, stop_on_signals
from stream_ser.cli.run.targets import Results, targets
from stream_ser.cli.run.views import draws_on, follow, view_on
from stream_ser.driver import drive
from stream_ser.errors import AudioError
from stream_ser.events import Block

if TYPE_CHECKING:
    from stream_ser.runtime.engine import Provider

CLIP = "demo.flac"


@click.command()
@recognition_options
@result_options("none: the view has it, and moves to standard error where results are there")
@click.option("--fast/--no-fast", default=False, help="As fast as the machine can, not as fast as speech.")
@click.pass_context
def demo(
    ctx: click.Context,
    model: str | None,
    provider: Provider,
    vad: bool | None,
    decider: Decisions,
    results: Results,
    fast: bool,
) -> None:
    """See the live view at work on a bundled clip. Needs no microphone."""
    from stream_ser.sources.file import FileSource

    clip = resources.files("stream_ser.assets") / CLIP
    if not clip.is_file():
        raise AudioError(f"the demo clip {CLIP} is missing from this installation; install stream-ser again")
    # Results own standard output; people then look at standard error.
    people = sys.stderr if any(target.path is None for target in targets(results, None)) else sys.stdout
    drawn = not results.quiet and draws_on(people)
    troubles = ErrorReporter(later=drawn)
    with contextlib.ExitStack() as stack:
        stack.callback(troubles.show)
        path = stack.enter_context(resources.as_file(clip))
        claims = Claims([path, *(Path(name) for name in (model, results.config) if name)])
        stack.enter_context(logging_to(results, claims, troubles.add, screen=not (drawn and sys.stderr.isatty())))
        recognizer = recognizer_for(model, provider, vad, decider=decider, quiet=results.quiet)
        outputs = stack.enter_context(opened(results, None, claims, troubles.add, live=True))
        if results.plot is not None:
            outputs.add_plot(results.plot, recognizer.card.features)
        source = stack.enter_context(FileSource(str(path), realtime=not fast))
        stop = stack.enter_context(stop_on_signals())
        guards = list(outputs.results)
        hearers: list[Callable[[Block], None]] = [outputs.hear]
        if not results.quiet:
            view = view_on(people, recognizer.engine.provider, source.duration_s)
            guards.append(outputs.guard_view(view, people))
            hearers.append(follow(view, recognizer, guard=guards[-1]))

        def in_vain() -> bool:
            return outputs.pipe_closed or (bool(guards) and all(guard.failure for guard in guards))

        def on_block(block: Block) -> None:
            for hear in hearers:
                hear(block)

        try:
            drive(
                InterruptibleSource(source, stop, in_vain),
                recognizer,
                outputs.sinks,
                name=f"demo ({CLIP})",
                on_block=on_block,
            )
        except AudioError as error:
            if not stop() and not in_vain():
                raise
            click.echo(f"stream-ser: {error}", err=True)
    if outputs.pipe_closed:
        raise BrokenPipeError
    if troubles.any:
        ctx.exit(2 if in_vain() else 1)
