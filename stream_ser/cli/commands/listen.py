"""``stream-ser listen``: the microphone, live."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_ser.cli.options.capture import Capture, RecordingSource, about, as_recorded, capture_options
from stream_ser.cli.options.recognition import recognition_options, result_options
from stream_ser.cli.options.separation import Separating, count_of, separate_option, separated, separator_for
from stream_ser.cli.options.voice import memory_options
from stream_ser.cli.run.decisions import Decisions
from stream_ser.cli.run.files import Claims
from stream_ser.cli.run.log import logging_to
from stream_ser.cli.run.outputs import ErrorReporter, opened
from stream_ser.cli.run.recognizers import recognizers_for
from stream_ser.cli.run.signals import stop_on_signals
from stream_ser.cli.run.targets import Results, targets
from stream_ser.cli.run.views import draws_on, lanes_for
from stream_ser.cli.run.voice import Forgetting, Keys, Memory
from stream_ser.driver import drive_all
from stream_ser.errors import AudioError
from stream_ser.text import printable

if TYPE_CHECKING:
    from stream_ser.driver import StreamRun
    from stream_ser.runtime.engine import Provider


@click.command(cls=Separating)
@capture_options
@recognition_options
@memory_options
@separate_option
@result_options("none: the view has it, and moves to standard error where results are there")
@click.option("--no-view/--view", default=False, help="Show nothing; with --format or --output.")
@click.pass_context
def listen(
    ctx: click.Context,
    capture: Capture,
    model: str | None,
    provider: Provider,
    vad: bool | None,
    decider: Decisions,
    memory: Memory,
    separate: str | None,
    results: Results,
    no_view: bool,
) -> None:
    """Hear the microphone, or several, and show the emotion, live. Ctrl-C ends it and prints what it came to.

    With a model that has a memory, the key v makes it forget the voice that it got to know.

    Exit code 1: an output could not be written to its end.
    """
    from stream_ser.sources.merge import MergedSources
    from stream_ser.sources.microphone import Microphone

    claims = Claims([Path(name) for name in (model, separate, results.config, capture.replay) if name] + memory.files)
    capture.claim(claims)
    # Results own standard output; people then look at standard error.
    people = sys.stderr if any(target.path is None for target in targets(results, None)) else sys.stdout
    viewed = not (no_view or results.quiet)
    drawn = viewed and draws_on(people)
    troubles = ErrorReporter(later=drawn)
    with contextlib.ExitStack() as stack:
        stack.callback(troubles.show)
        # First of all: what PortAudio says of the devices belongs into the log.
        stack.enter_context(logging_to(results, claims, troubles.add, screen=not (drawn and sys.stderr.isatty())))
        captures = capture.open()
        for one in captures:
            stack.push(one)
        model, vad = as_recorded(captures[0], model, vad)
        separator = separator_for(separate)
        tapped = [RecordingSource(one, troubles.add) for one in captures]
        made = sum(len(one.parts) for one in captures) * count_of(separator)
        recognizers = recognizers_for(made, model, provider, vad, decider=decider, memory=memory, quiet=results.quiet)
        rate = recognizers[0].card.features.sample_rate
        sources = [separated(one, separator, None, rate) for one in tapped]
        outputs = stack.enter_context(opened(results, None, claims, troubles.add, live=True, several=made > 1))
        if results.plot is not None:
            outputs.add_plot(results.plot, recognizers[0].card.features)
        for one in captures:
            stack.enter_context(one)
        for source, recorders in zip(tapped, capture.recorders(captures, stack, about(model, vad)), strict=True):
            source.recorders += recorders
        if drawn and any(one.voice is not None for one in recognizers):
            keys = stack.enter_context(Keys().reading())
            forgetting = Forgetting(keys)
            for tap in tapped:
                tap.change = forgetting.of_source()
        together = MergedSources(sources)
        # Closed, a microphone hands out what it has captured, and ends.
        stop = stack.enter_context(stop_on_signals(together.close))
        lanes = lanes_for(sources, recognizers, outputs, people if viewed else None)
        for captured, (_, heard) in zip(captures, lanes, strict=True):
            # How much a separator holds back is its own affair.
            if isinstance(captured, Microphone) and separator is None:
                captured.needs_s = functools.partial(_needs_s, heard)
        try:
            drive_all(iter(together), lanes, lambda: outputs.pipe_closed)
        except AudioError as error:
            # An end before there was enough to hear is no mistake of anybody's.
            if capture.duration is None and not stop() and not outputs.pipe_closed:
                raise
            click.echo(f"stream-ser: {error}", err=True)
        for one in captures:
            if one.warning:
                troubles.add(f"warning: {one.warning}")
    failed = any(source.failed for source in tapped)
    if not failed and not results.quiet:
        for path in capture.kept:
            click.echo(f"stream-ser: recorded {printable(str(path))}", err=True)
    if outputs.pipe_closed:
        raise BrokenPipeError
    if outputs.failed or failed or troubles.any:
        ctx.exit(1)


def _needs_s(lanes: Sequence[StreamRun]) -> float:
    """Seconds of audio without which nothing can come of what a microphone gives next to one of its streams."""
    return min(lane.needs_s for lane in lanes)
