"""``stream-ser demo``: the live view on a bundled clip."""

from __future__ import annotations

import sys
from importlib import resources
from typing import TYPE_CHECKING

import click

from stream_ser.cli._run import (
    Tapped,
    drive,
    follow,
    model_option,
    provider_option,
    recognizer_for,
    stop_on_signals,
    view_on,
)
from stream_ser.errors import AudioError

if TYPE_CHECKING:
    from stream_ser.engine import Provider

CLIP = "demo.flac"


@click.command()
@model_option
@provider_option
@click.option("--fast", is_flag=True, help="As fast as the machine can, not as fast as speech.")
def demo(model: str | None, provider: Provider, fast: bool) -> None:
    """See the live view at work on a bundled clip. Needs no microphone."""
    from stream_ser.sources import FileSource

    clip = resources.files("stream_ser.assets") / CLIP
    if not clip.is_file():
        raise AudioError(f"the demo clip {CLIP} is missing from this installation; install stream-ser again")
    recognizer = recognizer_for(model, provider)
    with (
        stop_on_signals() as should_stop,
        resources.as_file(clip) as path,
        FileSource(str(path), realtime=not fast) as source,
    ):
        view = view_on(sys.stdout, recognizer.engine.provider, source.duration_s)
        stoppable = Tapped(source, should_stop=should_stop)
        try:
            drive(stoppable, recognizer, [view], name=f"demo ({CLIP})", on_block=follow(view, recognizer))
        except AudioError as error:
            if not should_stop():
                raise
            click.echo(f"stream-ser: {error}", err=True)
