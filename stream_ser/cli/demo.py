"""``stream-ser demo``: the live view on a bundled clip."""

from __future__ import annotations

import sys
from importlib import resources
from typing import TYPE_CHECKING

import click

from stream_ser.cli._files import Claims
from stream_ser.cli._options import model_option, provider_option
from stream_ser.cli._outputs import Outputs, Troubles
from stream_ser.cli._run import Stoppable, draws_on, drive, follow, recognizer_for, stop_on_signals, view_on
from stream_ser.errors import AudioError

if TYPE_CHECKING:
    from stream_ser.engine import Provider

CLIP = "demo.flac"


@click.command()
@model_option
@provider_option
@click.option("--fast", is_flag=True, help="As fast as the machine can, not as fast as speech.")
@click.pass_context
def demo(ctx: click.Context, model: str | None, provider: Provider, fast: bool) -> None:
    """See the live view at work on a bundled clip. Needs no microphone."""
    from stream_ser.sources import FileSource

    clip = resources.files("stream_ser.assets") / CLIP
    if not clip.is_file():
        raise AudioError(f"the demo clip {CLIP} is missing from this installation; install stream-ser again")
    recognizer = recognizer_for(model, provider)
    troubles = Troubles(later=draws_on(sys.stdout))
    outputs = Outputs(troubles.add, Claims())
    with (
        stop_on_signals() as stop,
        resources.as_file(clip) as path,
        FileSource(str(path), realtime=not fast) as source,
        outputs,
    ):
        view = view_on(sys.stdout, recognizer.engine.provider, source.duration_s)
        on_block = follow(view, recognizer, guard=outputs.guard_view(view, sys.stdout))
        stoppable = Stoppable(source, stop, lambda: outputs.failed)
        try:
            drive(stoppable, recognizer, outputs.sinks, name=f"demo ({CLIP})", on_block=on_block)
        except AudioError as error:
            if not stop() and not outputs.failed:
                raise
            click.echo(f"stream-ser: {error}", err=True)
    troubles.show()
    if outputs.pipe_closed:
        raise BrokenPipeError
    if outputs.failed:
        ctx.exit(2)
