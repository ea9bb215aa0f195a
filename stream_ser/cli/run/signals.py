"""Stopping on signals, with all results written."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from stream_ser.events import Block

if TYPE_CHECKING:
    from stream_ser.sources.base import Source


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


class InterruptibleSource:
    """A source that ends when a signal or the outputs ask for it, also while it waits for input.

    Args:
        source: opened.
        stop: of :func:`stop_on_signals`.
        should_stop: asked after every block.
    """

    def __init__(self, source: Source, stop: Stop, should_stop: Callable[[], bool] = lambda: False) -> None:
        self.name = source.name
        self.sample_rate = source.sample_rate
        self.parts = source.parts
        self._source = source
        self._stop = stop
        self._should_stop = should_stop

    @property
    def overflows(self) -> int:
        """How often the device reported that audio was lost."""
        return self._source.overflows

    @property
    def warning(self) -> str | None:
        """What was wrong with the source."""
        return self._source.warning

    def close(self) -> None:
        """Make the iteration end."""
        self._source.close()

    def __iter__(self) -> Iterator[Block]:
        """Blocks of the source, until it ends or is to end."""
        blocks = iter(self._source)
        while (block := self._stop.next_of(blocks)) is not None:
            yield block
            if self._should_stop():
                return
