"""``stream-ser enroll``: voice profiles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_ser.cli.options.recognition import model_option, provider_option
from stream_ser.errors import AudioError, VoiceError
from stream_ser.text import printable

if TYPE_CHECKING:
    from stream_ser.events import Block
    from stream_ser.recognition.recognizer import Recognizer
    from stream_ser.recognition.voice_profile import VoiceProfile
    from stream_ser.runtime.engine import Provider
    from stream_ser.sources.base import Source

#: Less speech than this is no profile, seconds.
LEAST_S = 3.0
#: A microphone is given up after this many times the seconds that were asked for.
_PATIENCE = 4.0


# Hidden as long as no bundled model has a memory of the voice.
@click.command(hidden=True)
@click.argument("name", required=False)
@click.argument("audio", required=False, type=click.Path(path_type=Path, dir_okay=False), metavar="[FILE]")
@click.option(
    "--seconds",
    type=click.FloatRange(LEAST_S, 3600.0),
    default=20.0,
    show_default=True,
    metavar="S",
    help="Speech to hear; of a file, what lies beyond is not heard.",
)
@click.option("--device", "-d", metavar="N|NAME", help="Microphone (see 'stream-ser devices').")
@model_option
@provider_option
@click.option("--force/--no-force", default=False, help="Replace a profile of the same name.")
@click.option("--list", "listed", is_flag=True, help="List the stored profiles and where they lie.")
@click.option("--delete", "deleted", metavar="NAME", help="Delete a stored profile.")
@click.option("--quiet/--no-quiet", "-q", default=False, help="Show nothing but errors and the path.")
@click.pass_context
def enroll(
    ctx: click.Context,
    name: str | None,
    audio: Path | None,
    seconds: float,
    device: str | None,
    model: str | None,
    provider: Provider,
    force: bool,
    listed: bool,
    deleted: str | None,
    quiet: bool,
) -> None:
    """Hear ordinary speech of one person, from the microphone or FILE, and store what is typical of the voice.

    A profile is a small file of numbers without audio, for one model. 'listen --voice NAME' and 'file --voice NAME'
    begin with it. Needs a model with a memory of the voice.
    """
    from stream_ser.recognition import voice_profile

    if listed or deleted is not None:
        if name is not None or (listed and deleted is not None):
            raise click.UsageError("--list and --delete NAME each stand alone")
        if deleted is not None:
            click.echo(f"stream-ser: deleted {printable(str(voice_profile.delete(deleted)))}", err=True)
        else:
            _list()
        return
    if name is None:
        raise click.UsageError("missing NAME, what to call the voice")
    if audio is not None and device is not None:
        raise click.UsageError("--device and FILE both say what to hear; give one")
    path = voice_profile.path_of(name)
    if path.exists() and not force:
        raise VoiceError(f"{path}: exists already; choose another name or --force")
    profile = _heard(model, provider, audio, device, seconds, quiet=quiet)
    path = voice_profile.save(profile, name, force=force)
    click.echo(str(path))
    if not quiet:
        click.echo(
            f"stream-ser: {profile.seconds:.0f} s of speech; use it with --voice {printable(name)}, delete it with "
            f"'stream-ser enroll --delete {printable(name)}'",
            err=True,
        )


def _list() -> None:
    from stream_ser.recognition import voice_profile

    for name in voice_profile.names():
        try:
            profile = voice_profile.read(name)
            about = [printable(profile.model), f"{profile.seconds:.0f} s"]
        except VoiceError:
            about = ["damaged", ""]
        click.echo("\t".join([printable(name), *about, printable(str(voice_profile.path_of(name)))]))
    click.echo(f"stream-ser: voice profiles lie in {printable(str(voice_profile.folder()))}", err=True)


def _heard(
    model: str | None, provider: Provider, audio: Path | None, device: str | None, seconds: float, *, quiet: bool
) -> VoiceProfile:
    """What a session of the model holds after so much speech."""
    from stream_ser.cli.run.recognizers import recognizer_for
    from stream_ser.cli.run.signals import stop_on_signals
    from stream_ser.sources.file import FileSource

    # Voice activity detection says what is speech: it is never left out.
    recognizer = recognizer_for(model, provider, True, quiet=quiet)
    if recognizer.card.memory is None:
        raise VoiceError(
            f"model {recognizer.card.name} has no memory of a voice; give another one with --model (see "
            "'stream-ser models')"
        )
    with contextlib.ExitStack() as stack:
        source: Source
        if audio is not None:
            rate = recognizer.card.features.sample_rate
            source = stack.enter_context(FileSource(str(audio), sample_rate=rate))
            _hear(source, recognizer, seconds, None)
        else:
            from stream_ser.sources.microphone import Microphone

            if not quiet:
                click.echo(f"stream-ser: speak as usual for {seconds:g} s, with pauses; Ctrl-C ends it", err=True)
            microphone = stack.enter_context(Microphone(device, duration_s=_PATIENCE * seconds))
            stack.enter_context(stop_on_signals(microphone.close))
            _hear(microphone, recognizer, seconds, None if quiet else seconds)
    profile = recognizer.voice
    assert profile is not None
    if profile.seconds < LEAST_S:
        raise VoiceError(
            f"{profile.seconds:.1f} s of speech were heard, expected at least {LEAST_S:g} s, better {seconds:g}; "
            "speak closer to the microphone, or give a longer recording"
        )
    return profile


def _hear(source: Source, recognizer: Recognizer, seconds: float, told: float | None) -> None:
    """Hear a source until its end, or until so much speech of finished utterances was heard."""
    from stream_ser.sources.block_resampler import resampled

    blocks: Iterable[Block] = resampled(source, recognizer.card.features.sample_rate)
    shown = 0.0
    for block in blocks:
        recognizer.push_block(block)
        profile = recognizer.voice
        heard_s = 0.0 if profile is None else profile.seconds
        if told is not None and heard_s > shown:
            shown = heard_s
            click.echo(f"stream-ser: {min(heard_s, told):.0f} of {told:g} s", err=True)
        if heard_s >= seconds:
            return
    # Too short for an answer is too short for a voice, which is said in its own words.
    with contextlib.suppress(AudioError):
        recognizer.flush()
