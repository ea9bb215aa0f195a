"""Options that several commands share: what recognises, where results go, what is said meanwhile."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream_ser.cli._config import config_option

if TYPE_CHECKING:
    from stream_ser.config import DeciderConfig

Command = Callable[..., Any]

#: format: the suffixes that name it.
FORMATS = {
    "table": (".txt",),
    "jsonl": (".jsonl", ".ndjson"),
    "csv": (".csv",),
    "rttm": (".rttm",),
    "srt": (".srt",),
    "vtt": (".vtt",),
}
#: As ``--output``: standard output.
STDOUT = "-"

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


@dataclass(frozen=True, slots=True)
class Results:
    """Where results go and how much is said, as asked for on the command line.

    Attributes:
        format_: of standard output, None where nothing was asked for; see :func:`targets`.
        output: files, or ``-``.
        plot: picture to draw at the end.
        quiet: no view, no progress, no remarks.
        verbose: the log on standard error.
        log_file: the log in a file.
        config: the file that options were read from.
    """

    format_: str | None
    output: tuple[str, ...]
    plot: Path | None
    quiet: bool
    verbose: bool
    log_file: Path | None
    config: Path | None


@dataclass(frozen=True, slots=True)
class Target:
    """One output: its format, and its file; None is standard output."""

    format_: str
    path: Path | None


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
            help=f"Write results there ({_suffixes()}); may be given several times. - is standard output.",
        ),
        click.option("--plot", type=file, metavar="PNG", help="Draw waveform, log-mel and emotions (or .pdf, .svg)."),
        click.option("--quiet/--no-quiet", "-q", default=False, help="Show nothing but results and errors."),
        click.option("--verbose/--no-verbose", "-v", default=False, help="Say on standard error what happens."),
        click.option("--log-file", type=file, metavar="FILE", help="Write what happens there, in full."),
        config_option,
    ]


def targets(results: Results, default: str | None) -> list[Target]:
    """What to write where.

    The format of a file follows from its suffix. ``--format`` is that of standard output, of a file whose suffix
    names none, and of a single file in any case. With files, standard output gets what ``--format`` names and no file
    has taken.

    Args:
        results: the options.
        default: format where none was asked for, None for none.

    Raises:
        click.UsageError: a suffix names no format, and nothing else does; or standard output is named twice.
    """
    asked = results.format_
    if asked == "none":
        if not results.output:
            return []
        asked = None
    if not results.output:
        format_ = asked or default
        return [] if format_ is None else [Target(format_, None)]
    if len(results.output) == 1 and asked is not None:
        return [_target(results.output[0], asked)]
    if results.output.count(STDOUT) > 1:
        raise click.UsageError(f"two --output are both {STDOUT}, standard output; give a file for one of the two")
    found = [_target(name, _by_suffix(name, asked, default)) for name in results.output]
    if asked is not None and all(target.format_ != asked for target in found):
        found.append(Target(asked, None))
    return found


def _target(name: str, format_: str) -> Target:
    return Target(format_, None if name == STDOUT else Path(name))


def _by_suffix(name: str, asked: str | None, default: str | None) -> str:
    suffix = "" if name == STDOUT else Path(name).suffix.lower()
    for format_, suffixes in FORMATS.items():
        if suffix in suffixes:
            return format_
    otherwise = asked or (None if suffix else default)
    if otherwise is None:
        what = f"the suffix {suffix} names no format" if suffix else "no suffix names its format"
        raise click.UsageError(f"--output {name}: {what}; expected {_suffixes()}, or one --output with --format")
    return otherwise


def _suffixes() -> str:
    return " ".join(suffixes[0] for suffixes in FORMATS.values())


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


@dataclass(frozen=True, slots=True)
class Decisions:
    """The decider's settings as asked for; None for the model's own."""

    threshold: float | None
    hold: float | None
    min_duration: float | None
    changes: bool
    steady: bool

    def config(self, own: DeciderConfig) -> DeciderConfig:
        """A model's settings with what was asked for."""
        from dataclasses import replace

        config = own.steadied() if self.steady else own
        asked = {
            "abstain_below": self.threshold,
            "hold_s": self.hold,
            "min_duration_s": self.min_duration,
            "change_distance": None if self.changes else 1.0,
        }
        return replace(config, **{name: value for name, value in asked.items() if value is not None})


#: What recognises.
recognition_options = apply([model_option, provider_option, vad_option, decider_options])
