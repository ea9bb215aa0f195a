"""Options that several commands share: what recognises, where results go, what is said meanwhile."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from stream_ser.cli.options.config_file import config_option
from stream_ser.cli.run.decisions import Decisions
from stream_ser.cli.run.targets import FORMATS, Results, known_suffixes

Command = Callable[..., Any]
model_option = click.option(
    "--model", "-m", metavar="NAME|FILE", help="A bundled model (see 'stream-ser models') or an .onnx file."
)
provider_option = click.option(
    "--provider",
    type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
    default="auto",
    show_default=True,
    help="Where the network runs; auto takes CUDA where it works. TensorRT compiles a model when it first meets it.",
)
vad_option = click.option(
    "--vad/--no-vad",
    default=None,
    help="Claim an emotion only where somebody speaks (voice activity detection). Default: on.",
)


def result_options(default: str) -> Callable[[Command], Command]:
    """A decorator that gives a command the options behind :class:`Results`, as its argument ``results``.

    Args:
        default: what ``--help`` calls the format of standard output.
    """

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def command(*args: Any, **options: Any) -> Any:
            results = Results(**{field.name: options.pop(field.name) for field in fields(Results)})
            return function(*args, results=results, **options)

        return apply(_result_options(default))(command)

    return decorate


def _result_options(default: str) -> list[Callable[[Command], Command]]:
    file = click.Path(path_type=Path, dir_okay=False)
    return [
        click.option(
            "--format",
            "format_",
            type=click.Choice([*FORMATS, "none"]),
            help="Of standard output, or of a single --output whatever its suffix: table for people, jsonl for every "
            f"event, the others for decisions.  [default: {default}]",
        ),
        click.option(
            "--output",
            "-o",
            multiple=True,
            metavar="FILE",
            help=f"Write results there ({known_suffixes()}); may be given several times. - is standard output.",
        ),
        click.option("--plot", type=file, metavar="PNG", help="Draw waveform, log-mel and emotions (or .pdf, .svg)."),
        click.option("--quiet/--no-quiet", "-q", default=False, help="Show nothing but results and errors."),
        click.option("--verbose/--no-verbose", "-v", default=False, help="Say on standard error what happens."),
        click.option("--log-file", type=file, metavar="FILE", help="Write what happens there, in full."),
        config_option,
    ]


def apply(options: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Several decorators as one, the first on top."""

    def decorate(function: Command) -> Command:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


changes_option = click.option(
    "--changes/--no-changes",
    default=True,
    show_default=True,
    help="Cut an utterance where its emotion changes; looking for it takes most of the network's time.",
)


def decider_options(command: Command) -> Command:
    """Add the decider's settings, as one argument ``decider`` of :class:`Decisions`."""

    @functools.wraps(command)
    def decorated(*args: Any, **options: Any) -> Any:
        values = {field.name: options.pop(field.name) for field in fields(Decisions)}
        return command(*args, decider=Decisions(**values), **options)

    return apply(
        [
            click.option(
                "--threshold",
                type=click.FloatRange(0.0, 1.0, max_open=True),
                metavar="P",
                help="Claim no emotion that is less probable than this.  [default: the model's]",
            ),
            click.option(
                "--hold",
                type=click.FloatRange(0.0, 3600.0),
                metavar="S",
                help="Live, another emotion must lead for so long before it is shown.  [default: the model's]",
            ),
            click.option(
                "--min-duration",
                type=click.FloatRange(0.0, 3600.0),
                metavar="S",
                help="Cut an utterance into no shorter parts.  [default: the model's]",
            ),
            changes_option,
            click.option(
                "--steady/--no-steady", default=False, help="Show labels later and change them less; results stay."
            ),
        ]
    )(decorated)


#: What recognises.
recognition_options = apply([model_option, provider_option, vad_option, decider_options])
