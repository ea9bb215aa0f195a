"""What a source of audio is."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Protocol

from stream_ser.events import Block


class Source(Protocol):
    """An iterable of blocks, of one stream or of several that are captured together.

    Attributes:
        name: what people call it.
        sample_rate: of the blocks, Hz.
        parts: suffixes of the name that tell its streams apart, ``("",)`` for one. Blocks are ``(time,)`` for one
            stream and ``(time, stream)`` for several.
        overflows: how often the device reported that audio was lost.
        warning: what was wrong with a source that could be used all the same, known at its end; None for nothing.
    """

    name: str
    sample_rate: int

    @property
    def parts(self) -> tuple[str, ...]: ...  # noqa: D102 - see the class

    @property
    def overflows(self) -> int: ...  # noqa: D102

    @property
    def warning(self) -> str | None: ...  # noqa: D102

    def __iter__(self) -> Iterator[Block]:
        """Blocks until the audio ends."""

    def close(self) -> None:
        """Make the iteration end, once what was captured is through; any thread may call this."""


class Closing:
    """``with source:`` closes it."""

    def close(self) -> None:
        """Release what is open; a second time does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
