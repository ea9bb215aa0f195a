"""The driver loop, and what the commands that run it share."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

import click

from stream_ser.cli._options import Decisions
from stream_ser.cli._options import provider_option as provider_option
from stream_ser.cli._options import vad_option as vad_option
from stream_ser.cli._voice import Memory
from stream_ser.errors import AudioError, DeviceError, OutputError, StreamSerError
from stream_ser.events import Block, Event, Summary
from stream_ser.sinks import Sink

if TYPE_CHECKING:
    from stream_ser.cli._outputs import Guarded, Outputs
    from stream_ser.config import VadConfig
    from stream_ser.engine import Provider
    from stream_ser.pipeline import Recognizer
    from stream_ser.respell import LanguageModel
    from stream_ser.sinks.lines import Lines
    from stream_ser.sinks.live import LiveView
    from stream_ser.sinks.live_rows import Row
    from stream_ser.sources import BlockResampler, Source


def vad_config(vad: bool | None, *, quiet: bool = False) -> VadConfig | None:
    """What ``--vad/--no-vad`` asks for; where nothing was asked and the package lacks, none, and that is said."""
    from stream_ser.config import DEFAULT_VAD
    from stream_ser.silero import PACKAGE, available

    if vad is None and not available():
        _remark(f"no voice activity detection: {PACKAGE} is not installed", quiet)
        return None
    return None if vad is False else DEFAULT_VAD


def recognizer_for(
    model: str | None,
    provider: Provider,
    vad: bool | None = None,
    *,
    decider: Decisions | None = None,
    language_model: LanguageModel | None = None,
    memory: Memory | None = None,
    quiet: bool = False,
) -> Recognizer:
    """Load a model and put a recogniser on it; see :func:`recognizers_for`."""
    return recognizers_for(
        1, model, provider, vad, decider=decider, language_model=language_model, memory=memory, quiet=quiet
    )[0]


def recognizers_for(
    count: int,
    model: str | None,
    provider: Provider,
    vad: bool | None = None,
    *,
    decider: Decisions | None = None,
    language_model: LanguageModel | None = None,
    memory: Memory | None = None,
    quiet: bool = False,
) -> list[Recognizer]:
    """Load a model once and put recognisers on it, which take turns.

    Args:
        count: of the streams.
        model: name or file; None for the default one.
        provider: where the network runs.
        vad: of :data:`vad_option`.
        decider: settings that were asked for.
        language_model: what finished lines are spelt with.
        memory: whether they get to know the voice, and with which they begin.
        quiet: remarks go to the log alone.

    Raises:
        DataError: the model can spell none of the language model's words.
        ModelError: no such model, or one that cannot be read; no voice activity detection, though it was asked for; a
            language model for one that transcribes nothing.
        ProviderError: the session did not get the provider that was asked for.
        VoiceError: no such voice, or one of another model.
    """
    from stream_ser.engine import DEFAULT_MODEL, load
    from stream_ser.pipeline import Recognizer

    engine = load(model or DEFAULT_MODEL, provider)
    logging.getLogger(__name__).info("model %s on %s", engine.path, engine.provider)
    if engine.note:
        _remark(engine.note, quiet)
    heard = vad_config(vad, quiet=quiet)
    config = engine.card.decider if decider is None else decider.config(engine.card.decider)
    memory = memory or Memory()
    if text := memory.remark(engine.card):
        _remark(text, quiet)
    adapt, voice = memory.adapt is not False, memory.profile()
    return [
        Recognizer(engine, config, vad=heard, language_model=language_model, adapt=adapt, voice=voice)
        for _ in range(count)
    ]


def _remark(text: str, quiet: bool) -> None:
    logging.getLogger("stream_ser.said").info("%s", text)
    if not quiet:
        click.echo(f"stream-ser: {text}", err=True)


@dataclass
class Lane:
    """One stream on its way from a source to its results.

    Attributes:
        name: what the sinks are told.
        recognizer: fresh or reset; several may share an engine, for they take turns.
        sinks: opened here and closed here, in order, also when the stream breaks off.
        on_block: called after each block was recognised, with the block at the model's rate.
        summary: filled at the end of the stream.
        resampler: what the blocks come through; filled while the stream is driven.
    """

    name: str
    recognizer: Recognizer
    sinks: Sequence[Sink]
    on_block: Callable[[Block], None] | None = None
    summary: Summary | None = None
    resampler: BlockResampler | None = None

    @property
    def needs_s(self) -> float:
        """Seconds of audio without which nothing can come of what is captured next."""
        return self.recognizer.needs_s - (self.resampler.held_s if self.resampler else 0.0)

    def take(self, blocks: Iterable[Block]) -> None:
        """Recognise blocks at the model's rate."""
        for block in blocks:
            self._emit(self.recognizer.push_block(block))
            if self.on_block is not None:
                self.on_block(block)

    def finish(self) -> None:
        """No more blocks follow.

        Raises:
            AudioError: there were too few.
        """
        self._emit(self.recognizer.flush())
        self.summary = self.recognizer.summary()

    def _emit(self, events: Sequence[Event]) -> None:
        for event in events:
            for sink in self.sinks:
                sink.write(event)


