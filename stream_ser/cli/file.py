"""``stream-ser file``: files, folders, standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import click

from stream_ser.cli import os_error_message
from stream_ser.cli._run import (
    drive,
    model_option,
    output_option,
    provider_option,
    recognizer_for,
    results_to,
    vad_option,
)
from stream_ser.errors import AudioError, StreamSerError
from stream_ser.events import Summary
from stream_ser.sinks import Sink

if TYPE_CHECKING:
    from stream_ser.engine import Provider
    from stream_ser.pipeline import Recognizer
    from stream_ser.sinks.progress import FileProgress

#: What libsndfile reads; the formats in which corpora come (stream_ser.train.corpora) are a list of their own.
AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".w64", ".rf64", ".caf", ".aiff", ".aif", ".aifc", ".au", ".snd"),
    *(".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2"),
)
STDIN = "-"
#: A single file below this is done before a progress bar could be read.
LONG_S = 30.0


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@model_option
@provider_option
@vad_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "jsonl", "csv"]),
    default="table",
    show_default=True,
    help="table for people; JSON lines (every event) or CSV (one row a decision) for programs.",
)
@output_option
@click.option("--realtime", is_flag=True, help="Pace the audio as if it were being spoken.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
@click.pass_context
def file(
    ctx: click.Context,
    paths: tuple[str, ...],
    model: str | None,
    provider: Provider,
    vad: bool | None,
    format_: str,
    output: Path | None,
    realtime: bool,
    quiet: bool,
) -> None:
    """Recognise audio files, folders (with their subfolders) or standard input (-).

    Results go to standard output. Exit code 1: some of the files could not be read, or not to their end.
    """
    unreadable: list[OSError] = []
    names = expand(paths, unreadable.append)
    alone = len(paths) == 1 and names == list(paths)
    inputs = [Path(name) for name in names if name != STDIN]
    with results_to(output, inputs) as out:
        recognizer = recognizer_for(model, provider, vad)
        job = _Job(recognizer, _sink(format_, out), realtime, alone)
        if not quiet and sys.stderr.isatty() and not (format_ != "table" and out.isatty()):
            job.bars = "each" if out.isatty() else "all"
        for error in unreadable:
            job.trouble(f"error: {os_error_message(error)}")
        job.run(names)
        if format_ == "table" and len(names) > 1:
            _print_overview(out, job.results, recognizer)
    if job.troubles:
        ctx.exit(1)


def expand(paths: Sequence[str], on_error: Callable[[OSError], object] = lambda error: None) -> list[str]:
    """Files behind paths: folders give their audio files, subfolders included, sorted; nothing comes twice.

    Args:
        paths: files, folders and ``-``.
        on_error: told of each folder that cannot be read.

    Raises:
        AudioError: a folder holds no audio file.
        OSError: the same, and some of it cannot be read.
    """
    names: dict[str, None] = {}
    for path in paths:
        if path == STDIN or not os.path.isdir(path):
            names[path] = None
            continue
        failed: list[OSError] = []
        found = [
            os.path.join(folder, name)
            for folder, _, files in os.walk(path, onerror=failed.append)
            for name in files
            if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith(".")
        ]
        if failed and not found:
            raise failed[0]
        for error in failed:
            on_error(error)
        if not found:
            raise AudioError(f"{path}: no audio files in this folder (looked for .wav, .flac, .ogg, .mp3 and others)")
        names.update(dict.fromkeys(sorted(found)))
    return list(names)


def _sink(format_: str, out: TextIO) -> Sink:
    if format_ == "jsonl":
        from stream_ser.sinks.jsonl import JsonLines

        return JsonLines(out)
    if format_ == "csv":
        from stream_ser.sinks.csv_ import Csv

        return Csv(out)
    from stream_ser.sinks.table import Table, console_for

    return Table(console_for(out))


@dataclass
class _Job:
    """The files of one call, and what became of them."""

    recognizer: Recognizer
    sink: Sink
    realtime: bool
    alone: bool
    bars: Literal["none", "each", "all"] = "none"
    bar: FileProgress | None = None
    troubles: int = 0
    results: list[tuple[str, Summary | None]] = field(default_factory=list)

    def run(self, names: Sequence[str]) -> None:
        """Recognise all files; one that cannot be read stops nothing, unless it is the only one."""
        try:
            for index, name in enumerate(names):
                summary: Summary | None = None
                try:
                    summary = self._one(name, index, len(names))
                except StreamSerError as error:
                    message = _named(name, str(error))
                    if self.alone:
                        raise type(error)(message) from None
                    self.trouble(f"error: {message}")
                except OSError as error:
                    if self.alone or error.filename is None:
                        raise
                    self.trouble(f"error: {os_error_message(error)}")
                self.results.append((name, summary))
        finally:
            if self.bar is not None:
                self.bar.stop()

    def _one(self, name: str, index: int, files: int) -> Summary:
        from stream_ser.sources import FileSource

        with FileSource(name, self.realtime, sample_rate=self.recognizer.card.features.sample_rate) as source:
            self.recognizer.reset()
            self._start_bar(index, files, source.duration_s)
            sinks = [self.sink] if self.bar is None else [self.bar, self.sink]
            summary = drive(source, self.recognizer, sinks, name=name)
            if source.warning:
                self.trouble(f"warning: {_named(name, source.warning)}")
        return summary

    def _start_bar(self, index: int, files: int, duration_s: float | None) -> None:
        """One bar over all files, or one for each long file where the results are printed between them."""
        if self.bars == "each":
            self.bar, index, files = None, 0, 1
        long = duration_s is None or duration_s > LONG_S or self.realtime
        if self.bars == "none" or not (long or files > 1):
            return
        if self.bar is None:
            from rich.console import Console

            from stream_ser.sinks.progress import FileProgress

            self.bar = FileProgress(Console(stderr=True), files)
        self.bar.expect(index, duration_s)

    def trouble(self, message: str) -> None:
        """Report something that went wrong, and count it."""
        self.troubles += 1
        line = f"stream-ser: {' '.join(message.splitlines())}"
        if self.bar is not None:
            self.bar.note(line)
        else:
            click.echo(line, err=True)


def _named(name: str, message: str) -> str:
    """The message, led by the name of its file: the recogniser does not know it."""
    shown = "standard input" if name == STDIN else name
    return message if message.startswith(shown) else f"{shown}: {message}"


def _print_overview(out: TextIO, results: list[tuple[str, Summary | None]], recognizer: Recognizer) -> None:
    from stream_ser.sinks.table import console_for, overview

    console = console_for(out)
    info = recognizer.info("")
    rows = [(name, summary, info.sample_rate) for name, summary in results]
    console.print(overview(rows, info.labels, console.width))
