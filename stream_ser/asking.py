"""What a stream asks its network, one question after the other, whoever answers.

A recogniser's work is a generator that gives out questions and is sent the answers. One stream alone is answered by its
engine at once; those of a :class:`stream_ser.pool.RecognizerPool` wait for each other and are answered together.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stream_ser.engine import Engine, State, Step


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to the network.

    Attributes:
        frames: raw log-mel ``(frames, n_mels)``: a window, or the hop of a network with states. A view that stays as it
            is until the answer is there.
        state: of a network with states, else empty.
    """

    frames: NDArray[np.float32]
    state: State = ()


T = TypeVar("T")
#: Work that asks, is sent a :class:`Step` for each question, and ends with a result.
Asking = Generator[Ask, Step, T]


def answer(engine: Engine, ask: Ask) -> Step:
    """One question to an engine.

    Raises:
        ModelError: see :meth:`Engine.step`.
    """
    if engine.card.states:
        return engine.step(ask.frames, ask.state)
    return Step(engine.probabilities(ask.frames), None, ())


def answers(engine: Engine, asks: Sequence[Ask]) -> list[Step]:
    """Several questions of different streams, in one call of the network where it takes them.

    Raises:
        ModelError: see :meth:`Engine.together`.
    """
    if len(asks) == 1 or not engine.batches:
        return [answer(engine, ask) for ask in asks]
    return engine.together([ask.frames for ask in asks], [ask.state for ask in asks])


def answered(asking: Asking[T], engine: Engine) -> T:
    """Do the work of one stream, its questions answered at once.

    Raises:
        ModelError: the network cannot be run.
    """
    try:
        ask = next(asking)
        while True:
            ask = asking.send(answer(engine, ask))
    except StopIteration as end:
        result: T = end.value
        return result
