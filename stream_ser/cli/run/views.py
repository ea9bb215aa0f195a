"""Live views and the streams that they show."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

from stream_ser.driver import StreamRun
from stream_ser.events import Block

if TYPE_CHECKING:
    from stream_ser.cli.run.outputs import GuardedSink, Outputs
    from stream_ser.recognition.recognizer import Recognizer
    from stream_ser.sinks.lines import Lines
    from stream_ser.sinks.live.rows import Row
    from stream_ser.sinks.live.single import LiveView
    from stream_ser.sources.base import Source


def lanes_for(
    sources: Sequence[Source], recognizers: Sequence[Recognizer], outputs: Outputs, people: TextIO | None = None
) -> list[tuple[int, list[StreamRun]]]:
    """What :func:`drive_all` needs for the streams of some sources: each with a recogniser, sinks and a view.

    Args:
        sources: of one or several streams, see :mod:`stream_ser.sources.merge`.
        recognizers: one a stream, in order.
        outputs: shared by all streams.
        people: where the views go; None for none.
    """
    from stream_ser.sources.parts import names_of

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
            overflows = functools.partial(_overflows_of, source)
            hearers.append(follow(views[number], recognizer, overflows, guards[number]))
        lanes.append(StreamRun(name, recognizer, sinks, functools.partial(_tell, hearers)))
    left = iter(lanes)
    return [
        (source.sample_rate, list(itertools.islice(left, len(names))))
        for source, names in zip(sources, named, strict=True)
    ]


def _overflows_of(source: Source) -> int:
    return source.overflows


def _tell(hearers: Sequence[Callable[[Block], None]], block: Block) -> None:
    for hear in hearers:
        hear(block)


def follow(
    view: LiveView | Lines | Row,
    recognizer: Recognizer,
    overflows: Callable[[], int] = lambda: 0,
    guard: GuardedSink | None = None,
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
    from stream_ser.sinks.live.rows import LiveRows
    from stream_ser.sinks.live.single import LiveView
    from stream_ser.sinks.table import console_for

    if len(names) == 1:
        return [LiveView(console_for(out), provider=provider)]
    return LiveRows(console_for(out), len(names), provider=provider).rows


def view_on(out: TextIO, provider: str, duration_s: float | None = None) -> LiveView | Lines:
    """The live view where ``out`` is a terminal that can show it, else plain lines."""
    if not draws_on(out):
        from stream_ser.sinks.lines import Lines

        return Lines(out)
    from stream_ser.sinks.live.single import LiveView
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
