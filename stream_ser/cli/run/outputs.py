"""Results on their way to files and standard output: each guarded, so that one that fails stops nothing else."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from stream_ser.cli.run.errors import abandon_stdout
from stream_ser.cli.run.files import Claims, one_each, results_to
from stream_ser.cli.run.targets import STDOUT, Results, Target, targets
from stream_ser.errors import OutputError
from stream_ser.events import Block, Event, StreamInfo, Summary
from stream_ser.sinks import AudioSink, Sink, TerminalSink
from stream_ser.sinks.log import Log
from stream_ser.text import printable

if TYPE_CHECKING:
    from stream_ser.config import FeatureConfig
    from stream_ser.sinks.lines import Lines
    from stream_ser.sinks.live.rows import Row
    from stream_ser.sinks.live.single import LiveView

Report = Callable[[str], object]

#: What people were told, for the log: it is on the screen already.
SAID = logging.getLogger("stream_ser.said")

#: Formats whose files hold one stream: time in them starts once.
ONE_STREAM = frozenset({"srt", "vtt"})
_REMEDIES = {errno.ENOSPC: "free some space", errno.EDQUOT: "free some space"}


class ErrorReporter:
    """What went wrong on the way: said at once, or, where a live view has the screen, when it has gone.

    Args:
        later: whether to wait for :meth:`show`.

    Attributes:
        any: whether something did.
    """

    def __init__(self, *, later: bool = False) -> None:
        self.any = False
        self._later = later
        self._lines: list[str] = []

    def add(self, message: str) -> None:
        """Report something."""
        self.any = True
        SAID.warning("%s", message)
        self._lines.append(f"stream-ser: {printable(' '.join(message.splitlines()))}")
        if not self._later:
            self.show()

    def show(self) -> None:
        """Say what has not been said."""
        for line in self._lines:
            click.echo(line, err=True)
        self._lines.clear()


class GuardedSink:
    """A sink that, once it fails, is reported and left out, and stops nothing else.

    What the sink wrote of an event is handed to the system before the next event: a run that is killed loses nothing
    that was decided before.

    Args:
        sink: guarded.
        name: of the output, in the report.
        report: takes the line that says what failed.
        stream: flushed after every event.
        format_: of the results, None for what is no result.

    Attributes:
        failure: why it is left out; None while it works.
    """

    def __init__(
        self, sink: Sink, name: str, report: Report, stream: TextIO | None = None, format_: str | None = None
    ) -> None:
        self.sink = sink
        self.name = name
        self.stream = stream
        self.format_ = format_
        self.failure: OSError | OutputError | None = None
        self._report = report

    def open(self, info: StreamInfo) -> None:
        """A stream begins."""
        self.run(self.sink.open, info)

    def write(self, event: Event) -> None:
        """The next event."""
        self.run(self.sink.write, event)

    def close(self, summary: Summary | None) -> None:
        """The stream ended."""
        if self.failure is not None and isinstance(self.sink, TerminalSink):
            # A terminal that could not be written once may be one that somebody goes on to use.
            with contextlib.suppress(OSError):
                self.sink.give_back()
        self.run(self.sink.close, summary)

    def run(self, action: Callable[..., object], *args: Any) -> None:
        """Do something that may fail as writing does; nothing, once it has failed."""
        if self.failure is not None:
            return
        try:
            action(*args)
            if self.stream is not None:
                self.stream.flush()
        except OutputError as error:
            self.failure = error
            self._report(f"error: {error}")
        except OSError as error:
            self.failure = error
            # That nobody reads on is no mistake: "| head" is used like this.
            if not isinstance(error, BrokenPipeError):
                remedy = _REMEDIES.get(error.errno or 0, "choose another place")
                self._report(f"error: cannot write {self.name}: {error.strerror}; {remedy}: nothing more goes there")


class Outputs:
    """The results of a run.

    Args:
        report: takes a line about an output that failed.
        claims: the run's files.
        live: sinks shall show at once that a stream has begun.
        several: more than one stream will come: formats that hold one get a file for each.
    """

    def __init__(self, report: Report, claims: Claims, *, live: bool = False, several: bool = False) -> None:
        self.results: list[GuardedSink] = []
        self._more: list[Callable[[], Sink]] = []
        self._warn: Report = lambda message: None
        self._views: list[GuardedSink] = []
        self._hearers: list[Callable[[Block], None]] = []
        self._claims = claims
        self._live = live
        self._told = report
        self._several = several
        self._files = contextlib.ExitStack()

    def add(self, target: Target) -> None:
        """Open one output.

        Raises:
            OutputError: it cannot be written, is an input or another output, or standard output would get several
                streams in a format that holds one.
        """
        name = "standard output" if target.path is None else str(target.path)
        stream: TextIO | None = None
        sink: Sink
        more: Callable[[], Sink]
        if self._several and target.format_ in ONE_STREAM:
            if target.path is None:
                raise OutputError(
                    f"--format {target.format_} on standard output holds one stream, and there are several inputs; "
                    f"use --output NAME.{target.format_}, which writes a file for each"
                )
            more = functools.partial(_FileEach, target.format_, one_each(target.path), self._claims, self._live)
            sink = more()
        else:
            stream = self._files.enter_context(results_to(target.path, self._claims))
            sink = make_sink(target.format_, stream, live=self._live)
            more = functools.partial(make_sink, target.format_, stream, live=self._live, first=False)
        self._add(GuardedSink(sink, name, self._report, stream, target.format_), more)

    def _add(self, guard: GuardedSink, more: Callable[[], Sink]) -> None:
        self.results.append(guard)
        self._more.append(more)

    def add_plot(self, path: Path, features: FeatureConfig) -> None:
        """Draw a picture of each stream.

        Args:
            path: of the picture, or the beginning of several; the suffix says the format.
            features: of the log-mel spectrogram in it.

        Raises:
            OutputError: matplotlib is missing or knows no such format, or the file cannot be written or is an input or
                another output.
        """
        from stream_ser.cli.run.plot import plot_sink

        name_for = one_each(path) if self._several else None
        # Whether it can be written is better known before an hour of listening than after.
        with results_to(path, Claims() if name_for else self._claims, "--plot"):
            pass

        def place(name: str) -> Path:
            if name_for is None:
                return path
            chosen = name_for(name)
            self._claims.write(chosen, "--plot")
            return chosen

        plot = plot_sink(path, place, features)
        guarded = GuardedSink(plot, str(path), self._report)
        self._add(guarded, functools.partial(plot_sink, path, place, features))
        self._hearers.append(lambda block: guarded.run(plot.hear, block.samples))

    def guard_view(self, view: LiveView | Lines | Row, stream: TextIO) -> GuardedSink:
        """Guard what people look at, which is no result."""
        guarded = GuardedSink(view, "the view", self._told, stream)
        self._views.append(guarded)
        self._warn = view.warn
        return guarded

    def _report(self, message: str) -> None:
        """An output failed: said as everything is, and shown at once."""
        self._told(message)
        self._warn(message.removeprefix("error: "))

    @property
    def sinks(self) -> list[Sink]:
        """Where events go: the view, the log, the results."""
        return [*self._views, Log(), *self.results]

    def hear(self, block: Block) -> None:
        """Pass on the audio itself."""
        for hearer in self._hearers:
            hearer(block)

    def lanes(self, count: int) -> list[tuple[list[Sink], Callable[[Block], None]]]:
        """Sinks, and what hears the audio, for streams that come at the same time.

        What several of them write to is one output: a failure of one is that of all. Views are given out in the order
        in which they were guarded.
        """
        lanes: list[tuple[list[Sink], Callable[[Block], None]]] = []
        for number in range(count):
            view = self._views[number : number + 1]
            if number == 0:
                lanes.append(([*view, Log(), *self.results], self.hear))
                continue
            shared = [_Shared(guard, more()) for guard, more in zip(self.results, self._more, strict=True)]
            lanes.append(([*view, Log(), *shared], functools.partial(_hear_all, shared)))
        return lanes

    @property
    def pipe_closed(self) -> bool:
        """Whether the reader of a pipe has gone."""
        return any(isinstance(guard.failure, BrokenPipeError) for guard in (*self._views, *self.results))

    @property
    def failed(self) -> bool:
        """Whether an output could not be written."""
        return any(guard.failure is not None for guard in (*self._views, *self.results))

    @property
    def in_vain(self) -> bool:
        """Whether nobody is left to write for: no output works any more, or a pipe's reader has gone."""
        return self.pipe_closed or (bool(self.results) and all(guard.failure for guard in self.results))

    def close(self) -> None:
        """Close the files; what failed before fails silently now."""
        for guard in (*self._views, *self.results):
            if guard.failure is not None and guard.stream is sys.stdout:
                abandon_stdout()
        try:
            self._files.close()
        except OSError:
            if not self.failed:
                raise

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


