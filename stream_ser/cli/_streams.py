"""``stream-ser evaluate --stream``: its options, its run and its table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from stream_ser.config import VadConfig
    from stream_ser.engine import Engine
    from stream_ser.train.corpora import Clip
    from stream_ser.train.stream_scores import StreamScores
    from stream_ser.train.streams import StreamConfig

Command = TypeVar("Command", bound=Callable[..., object])


def stream_options(command: Command) -> Command:
    """Add ``--stream``, and ``--snr``, ``--noise`` and ``--pause``, which are None where they are not given."""
    for option in (
        click.option(
            "--pause",
            type=(float, float),
            metavar="S S",
            help="With --stream: shortest and longest pause between two clips.  [default: 0.5 3]",
        ),
        click.option(
            "--noise", metavar="white|pink|FOLDER", help="With --stream: what noise, or recordings.  [default: pink]"
        ),
        click.option(
            "--snr", type=float, metavar="DB", help="With --stream: speech over noise; inf for none.  [default: 30]"
        ),
        click.option(
            "--stream", is_flag=True, help="Measure on long streams, each of one speaker's clips with pauses and noise."
        ),
    ):
        command = option(command)
    return command


def stream_config(
    stream: bool, snr: float | None, noise: str | None, pause: tuple[float, float] | None, seed: int
) -> StreamConfig | None:
    """What the options ask for; None without ``--stream``.

    Raises:
        DataError: an option that needs ``--stream``, or a value out of range.
    """
    from stream_ser.errors import DataError

    given = {"snr_db": snr, "noise": noise, "pause_s": pause}
    given = {name: value for name, value in given.items() if value is not None}
    if not stream:
        if given:
            option = {"snr_db": "--snr", "noise": "--noise", "pause_s": "--pause"}[next(iter(given))]
            raise DataError(f"{option} is for streams; add --stream")
        return None
    from stream_ser.train.streams import StreamConfig

    return StreamConfig(seed=seed, **given)  # type: ignore[arg-type]


def measure(
    engines: Sequence[Engine],
    clips: Sequence[Clip],
    config: StreamConfig,
    vad: VadConfig | None,
    advance: Callable[[str], object],
) -> list[StreamScores]:
    """Run models over the same streams, one model after the other.

    Args:
        engines: of the same labels.
        clips: of any speakers.
        config: how streams are made.
        vad: voice activity detection, or none.
        advance: called with a model's name once a stream.
    """
    from stream_ser.train.stream_scores import evaluate_streams
    from stream_ser.train.streams import streams

    return [
        evaluate_streams(
            engine,
            streams(clips, engine.card.features.sample_rate, config),
            # The name as a default: the loop goes on with another one.
            lambda name=engine.path.name: advance(name),  # type: ignore[misc]
            vad=vad,
        )
        for engine in engines
    ]


def rows(scores: StreamScores) -> list[tuple[str, str]]:
    """What is printed of a model, with what it means."""
    alone = (
        []
        if scores.uar_alone is None or scores.gap is None
        else [
            ("UAR, each clip a stream of its own", f"{scores.uar_alone:.3f}"),
            ("  lost to streaming", f"{scores.gap:+.3f}"),
        ]
    )
    return [
        *((f"UAR {time} s after the onset of speech", f"{value:.3f}") for time, value in scores.uar_at.items()),
        ("UAR of the whole clip", f"{scores.uar_whole:.3f}"),
        *alone,
        ("right and settled after, median", "-" if scores.settled_s is None else f"{scores.settled_s:.2f} s"),
        ("  never", f"{scores.never:.1%}"),
        ("label changes a minute of speech", f"{scores.flips_per_minute:.1f}"),
        ("emotion diarization error rate", f"{scores.eder:.3f}"),
        ("  missed + confused + false", f"{scores.missed:.3f} + {scores.confusion:.3f} + {scores.false_alarm:.3f}"),
        ("  of what was shown live", f"{scores.eder_shown:.3f}"),
        ("pauses with an emotion", f"{scores.pause_claimed:.1%}"),
        ("  shown live", f"{scores.pause_shown:.1%}"),
        ("claims that are right", f"{scores.precision:.1%}"),
        ("speech called uncertain", f"{scores.uncertain:.1%}"),
    ]


def table(names: Sequence[str], measured: Sequence[StreamScores]) -> Any:
    """A ``rich`` table: a row a score, a column a model."""
    from rich.table import Table

    made = Table("", *names)
    for column in made.columns[1:]:
        column.justify = "right"
    for lines in zip(*map(rows, measured), strict=True):
        made.add_row(lines[0][0], *(value for _, value in lines))
    return made
