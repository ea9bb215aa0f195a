"""``stream-ser evaluate --stream``: its options, its run and its table."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stream_ser.text import printable

if TYPE_CHECKING:
    from stream_ser.config import VadConfig
    from stream_ser.runtime.engine import Engine
    from stream_ser.train.data.corpora import Clip
    from stream_ser.train.data.long_streams import StreamConfig
    from stream_ser.train.evaluation.stream_metrics import StreamScores

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

    asked = {"snr_db": snr, "noise": noise, "pause_s": pause}
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if not stream:
        if given:
            option = {"snr_db": "--snr", "noise": "--noise", "pause_s": "--pause"}[next(iter(given))]
            raise DataError(f"{option} is for streams; add --stream")
        return None
    from stream_ser.train.data.long_streams import StreamConfig

    return StreamConfig(seed=seed, **given)


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
    from stream_ser.train.data.long_streams import streams
    from stream_ser.train.evaluation.stream_metrics import evaluate_streams

    return [
        evaluate_streams(
            engine,
            streams(clips, engine.card.features.sample_rate, config),
            functools.partial(advance, printable(engine.path.name)),
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
        *(
            (f"ECE {'of the verdict' if time == 'end' else f'{time} s after the onset of speech'}", f"{value:.3f}")
            for time, value in scores.ece_at.items()
        ),
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


def run(
    engines: Sequence[Engine],
    groups: Mapping[str, Sequence[Clip]],
    config: StreamConfig,
    name: str,
    vad: VadConfig | None,
    part: str,
    as_json: bool,
    record: bool,
) -> None:
    """Measure models on streams and print the scores.

    Args:
        engines: of the same labels.
        groups: the clips, by corpus.
        config: how streams are made.
        name: which clips they are, in words.
        vad: voice activity detection, or none.
        part: of the split.
        as_json: print JSON instead of a table.
        record: write the scores into the models' cards.

    Raises:
        DataError: clips that cannot be used.
        AudioError: a clip that cannot be decoded.
    """
    import json
    import sys

    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    from stream_ser.cli.commands.evaluate_tables import WIDTH, shown, speakers
    from stream_ser.sinks.table import console_for

    clips = [clip for group in groups.values() for clip in group]
    waiting = Console(stderr=True)
    with Progress(console=waiting, disable=not waiting.is_terminal, transient=True) as progress:
        task = progress.add_task("streams", total=len(engines) * len({clip.speaker for clip in clips}))
        measured = measure(
            engines, clips, config, vad, lambda model: progress.update(task, advance=1, description=escape(model))
        )
    protocols = [
        f"{' + '.join(groups)}, {name}, {speakers(clips, engine.card)}; streams of one speaker each, "
        f"{config.describe()}; ONNX, {engine.provider}{'' if vad else ', no VAD'}"
        for engine in engines
    ]
    if as_json:
        content = [
            {"model": engine.path.name, "protocol": protocol, **scores.as_dict()}
            for engine, protocol, scores in zip(engines, protocols, measured, strict=True)
        ]
        click.echo(json.dumps(content[0] if len(content) == 1 else {"models": content}, indent=1))
    else:
        console = console_for(sys.stdout, WIDTH)
        for engine, protocol in zip(engines, protocols, strict=True):
            console.print(f"{shown(engine)}: {protocol}", soft_wrap=True)
        scores = measured[0]
        console.print(f"clips {scores.clips}, {scores.minutes:.1f} minutes, {scores.speech_minutes:.1f} of them speech")
        console.print(table([shown(engine) for engine in engines], measured))
    if record:
        _record(engines, protocols, measured, f"{' + '.join(groups)} {part} streams")


def _record(engines: Sequence[Engine], protocols: Sequence[str], measured: Sequence[StreamScores], name: str) -> None:
    from dataclasses import replace

    from stream_ser.export.checkpoints import rewrite_card

    for engine, protocol, scores in zip(engines, protocols, measured, strict=True):
        results = {**engine.card.results, name: {"protocol": protocol, **scores.as_dict()}}
        rewrite_card(engine.path, replace(engine.card, results=results))
        click.echo(f"{printable(str(engine.path))}: card updated", err=True)
