"""``stream-ser plot``: pictures of sounds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_ser.cli.run.files import Claims

if TYPE_CHECKING:
    from stream_ser.train.tasks.separation.spectrograms import Signal

#: Exit code where some of the input could not be drawn.
_SOME_FAILED = 1


@dataclass(frozen=True)
class Picture:
    """What is drawn into one file: paths of sounds, each with the title of its row."""

    out: Path
    rows: tuple[tuple[str, Path], ...]


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the pictures; default: beside the sounds.",
)
@click.option(
    "--joint",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png",
    help="One picture with a row for each PATH, all on the same scale.",
)
@click.option("--start", type=click.FloatRange(min=0.0), default=0.0, show_default=True, help="Seconds.")
@click.option(
    "--duration",
    type=click.FloatRange(min=0.0, min_open=True, max=3600.0),
    default=60.0,
    show_default=True,
    help="Seconds, at most.",
)
@click.option("--force", is_flag=True, help="Draw over pictures that are there.")
@click.pass_context
def plot(
    ctx: click.Context,
    paths: tuple[Path, ...],
    out: Path | None,
    joint: Path | None,
    start: float,
    duration: float,
    force: bool,
) -> None:
    """Draw waveform, spectrogram and mel spectrogram side by side, as PNG.

    PATH is an audio file, a folder of them, or a set from 'stream-ser data': of a set, a picture shows a mixture and
    its sources on one scale. x.wav is drawn into x.png. The names of the pictures are printed.

    \b
    Examples:
      stream-ser plot sines --out pictures
      stream-ser plot voice.wav
      stream-ser plot truth.wav separated.wav --joint both.png
    """  # noqa: D301 - click wants the character itself
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from stream_ser.errors import AudioError, OutputError
    from stream_ser.text import printable

    try:
        from stream_ser.train.tasks.separation import spectrograms
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise OutputError(
            "plot needs matplotlib, which is not installed; install it with pip install 'stream-ser[plot]'"
        ) from None
    if joint is not None and out is not None:
        raise click.UsageError("--joint and --out: give one of them")
    if joint is not None and joint.suffix.lower() != ".png":
        raise OutputError(f"--joint {joint}: expected a name that ends in .png")
    wanted = list(_pictures(paths, out, joint))
    _check(wanted, force)
    failed = 0
    errors = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Names that come on the same terminal show the progress, and would tear a bar.
    named = sys.stdout.isatty()
    with Progress(*columns, console=errors, disable=named or not errors.is_terminal, transient=True) as progress:

        def say(text: str) -> None:
            progress.console.print(printable(text), soft_wrap=True, markup=False, highlight=False)

        for picture in progress.track(wanted):
            try:
                signals = [_read(title, path, start, duration, say) for title, path in picture.rows]
            except AudioError as error:
                failed += 1
                say(f"stream-ser: error: {error}")
                continue
            picture.out.parent.mkdir(parents=True, exist_ok=True)
            spectrograms.save(spectrograms.draw(signals), picture.out)
            # Colour: else click takes from a name in a pipe what looks like an escape sequence.
            click.echo(printable(str(picture.out)) if named else picture.out, color=True)
            sys.stdout.flush()
    if failed:
        ctx.exit(2 if failed == len(wanted) else _SOME_FAILED)


def _pictures(paths: tuple[Path, ...], out: Path | None, joint: Path | None) -> Iterator[Picture]:
    """What there is to draw.

    Raises:
        DataError: a path that is not there, a folder without audio, or a set that names no files.
    """
    from stream_ser.errors import DataError
    from stream_ser.train.data.corpora.base import audio_files
    from stream_ser.train.tasks.separation import mixture_folder

    def place(source: Path, name: str) -> Path:
        return (out or source) / f"{name}.png"

    files: list[Path] = []
    for path in paths:
        if joint is None and (path / mixture_folder.INFO).is_file():
            roles, rows = mixture_folder.rows_of(path)
            for row in rows:
                titles = tuple((f"{role.replace('_', ' ')}: {row[role]}", path / row[role]) for role in roles)
                yield Picture(place(path, mixture_folder.name_of(row)), titles)
        elif path.is_dir():
            files += audio_files(path)
        elif path.exists():
            files.append(path)
        else:
            raise DataError(f"{path}: no such file or folder; check the path")
    if joint is not None:
        yield Picture(joint, tuple((path.name, path) for path in files))
        return
    for path in files:
        yield Picture(place(path.parent, path.stem), ((path.name, path),))


def _check(wanted: list[Picture], force: bool) -> None:
    """Refuse before anything is drawn.

    Raises:
        OutputError: a picture is there already, is one of the sounds, or two would have one name.
    """
    from stream_ser.errors import OutputError

    claims = Claims(path for picture in wanted for _, path in picture.rows)
    seen: dict[Path, Path] = {}
    for picture in wanted:
        source = picture.rows[0][1]
        other = seen.setdefault(picture.out, source)
        if other is not source:
            raise OutputError(f"{picture.out}: would show {other} and {source}; draw them into two folders")
        claims.check(picture.out, "picture")
        if picture.out.exists() and not force:
            raise OutputError(f"{picture.out}: is there already; draw over it with --force, or choose another --out")


def _read(title: str, path: Path, start: float, duration: float, say: Callable[[str], None]) -> Signal:
    """What is shown of a file; says so where that is not all of it.

    Raises:
        AudioError: it cannot be decoded, or ends before ``start``.
    """
    import numpy as np

    from stream_ser.audio.decode import AudioFile
    from stream_ser.errors import AudioError
    from stream_ser.train.tasks.separation.spectrograms import Signal

    with AudioFile(path) as audio:
        rate = audio.sample_rate = audio.source_rate
        first, last = round(start * rate), round((start + duration) * rate)
        kept, position = [], 0
        for block in audio.blocks():
            kept.append(block[max(0, first - position) : max(0, last - position)])
            position += block.size
            if position > last:
                say(f"{path}: longer than what is drawn, {start:g} to {start + duration:g} s")
                break
    samples = np.concatenate(kept)
    if not samples.size:
        raise AudioError(f"{path}: ends at {position / rate:.2f} s, expected more than --start {start:g}")
    return Signal(title, samples, rate)
