"""``stream-ser data sines`` and ``stream-ser data mixtures``: sets to train separators on and to measure them with."""

from __future__ import annotations

from pathlib import Path

import click

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
    out: Path, sets: int, fs: int, duration: float, seed: int, boundary: float | None, phases: str, force: bool
) -> None:
    """Write mixtures of two sinusoids into the folder OUT.

    Frequencies are random: one below, one above the boundary, both under Nyquist's. A mixture is the sum of its two
    sources, exact in 16 bits. info.csv names the files, the sampling frequency and both frequencies.

    \b
    Example:
      stream-ser data sines sines --sets 100 --fs 8000 --duration 1 --seed 0
      stream-ser train separator --data sines=sines --out runs/sines
    """  # noqa: D301 - click wants the character itself
    from stream_ser.train.separation import folder
    from stream_ser.train.separation.sines import ROLES, SineConfig, draw

    config = SineConfig(sets, fs, duration, boundary, phases)
    folder.prepare(out, sets, ROLES, force)
    written = folder.write(out, draw(config, seed), fs)
    (low, below), (above, high) = config.ranges_hz
    click.echo(
        f"{out}: {written} sets of {duration:g} s at {fs} Hz, {low:g} to {below:g} Hz + {above:g} to {high:g} Hz, "
        f"seed {seed}"
    )