@contextlib.contextmanager
def opened(
    results: Results, default: str | None, claims: Claims, report: Report, *, live: bool = False, several: bool = False
) -> Iterator[Outputs]:
    """All outputs that the options ask for, closed at the end; see :class:`Outputs`.

    Raises:
        OutputError: as :meth:`Outputs.add`.
        click.UsageError: as :func:`~stream_ser.cli.run.targets.targets`.
    """
    for name in results.output:
        if name != STDOUT:
            claims.check(Path(name))
    with Outputs(report, claims, live=live, several=several) as outputs:
        for target in targets(results, default):
            outputs.add(target)
        yield outputs


class _Shared:
    """A sink of one of several streams on an output that another sink guards."""

    def __init__(self, guard: GuardedSink, sink: Sink) -> None:
        self._guard = guard
        self._sink = sink

    def open(self, info: StreamInfo) -> None:
        self._guard.run(self._sink.open, info)

    def write(self, event: Event) -> None:
        self._guard.run(self._sink.write, event)

    def close(self, summary: Summary | None) -> None:
        self._guard.run(self._sink.close, summary)

    def hear(self, block: Block) -> None:
        """Pass on the audio, where the sink wants it."""
        if isinstance(self._sink, AudioSink):
            self._guard.run(self._sink.hear, block.samples)