def drive(
    source: Source,
    recognizer: Recognizer,
    sinks: Sequence[Sink],
    *,
    name: str | None = None,
    on_block: Callable[[Block], None] | None = None,
) -> Summary:
    """Push a source of one stream through a recogniser into sinks until the source ends; see :class:`Lane`.

    Raises:
        StreamSerError: what the source or the recogniser raise.
    """
    lane = Lane(name or source.name, recognizer, sinks, on_block)
    drive_all(((0, block) for block in source), [(source.sample_rate, [lane])])
    assert lane.summary is not None
    return lane.summary


def drive_all(
    captured: Generator[tuple[int, Block], None, None],
    lanes: Sequence[tuple[int, Sequence[Lane]]],
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Push sources through recognisers into sinks until they end, all in this thread.

    Args:
        captured: number of the source and block, as ``streams.Together`` gives them; closed here.
        lanes: of each source, its rate in Hz and its streams, as ``streams.split`` gives them.
        should_stop: asked after every block.

    Raises:
        StreamSerError: what a source or a recogniser raise. The streams that can be finished are finished before.
    """
    from stream_ser.sources import BlockResampler
    from stream_ser.streams import split

    every = [lane for _, streams in lanes for lane in streams]
    resamplers = [
        [BlockResampler(rate, lane.recognizer.card.features.sample_rate) for lane in streams] for rate, streams in lanes
    ]
    for lane, resampler in zip(every, itertools.chain.from_iterable(resamplers), strict=True):
        lane.resampler = resampler
    opened: list[tuple[Sink, Lane]] = []
    failure: StreamSerError | None = None
    try:
        for lane in every:
            info = lane.recognizer.info(lane.name)
            for sink in lane.sinks:
                opened.append((sink, lane))
                sink.open(info)
        try:
            with contextlib.closing(captured):
                for index, block in captured:
                    for lane, resampler, part in zip(lanes[index][1], resamplers[index], split(block), strict=True):
                        lane.take(resampler.push(part))
                    if should_stop():
                        break
        except (DeviceError, OutputError) as error:
            # The microphone was unplugged, or the disk for the recording is full: the rest still counts.
            failure = error
        for lane, resampler in zip(every, itertools.chain.from_iterable(resamplers), strict=True):
            try:
                lane.take(resampler.flush())
                lane.finish()
            except AudioError as error:
                failure = failure or error
        if failure is not None:
            raise failure
    finally:
        for sink, lane in opened:
            sink.close(lane.summary)


def lanes_for(
    sources: Sequence[Source], recognizers: Sequence[Recognizer], outputs: Outputs, people: TextIO | None = None
) -> list[tuple[int, list[Lane]]]:
    """What :func:`drive_all` needs for the streams of some sources: each with a recogniser, sinks and a view.

    Args:
        sources: of one or several streams, see :mod:`stream_ser.streams`.
        recognizers: one a stream, in order.
        outputs: shared by all streams.
        people: where the views go; None for none.
    """
    from stream_ser.streams import names_of

    named = names_of(sources)
    every = [(source, name) for source, names in zip(sources, named, strict=True) for name in names]
    views: Sequence[LiveView | Lines | Row] = []
    if people is not None:
        views = views_on(people, recognizers[0].engine.provider, [name for _, name in every])
    lanes = []
    guards = [outputs.guard_view(view, people) for view in views if people is not None]
    streams = zip(every, recognizers, outputs.lanes(len(every)), strict=True)
    for number, ((source, name), recognizer, (sinks, hear)) in enumerate(streams):
        hearers = [hear]
        if views:
            overflows = functools.partial(getattr, source, "overflows", 0)
            hearers.append(follow(views[number], recognizer, overflows, guards[number]))
        lanes.append(Lane(name, recognizer, sinks, functools.partial(_tell, hearers)))
    left = iter(lanes)
    return [
        (source.sample_rate, list(itertools.islice(left, len(names))))
        for source, names in zip(sources, named, strict=True)
    ]


def _tell(hearers: Sequence[Callable[[Block], None]], block: Block) -> None:
    for hear in hearers:
        hear(block)


def follow(
    view: LiveView | Lines | Row,
    recognizer: Recognizer,
    overflows: Callable[[], int] = lambda: 0,
    guard: Guarded | None = None,
) -> Callable[[Block], None]:
    """What shows a view each block and what it changed; with a guard, a view that fails is left out."""

    def on_block(block: Block) -> None:
        shown = (block.samples, recognizer.current, recognizer.posterior, overflows())
        if guard is None:
            view.tick(*shown)
        else:
            guard.run(view.tick, *shown)

    return on_block


def views_on(out: TextIO, provider: str, names: Sequence[str]) -> list[LiveView] | list[Lines] | list[Row]:
    """A view for each stream: of one the live view, of several their rows in one, or plain lines as :func:`view_on`."""
    if not draws_on(out):
        from stream_ser.sinks.lines import Lines

        return [Lines(out, names if len(names) > 1 else ()) for _ in names]
    from stream_ser.sinks.live import LiveView
    from stream_ser.sinks.live_rows import LiveRows
    from stream_ser.sinks.table import console_for

    if len(names) == 1:
        return [LiveView(console_for(out), provider=provider)]
    return LiveRows(console_for(out), len(names), provider=provider).rows


def view_on(out: TextIO, provider: str, duration_s: float | None = None) -> LiveView | Lines:
    """The live view where ``out`` is a terminal that can show it, else plain lines."""
    if not draws_on(out):
        from stream_ser.sinks.lines import Lines

        return Lines(out)
    from stream_ser.sinks.live import LiveView
    from stream_ser.sinks.table import console_for

    return LiveView(console_for(out), provider=provider, duration_s=duration_s)


def draws_on(out: TextIO) -> bool:
    """Whether ``out`` is a terminal that a live view can take over."""
    if not out.isatty():
        return False
    from stream_ser.sinks.table import console_for

    console = console_for(out)
    # An old Windows has no alternate screen.
    return console.is_terminal and not console.is_dumb_terminal and not console.legacy_windows


class _Interrupt(BaseException):
    """A signal that came while nothing but input was waited for."""


class Stop:
    """Whether an end was asked for: call it. See :func:`stop_on_signals`.

    Attributes:
        number: the signal that asked; None before.
    """

    def __init__(self, on_stop: Callable[[], None] | None = None) -> None:
        self.number: int | None = None
        self._on_stop = on_stop
        self._waiting = False

    def __call__(self) -> bool:
        """Whether an end was asked for."""
        return self.number is not None

    def next_of(self, blocks: Iterator[Block]) -> Block | None:
        """The next block, or None at the end, which a signal brings about even while a pipe delivers nothing."""
        try:
            self._waiting = True
            try:
                return None if self() else next(blocks, None)
            finally:
                self._waiting = False
        except _Interrupt:
            return None

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Take a signal; the second one interrupts at once."""
        if self():
            raise KeyboardInterrupt
        self.number = number
        if self._on_stop is not None:
            threading.Thread(target=self._on_stop).start()
        if self._waiting:
            raise _Interrupt


@contextlib.contextmanager
def stop_on_signals(on_stop: Callable[[], None] | None = None) -> Iterator[Stop]:
    """Make Ctrl-C and SIGTERM ask for an orderly end.

    Args:
        on_stop: called once, in a thread of its own, for a signal may interrupt anything.

    Yields:
        Whether an end was asked for. A second signal interrupts at once.
    """
    stop = Stop(on_stop)
    previous: dict[int, Any] = {number: signal.signal(number, stop.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Stoppable:
    """A source that ends when a signal or the outputs ask for it, also while it waits for input.

    Args:
        source: opened.
        stop: of :func:`stop_on_signals`.
        should_stop: asked after every block.
    """

    def __init__(self, source: Source, stop: Stop, should_stop: Callable[[], bool] = lambda: False) -> None:
        self.name = source.name
        self.sample_rate = source.sample_rate
        self._source = source
        self._stop = stop
        self._should_stop = should_stop

    def __iter__(self) -> Iterator[Block]:
        """Blocks of the source, until it ends or is to end."""
        blocks = iter(self._source)
        while (block := self._stop.next_of(blocks)) is not None:
            yield block
            if self._should_stop():
                return
