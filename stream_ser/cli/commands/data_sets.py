"""``stream-ser data sines`` and ``stream-ser data mixtures``: sets to train separators on and to measure them with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from stream_ser.train.data.corpora import Corpus
    from stream_ser.train.tasks.separation.mixtures import Pool

#: Of every command that writes a set.
FORCE_HELP = "Replace a set that is there: of the folder's files, those that its info.csv names."


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--sets", type=int, default=100, show_default=True, help="Mixtures; each is three WAV files.")
@click.option("--fs", type=int, default=8_000, show_default=True, help="Sampling frequency, Hz.")
@click.option("--duration", type=float, default=1.0, show_default=True, help="Of each, seconds.")
@click.option("--seed", type=click.IntRange(0, 10**9), default=0, show_default=True, help="Of all draws.")
@click.option("--boundary", type=float, metavar="HZ", help="Between the two frequencies; default: half of Nyquist's.")
@click.option(
    "--phases", type=click.Choice(["zero", "random"]), default="zero", show_default=True, help="At the first sample."
)
@click.option("--force", is_flag=True, help=FORCE_HELP)
def sines(
    out: Path,
    sets: int,
    fs: int,
    duration: float,
    seed: int,
    boundary: float | None,
    phases: Literal["zero", "random"],
    force: bool,
) -> None:
    """Write mixtures of two sinusoids into the folder OUT.

    Frequencies are random: one below, one above the boundary, both under Nyquist's. A mixture is the sum of its two
    sources, exact in 16 bits. info.csv names the files, the sampling frequency and both frequencies.

    \b
    Example:
      stream-ser data sines sines --sets 100 --fs 8000 --duration 1 --seed 0
      stream-ser train separator --data sines=sines --out runs/sines
    """  # noqa: D301 - click wants the character itself
    from stream_ser.train.tasks.separation import mixture_folder
    from stream_ser.train.tasks.separation.sines import ROLES, SineConfig, draw

    config = SineConfig(sets, fs, duration, boundary, phases)
    mixture_folder.prepare(out, sets, ROLES, force)
    written = mixture_folder.write(out, draw(config, seed), fs)
    (low, below), (above, high) = config.ranges_hz
    click.echo(
        f"{out}: {written} sets of {duration:g} s at {fs} Hz, {low:g} to {below:g} Hz + {above:g} to {high:g} Hz, "
        f"seed {seed}"
    )


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--data", multiple=True, required=True, metavar="CORPUS=PATH", help="With speakers, such as librispeech.")
@click.option("--sets", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Mixtures.")
@click.option("--part", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True)
@click.option("--fs", type=click.Choice(["8000", "16000"]), default="8000", show_default=True, help="Hz.")
@click.option("--duration", type=float, default=4.0, show_default=True, help="Of each, seconds.")
@click.option("--speakers", type=int, default=2, show_default=True, help="In each mixture.")
@click.option(
    "--level", type=float, default=5.0, show_default=True, help="Speakers' levels differ by up to so many dB."
)
@click.option(
    "--noise", metavar="generated|PATH|CORPUS=PATH", help="Add noise: coloured, or recordings, as esc-50=PATH."
)
@click.option("--snr", type=(float, float), default=(-5.0, 15.0), show_default=True, help="Its range, dB.")
@click.option("--rooms", type=float, default=0.0, show_default=True, help="Share of mixtures in a generated room.")
@click.option("--seed", type=click.IntRange(0, 10**9), default=0, show_default=True, help="Of parts and draws.")
@click.option("--force", is_flag=True, help=FORCE_HELP)
def mixtures(
    out: Path,
    data: tuple[str, ...],
    sets: int,
    part: str,
    fs: str,
    duration: float,
    speakers: int,
    level: float,
    noise: str | None,
    snr: tuple[float, float],
    rooms: float,
    seed: int,
    force: bool,
) -> None:
    """Write mixtures of voices into the folder OUT.

    Speakers are in one part each: a tenth of them, drawn with the seed, is for validation and a tenth for tests, as
    'stream-ser train separator' holds them out with the same seed; recordings of noise likewise (of ESC-50, the last
    two folds). Voices, places in their recordings, offsets and levels are random. A mixture is the sum of its sources
    and noise, exact in 16 bits; a room is part of a source. info.csv names files, speakers, offsets and levels.

    \b
    Examples:
      stream-ser data mixtures two --data librispeech=/data/LibriSpeech
      stream-ser data mixtures noisy --data librispeech=/data/LibriSpeech --speakers 1 --noise esc-50=/data/esc-50
    """  # noqa: D301 - click wants the character itself
    from stream_ser.errors import DataError
    from stream_ser.train.tasks.separation import mixture_folder
    from stream_ser.train.tasks.separation.config import MixtureConfig
    from stream_ser.train.tasks.separation.mixtures import items, roles
    from stream_ser.train.tasks.separation.speaker_parts import GENERATED

    kind: Literal["none", "generated", "recorded"]
    kind = "none" if noise is None else "generated" if noise == GENERATED else "recorded"
    try:
        config = MixtureConfig(int(fs), duration, speakers, level_db=level, noise=kind, snr_db=snr, room_p=rooms)
    except ValueError as error:
        raise DataError(str(error)) from None
    pool = read_pools(read_corpora(data), noise, config.sample_rate, seed, (part,))[part]
    mixture_folder.prepare(out, sets, roles(config), force)
    written = mixture_folder.write(out, items(pool, config, seed, sets), config.sample_rate)
    click.echo(
        f"{out}: {written} mixtures of {duration:g} s at {fs} Hz from {len(pool.voices)} speakers of the {part} part, "
        f"{pool.seconds / 60:.1f} min of speech, seed {seed}"
    )


def read_corpora(data: tuple[str, ...]) -> list[Corpus]:
    """Corpora of ``CORPUS=PATH`` options.

    Raises:
        DataError: an unknown corpus, or not its layout.
    """
    from stream_ser.train.data.corpora import load, parse_data_option
    from stream_ser.train.data.labels import name_apart

    return name_apart([load(name, path) for name, path in parse_data_option(data)])


def read_pools(
    corpora: list[Corpus], noise: str | None, sample_rate: int, seed: int, parts: tuple[str, ...]
) -> dict[str, Pool]:
    """Decode corpora and noises, with a progress bar on a terminal.

    Raises:
        DataError: too few speakers or noises.
        AudioError: a file that cannot be decoded.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from stream_ser.train.tasks.separation.mixtures import load_pools

    errors = Console(stderr=True)
    columns = (TextColumn("decoding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=None)

        def expect(total: int) -> Callable[[], object]:
            progress.update(task, total=total)
            return lambda: progress.advance(task)

        return load_pools(corpora, noise, sample_rate, seed, parts, expect)