def _hear_all(shared: list[_Shared], block: Block) -> None:
    for sink in shared:
        sink.hear(block)


def make_sink(format_: str, out: TextIO, *, live: bool = False, first: bool = True) -> Sink:
    """The sink of a format on a text stream.

    Args:
        format_: of the results.
        out: the text stream.
        live: hand every line on at once.
        first: no other sink has begun to write there.
    """
    if format_ == "jsonl":
        from stream_ser.sinks.jsonl import JsonLines

        return JsonLines(out, flush=live)
    if format_ == "csv":
        from stream_ser.sinks.csv_ import Csv

        return Csv(out, flush=live, header=first)
    if format_ == "rttm":
        from stream_ser.sinks.rttm import Rttm

        return Rttm(out)
    if format_ in ("srt", "vtt"):
        from stream_ser.sinks.subtitles import Srt, Vtt

        return Srt(out) if format_ == "srt" else Vtt(out)
    from stream_ser.sinks.table import Table, console_for

    return Table(console_for(out))


class _FileEach:
    """A sink that writes every stream to a file of its own."""

    def __init__(self, format_: str, name_for: Callable[[str], Path], claims: Claims, live: bool) -> None:
        self._name_for = name_for
        self._format = format_
        self._claims = claims
        self._live = live
        self._sink: Sink | None = None
        self._stream: TextIO | None = None
        self._file = contextlib.ExitStack()

    def open(self, info: StreamInfo) -> None:
        self._file = contextlib.ExitStack()
        self._stream = self._file.enter_context(results_to(self._name_for(info.name), self._claims))
        self._sink = make_sink(self._format, self._stream, live=self._live)
        self._sink.open(info)

    def write(self, event: Event) -> None:
        if self._sink is not None and self._stream is not None:
            self._sink.write(event)
            self._stream.flush()

    def close(self, summary: Summary | None) -> None:
        with self._file:
            if self._sink is not None:
                self._sink.close(summary)
            self._sink = self._stream = None
