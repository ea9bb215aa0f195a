"""Where events go: JSON lines, CSV, a printed table, the live view.

A sink is opened with what is known before the first event, gets every event in order and is closed with the
summary. Several streams may follow each other through one sink. Sinks know nothing of sources, engines or the
command line, and never close the text stream they were given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from stream_ser.events import Event, StreamInfo, Summary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Sink(Protocol):
    """What the driver loop asks of a sink."""

    def open(self, info: StreamInfo) -> None:
        """A stream begins."""

    def write(self, event: Event) -> None:
        """The next event of the stream."""

    def close(self, summary: Summary | None) -> None:
        """The stream ended; ``summary`` is None where it broke off with an error."""


@runtime_checkable
class AudioSink(Protocol):
    """A sink that wants the audio, too."""

    def hear(self, samples: NDArray[np.float32]) -> None:
        """The next samples of the stream, ``(time,)``."""


@runtime_checkable
class TerminalSink(Protocol):
    """A sink that takes a terminal over."""

    def give_back(self) -> None:
        """Leave the terminal as it was found; a second time does nothing."""


def clock(seconds: float) -> str:
    """A duration for people: ``0:07``, ``12:34`` or ``1:02:03``.

    Example:
        >>> clock(7.9), clock(754), clock(3723)
        ('0:07', '12:34', '1:02:03')
    """
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
