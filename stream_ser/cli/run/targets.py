"""Where results go, from the options and the suffixes of files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

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
        raise click.UsageError(f"--output {name}: {what}; expected {known_suffixes()}, or one --output with --format")
    return otherwise


def known_suffixes() -> str:
    """One suffix of each format, for messages."""
    return " ".join(suffixes[0] for suffixes in FORMATS.values())
