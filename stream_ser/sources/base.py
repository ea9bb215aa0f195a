"""What a source of audio is."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Protocol

from stream_ser.events import Block


class Source(Protocol):
    """What :func:`resampled` and the pipeline's driver ask of a source."""

    name: str
    sample_rate: int

    def __iter__(self) -> Iterator[Block]:
        """Blocks until the audio ends."""


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
