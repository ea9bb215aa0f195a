"""The driver loop, and what the commands that run it share."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

import click

from stream_ser.errors import AudioError, DeviceError, OutputError, StreamSerError
from stream_ser.events import Block, Event, Summary
from stream_ser.sinks import Sink

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from stream_ser.config import VadConfig
    from stream_ser.engine import Provider
    from stream_ser.pipeline import Recognizer
    from stream_ser.sinks.lines import Lines
    from stream_ser.sinks.live import LiveView
    from stream_ser.sources import Source, WavRecorder


class Tapped:
    """A source that passes on what another gives, records it, and ends early when asked to.

    Args:
        source: opened.
        recorder: gets every block as it was captured.
        should_stop: asked after every block.
    """

    def __init__(
        self,
        source: Source,
        recorder: WavRecorder | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = source.name
        self.sample_rate = source.sample_rate
        self._source = source
        self._recorder = recorder
        self._should_stop = should_stop

    def __iter__(self) -> Iterator[Block]:
        """Blocks of the source, until it ends or is to end."""
        for block in self._source:
            if self._recorder is not None:
                self._recorder.write(block)
            yield block
            if self._should_stop():
                return


model_option = click.option(
    "--model", "-m", metavar="NAME|FILE", help="A bundled model (see 'stream-ser models') or an .onnx file."
)
provider_option = click.option(
    "--provider",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where the network runs; auto takes CUDA where it works.",
)
output_option = click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Write the results to this file."
)


vad_option = click.option(
    "--vad/--no-vad",
    default=None,
    help="Claim an emotion only where somebody speaks (voice activity detection). Default: on.",
)


def vad_config(vad: bool | None) -> VadConfig | None:
    """What ``--vad/--no-vad`` asks for; where nothing was asked and the package lacks, none, and that is said."""
    from stream_ser.config import DEFAULT_VAD
    from stream_ser.vad import PACKAGE, available

    if vad is None and not available():
        click.echo(f"stream-ser: no voice activity detection: {PACKAGE} is not installed", err=True)
        return None
    return None if vad is False else DEFAULT_VAD


def recognizer_for(model: str | None, provider: Provider, vad: bool | None = None) -> Recognizer:
    """Load a model and put a recogniser on it.

    Args:
        model: name or file; None for the default one.
        provider: where the network runs.
        vad: of :data:`vad_option`.

    Raises:
        ModelError: no such model, or one that cannot be read; no voice activity detection, though it was asked for.
        ProviderError: the session did not get the provider that was asked for.
    """
    from stream_ser.engine import DEFAULT_MODEL, load
    from stream_ser.pipeline import Recognizer

    engine = load(model or DEFAULT_MODEL, provider)
    if engine.note:
        click.echo(f"stream-ser: {engine.note}", err=True)
    return Recognizer(engine, vad=vad_config(vad))


def drive(
    source: Source,
    recognizer: Recognizer,
    sinks: Sequence[Sink],
    *,
    name: str | None = None,
    on_block: Callable[[Block], None] | None = None,
) -> Summary:
    """Push a source through a recogniser into sinks until the source ends.

    Args:
        source: opened.
        recognizer: fresh or reset.
        sinks: opened here and closed here, in order, also when the stream breaks off.
        name: what the sinks are told; the source's own name by default.
        on_block: called after each block was recognised, with the block at the model's rate.

    Raises:
        StreamSerError: what the source or the recogniser raise.
    """
    from stream_ser.sources import resampled

    summary: Summary | None = None
    opened: list[Sink] = []
    try:
        info = recognizer.info(name or source.name)
        for sink in sinks:
            opened.append(sink)
            sink.open(info)
        failure: StreamSerError | None = None
        try:
            for block in resampled(source, info.sample_rate):
                _emit(recognizer.push_block(block), sinks)
                if on_block is not None:
                    on_block(block)
        except (DeviceError, OutputError) as error:
            # The microphone was unplugged, or the disk for the recording is full: the rest still counts.
            failure = error
        try:
            _emit(recognizer.flush(), sinks)
            summary = recognizer.summary()
        except AudioError:
            if failure is None:
                raise
        if failure is not None:
            raise failure
    finally:
        for sink in opened:
            sink.close(summary)
    assert summary is not None
    return summary


def _emit(events: Sequence[Event], sinks: Sequence[Sink]) -> None:
    for event in events:
        for sink in sinks:
            sink.write(event)


def follow(
    view: LiveView | Lines, recognizer: Recognizer, overflows: Callable[[], int] = lambda: 0
) -> Callable[[Block], None]:
    """What shows a view each block and what it changed."""

    def on_block(block: Block) -> None:
        view.tick(block.samples, recognizer.current, recognizer.smoothed, overflows())

    return on_block


def view_on(out: TextIO, provider: str, duration_s: float | None = None) -> LiveView | Lines:
    """The live view where ``out`` is a terminal that can show it, else plain lines."""
    from stream_ser.sinks.lines import Lines

    if not out.isatty():
        return Lines(out)
    from stream_ser.sinks.live import LiveView
    from stream_ser.sinks.table import console_for

    console = console_for(out)
    if not console.is_terminal or console.is_dumb_terminal:
        return Lines(out)
    return LiveView(console, provider=provider, duration_s=duration_s)


class _LateFile(io.FileIO):
    """A file opened for writing at once, but emptied at the first write only; unwritten and new, it is removed."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0)
        self._path, self._is_new, self._written = path, True, False
        try:
            descriptor = os.open(path, flags | os.O_EXCL, 0o666)
        except FileExistsError:
            self._is_new = False
            descriptor = os.open(path, flags, 0o666)
        super().__init__(descriptor, "wb")

    def write(self, data: ReadableBuffer) -> int:
        """Write, after emptying the file if this is the first time."""
        if not self._written:
            self._written = True
            if stat.S_ISREG(os.fstat(self.fileno()).st_mode):
                self.truncate(0)
        return super().write(data)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            super().close()
            if self._is_new and not self._written:
                self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def results_to(output: Path | None, inputs: Sequence[Path] = ()) -> Iterator[TextIO]:
    """Standard output, or the file that was asked for.

    The file is replaced at the first write: a run that comes to nothing leaves what it held, and no empty file.

    Args:
        output: None for standard output.
        inputs: files that are read and must not be overwritten.

    Raises:
        OutputError: the file cannot be written, or is one of the inputs.
    """
    if output is None:
        yield sys.stdout
        return
    for path in inputs:
        with contextlib.suppress(OSError):
            if output.samefile(path):
                raise OutputError(f"--output {output} is one of the inputs; choose another name")
    try:
        raw = _LateFile(output)
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror}") from None
    with io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", newline="") as stream:
        yield stream


@contextlib.contextmanager
def stop_on_signals(on_stop: Callable[[], None] | None = None) -> Iterator[Callable[[], bool]]:
    """Make Ctrl-C and SIGTERM ask for an orderly end.

    Args:
        on_stop: called once, in a thread of its own, for a signal may interrupt anything.

    Yields:
        Whether an end was asked for. A second signal interrupts at once.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        if on_stop is not None:
            threading.Thread(target=on_stop).start()

    previous: dict[int, Any] = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
