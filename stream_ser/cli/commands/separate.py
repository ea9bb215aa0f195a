"""``stream-ser separate``: the sources of a mixture as files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from stream_ser.cli.options.inputs import STDIN, Input, channel_option, expand, raw_option, streams
from stream_ser.cli.options.separation import DEFAULT
from stream_ser.cli.run.errors import os_error_message
from stream_ser.cli.run.files import Claims, apart
from stream_ser.errors import AudioError, OutputError
from stream_ser.text import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stream_ser.audio.wav import RawFormat
    from stream_ser.separation.separator import Separator

#: That the network gets at once: nobody waits for a single hop, and many are done in half the time.
HOPS = 16


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--model",
    "-m",
    metavar="NAME|FILE",
    default=DEFAULT,
    show_default=True,
    help="A bundled separator (see 'stream-ser models'), such as enhancer, or an .onnx file.",
)
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    default="separated",
    show_default=True,
    metavar="DIR",
    help="Folder of what is written.",
)
@raw_option
@channel_option
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
@click.option("--quiet", "-q", is_flag=True, help="No progress, no summary.")
@click.pass_context
def separate(
    ctx: click.Context,
    paths: tuple[str, ...],
    model: str,
    out: Path,
    raw: RawFormat | None,
    channel: int | Literal["each"] | None,
    force: bool,
    quiet: bool,
) -> None:
    """Write the sources in audio files, folders (with their subfolders), patterns or standard input (-).

    A.wav becomes DIR/A_source_1.wav and DIR/A_source_2.wav, or, where the separator takes noise off one voice,
    DIR/A_speech.wav: 16-bit WAV at the separator's rate, as long as the input. Any length takes the same memory.
    The names of what was written go to standard output. Exit code 1: some of the files could not be read.

    \b
    Examples:
      stream-ser separate call.wav
      stream-ser separate --model enhancer noisy.mp3 -o clean
      arecord -f cd | stream-ser separate - -o parts
    """  # noqa: D301 - click wants the character itself
    from stream_ser.separation.separator import Separator

    unreadable: list[OSError] = []
    names = expand(paths, unreadable.append)
    alone = len(paths) == 1 and names == list(paths)
    separator = Separator(model)
    troubles = 0

    def trouble(message: str) -> None:
        nonlocal troubles
        troubles += 1
        click.echo(f"stream-ser: {printable(' '.join(message.splitlines()))}", err=True)

    for failed in unreadable:
        trouble(f"error: {os_error_message(failed)}")
    with contextlib.ExitStack() as stack:
        inputs = streams(names, channel, raw, stack)
        targets = _targets(inputs, separator, out, force)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{out}: is no folder and cannot be made one ({error.strerror}); choose another -o"
            ) from None
        for one, files in zip(inputs, targets, strict=True):
            try:
                warning = _separate(one, files, separator, raw, force, quiet)
            except AudioError as error:
                if alone and len(inputs) == 1:
                    raise
                trouble(f"error: {error}")
            else:
                if warning:
                    trouble(f"warning: {one.name}: {warning}")
    ctx.exit(1 if troubles else 0)


def _targets(inputs: list[Input], separator: Separator, out: Path, force: bool) -> list[list[Path]]:
    """The files of each input: no two the same, none an input, none there already unless they may be replaced.

    Raises:
        OutputError: one that is.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file, expected a folder; choose another -o")
    claims = Claims([Path(one.path) for one in inputs if one.path != STDIN])
    stem_for = apart()
    targets = []
    for one in inputs:
        stem = stem_for(one.name)
        files = [out / f"{stem}_{source}.wav" for source in separator.card.sources]
        for path in files:
            claims.write(path, "separate")
            if path.exists() and not force:
                raise OutputError(
                    f"{path}: exists already; choose another folder with -o, or overwrite it with --force"
                )
        targets.append(files)
    return targets


def _separate(
    one: Input, files: list[Path], separator: Separator, raw: RawFormat | None, force: bool, quiet: bool
) -> str | None:
    """Write the sources of one input; what was wrong with it, if it could be used all the same."""
    from stream_ser.events import Block
    from stream_ser.separation.separator import SeparatorStream
    from stream_ser.sources.file import FileSource
    from stream_ser.sources.recorder import WavRecorder

    stream = SeparatorStream(separator, hops=HOPS)
    rate, taken, start_s = stream.sample_rate, 0, time.monotonic()
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(FileSource(one.path, raw=raw, sample_rate=rate, channel=one.channel))
        advance = stack.enter_context(_progress(one.name, source.duration_s, quiet))
        recorders = [stack.enter_context(WavRecorder(path, rate, force)) for path in files]

        def write(sources: NDArray[np.float32]) -> None:
            for recorder, samples in zip(recorders, sources, strict=True):
                recorder.write(Block(samples))

        for block in source:
            taken += len(block.samples)
            write(stream.push(block.samples))
            advance(taken / rate)
        write(stream.flush())
    if not quiet:
        seconds, took_s = taken / rate, time.monotonic() - start_s
        click.echo(
            f"stream-ser: {printable(one.name)}: {len(files)} x {seconds:.1f} s at {rate} Hz in {took_s:.1f} s "
            f"(real-time factor {took_s / seconds:.3f})",
            err=True,
        )
    for path in files:
        click.echo(str(path))
    warning: str | None = source.warning
    return warning


@contextlib.contextmanager
def _progress(name: str, duration_s: float | None, quiet: bool) -> Iterator[Callable[[float], None]]:
    """A bar on a terminal; what it yields is told the seconds that are done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f} s", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task(printable(name)[-30:], total=duration_s)
        yield lambda seconds: progress.update(task, completed=seconds)
