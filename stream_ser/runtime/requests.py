"""Work that asks: a generator that gives out questions and is sent the answers.

Whoever drives it may answer at once (:func:`finished`) or do the work of others first; how long a question waited for
those, the times of its stream must not count (:class:`Waits`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar


class Timed(Protocol):
    """An answer that tells what it took."""

    @property
    def seconds(self) -> float:
        """Its share of the work."""


Q = TypeVar("Q")
A = TypeVar("A")
T = TypeVar("T")


def finished(work: Generator[Q, A, T], say: Callable[[Q], A], asked: Q | None = None) -> T:
    """Do work to its end, each question answered at once.

    Args:
        work: not begun yet, or waiting for an answer.
        say: the answer to a question. What it raises is not caught, and the work stays unfinished.
        asked: the question that is open; None where the work has not begun.

    Returns:
        what the work returns.
    """
    question = asked
    while True:
        if question is not None:
            said = say(question)
        try:
            question = next(work) if question is None else work.send(said)
        except StopIteration as end:
            result: T = end.value
            return result


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
