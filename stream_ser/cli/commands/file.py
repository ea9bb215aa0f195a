"""``stream-ser file``: files, folders, standard input."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import click

from stream_ser.cli.options.inputs import STDIN, Input, channel_option, expand, raw_option, streams
from stream_ser.cli.options.language_model import language_model, lm_options
from stream_ser.cli.options.recognition import recognition_options, result_options
from stream_ser.cli.options.separation import Separating, count_of, separate_option, separated, separator_for
from stream_ser.cli.options.voice import memory_options
from stream_ser.cli.run.decisions import Decisions
from stream_ser.cli.run.errors import os_error_message
from stream_ser.cli.run.files import Claims, results_to
from stream_ser.cli.run.log import logging_to
from stream_ser.cli.run.outputs import SAID, Outputs, opened
from stream_ser.cli.run.recognizers import recognizer_for
from stream_ser.cli.run.signals import InterruptibleSource, Stop, stop_on_signals
from stream_ser.cli.run.targets import Results
from stream_ser.cli.run.voice import Memory
from stream_ser.driver import drive
from stream_ser.errors import StreamSerError
from stream_ser.events import Summary
from stream_ser.sinks import Sink
from stream_ser.sinks.overview import Overview
from stream_ser.text import printable

if TYPE_CHECKING:
    from stream_ser.audio.wav import RawFormat
    from stream_ser.recognition.recognizer import Recognizer
    from stream_ser.runtime.engine import Provider
    from stream_ser.separation.separator import Separator
    from stream_ser.sinks.progress import FileProgress

#: A single file below this is done before a progress bar could be read.
LONG_S = 30.0


@click.command(cls=Separating)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@recognition_options
@memory_options
@result_options("table, unless there is an --output")
@click.option(
    "--summary",
    metavar="FILE",
    help="Write one row a file there, .csv or .json: label, confidence, probabilities, seconds of speech, error. - is "
    "standard output, as CSV.",
)
@raw_option
@channel_option
@separate_option
@lm_options
@click.option("--realtime/--no-realtime", default=False, help="Pace the audio as if it were being spoken.")
@click.pass_context
def file(
    ctx: click.Context,
    paths: tuple[str, ...],
    model: str | None,
    provider: Provider,
    vad: bool | None,
    decider: Decisions,
    memory: Memory,
    results: Results,
    summary: str | None,
    raw: RawFormat | None,
    channel: int | Literal["each"] | None,
    separate: str | None,
    lm: tuple[Path | None, float | None, float | None],
    realtime: bool,
) -> None:
    """Recognise audio files, folders (with their subfolders), patterns or standard input (-).

    Results go to standard output or to --output. Exit code 1: some of the files could not be read, or not to their end,
    or an output could not be written to its end.
    """
    from stream_ser.sources.portaudio import native_stderr_to_log

    as_json = summary_is_json(summary)
    if summary == STDIN and not results.output and results.format_ is None:
        results = replace(results, format_="none")
    unreadable: list[OSError] = []
    if raw is not None and any(os.path.isdir(path) for path in paths):
        raise click.UsageError("--raw takes files, patterns or -, not folders, where headers cannot be told")
    names = expand(paths, unreadable.append)
    separator = separator_for(separate)
    job = _Job(realtime, len(paths) == 1 and names == list(paths), raw, separator)
    files = [Path(name) for name in (*names, model, separate, lm[0], results.config) if name and name != STDIN]
    claims = Claims([*files, *memory.files])
    with contextlib.ExitStack() as stack:
        inputs = streams(names, channel, raw, stack, count_of(separator))
        several = len(inputs) > 1
        stack.enter_context(logging_to(results, claims, job.trouble))
        # The MP3 decoder prints what it thinks of a file.
        stack.enter_context(native_stderr_to_log())
        outputs = stack.enter_context(opened(results, "table", claims, job.trouble, several=several))
        stop = stack.enter_context(stop_on_signals())
        spelling = language_model(lm)
        recognizer = recognizer_for(
            model, provider, vad, decider=decider, language_model=spelling, memory=memory, quiet=results.quiet
        )
        if results.plot is not None:
            outputs.add_plot(results.plot, recognizer.card.features)
        if summary is not None:
            path = None if summary == STDIN else Path(summary)
            rows = stack.enter_context(results_to(path, claims, "--summary"))
            job.overview = Overview(rows, recognizer.card.labels, as_json=as_json)
            stack.callback(job.overview.close)
        job.bars = "none" if results.quiet else _bars(outputs)
        for error in unreadable:
            job.failed(str(error.filename), os_error_message(error))
        job.run(inputs, recognizer, outputs, stop)
        for guard in outputs.results:
            if guard.format_ == "table" and several:
                guard.run(_print_overview, guard.stream, job.results, recognizer)
    if outputs.pipe_closed:
        raise BrokenPipeError
    if stop.number is not None:
        ctx.exit(128 + stop.number)
    if job.troubles:
        ctx.exit(2 if outputs.in_vain else 1)


@dataclass
class _Job:
    """The streams of one call, and what became of them."""

    realtime: bool
    alone: bool
    raw: RawFormat | None
    separator: Separator | None = None
    bars: Literal["none", "each", "all"] = "none"
    bar: FileProgress | None = None
    troubles: int = 0
    results: list[tuple[str, Summary | None]] = field(default_factory=list)
    overview: Overview | None = None

    def run(self, inputs: Sequence[Input], recognizer: Recognizer, outputs: Outputs, stop: Stop) -> None:
        """Recognise all streams; one that cannot be read stops nothing, unless it is the only one."""
        try:
            for index, one in enumerate(inputs):
                summary: Summary | None = None
                try:
                    summary = self._one(one, index, len(inputs), recognizer, outputs, stop)
                except StreamSerError as error:
                    message = _named(one, str(error))
                    if self.alone and not stop():
                        self._row(one.name, None, message)
                        raise type(error)(message) from None
                    if not stop():
                        self.failed(one.name, message)
                except OSError as error:
                    if self.alone or error.filename is None:
                        raise
                    self.failed(one.name, os_error_message(error))
                if summary is not None:
                    self._row(one.name, summary, "")
                self.results.append((one.name, summary))
                if stop() or outputs.in_vain:
                    return
        finally:
            if self.bar is not None:
                self.bar.stop()

    def _one(self, one: Input, index: int, count: int, recognizer: Recognizer, outputs: Outputs, stop: Stop) -> Summary:
        from stream_ser.sources.file import FileSource

        rate = recognizer.card.features.sample_rate
        with FileSource(one.path, self.realtime, raw=self.raw, sample_rate=rate, channel=one.channel) as source:
            recognizer.reset()
            self._start_bar(index, count, source.duration_s)
            sinks: list[Sink] = [] if self.bar is None else [self.bar]
            stoppable = InterruptibleSource(source, stop, lambda: outputs.in_vain)
            # Each of its sources takes a pass of its own: results come one stream after the other.
            heard = separated(stoppable, self.separator, one.source, rate)
            summary = drive(heard, recognizer, [*sinks, *outputs.sinks], name=one.name, on_block=outputs.hear)
            if source.warning and not stop():
                self.trouble(f"warning: {_named(one, source.warning)}")
        return summary

    def failed(self, name: str, message: str) -> None:
        """Report a file that could not be read."""
        self.trouble(f"error: {message}")
        self._row(name, None, message)

    def _row(self, name: str, summary: Summary | None, error: str) -> None:
        if self.overview is not None:
            self.overview.add(name, summary, error)

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
        SAID.warning("%s", message)
        line = f"stream-ser: {printable(' '.join(message.splitlines()))}"
        if self.bar is not None:
            self.bar.note(line)
        else:
            click.echo(line, err=True)


def summary_is_json(summary: str | None) -> bool:
    """Whether the suffix of ``--summary`` asks for JSON.

    Raises:
        click.UsageError: it names neither format.
    """
    suffix = "" if summary in (None, STDIN) else Path(str(summary)).suffix.lower()
    if summary not in (None, STDIN) and suffix not in (".csv", ".json"):
        raise click.UsageError(f"--summary {summary}: no suffix names its format; expected .csv or .json")
    return suffix == ".json"


def _named(one: Input, message: str) -> str:
    """The message, led by the name of its file: the recogniser does not know it."""
    shown = "standard input" if one.name.partition("#")[0] == STDIN else one.path
    if one.path not in (STDIN, shown):
        message = message.replace(one.path, shown)  # a copy of it
    return message if message.startswith(shown) else f"{shown}: {message}"


def _bars(outputs: Outputs) -> Literal["none", "each", "all"]:
    """Where progress can be shown: one bar a file between results on the same terminal, else one for all."""
    if not sys.stderr.isatty():
        return "none"
    formats = {guard.format_ for guard in outputs.results if guard.stream is sys.stdout and guard.stream.isatty()}
    if not formats:
        return "all"
    return "each" if formats == {"table"} else "none"


def _print_overview(out: TextIO, results: list[tuple[str, Summary | None]], recognizer: Recognizer) -> None:
    from stream_ser.sinks.table import console_for, overview

    console = console_for(out)
    info = recognizer.info("")
    rows = [(name, summary, info.sample_rate) for name, summary in results]
    console.print(overview(rows, info.labels, console.width))
