"""How long a question of a stream waited for the work of others, which its own times must not count."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, Protocol, TypeVar


class Timed(Protocol):
    """An answer that tells what it took."""

    @property
    def seconds(self) -> float:
        """Its share of the work."""


Q = TypeVar("Q")


class Waits:
    """Time between questions and answers that went to the work of others."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def ask(self, question: Q) -> Generator[Q, Any, Any]:
        """Give out a question; returns the answer, which is :class:`Timed`."""
        asked = time.perf_counter()
        answer: Timed = yield question
        self._seconds += time.perf_counter() - asked - answer.seconds
        return answer

    def take(self) -> float:
        """Seconds since this was called last."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds
