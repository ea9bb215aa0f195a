"""What a stream asks its networks, one question after the other, whoever answers.

A recogniser's work is a generator that gives out questions and is sent the answers. One stream alone is answered by its
engine at once; those of a :class:`stream_ser.pool.RecognizerPool` wait for each other and are answered together.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from stream_ser.engine import Engine, State, Step
from stream_ser.silero import Hearing
from stream_ser.vad import Listen, Network


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to the model's network.

    Attributes:
        frames: raw log-mel ``(frames, n_mels)``: a window, or the hop of a network with states. A view that stays as it
            is until the answer is there.
        state: of a network with states, else empty.
    """

    frames: NDArray[np.float32]
    state: State = ()


T = TypeVar("T")
#: To the model's network, or to that of voice activity detection.
Question = Ask | Listen
Answer = Step | Hearing
#: Work that asks, is sent a :class:`Step` or a :class:`Hearing` for each question, and ends with a result.
Asking = Generator[Question, Any, T]


def answer(engine: Engine, ask: Question) -> Answer:
    """One question, to an engine or to the network that it names.

    Raises:
        ModelError: see :meth:`Engine.step` and :meth:`stream_ser.silero.SileroNetwork.hear`.
    """
    if isinstance(ask, Listen):
        return ask.network.hear([ask.chunk], [ask.memory])[0]
    if engine.card.states:
        return engine.step(ask.frames, ask.state)
    return Step(engine.probabilities(ask.frames), None, ())


def answers(engine: Engine, asks: Sequence[Question]) -> list[Answer]:
    """Several questions of different streams, in one call of each network that takes them.

    Raises:
        ModelError: see :meth:`Engine.together` and :meth:`stream_ser.silero.SileroNetwork.hear`.
    """
    found: dict[int, Answer] = {}
    listening: dict[Network, list[int]] = {}
    windows: list[int] = []
    for place, ask in enumerate(asks):
        (listening.setdefault(ask.network, []) if isinstance(ask, Listen) else windows).append(place)
    for network, places in listening.items():
        questions = [cast(Listen, asks[place]) for place in places]
        heard = network.hear([ask.chunk for ask in questions], [ask.memory for ask in questions])
        found.update(zip(places, heard, strict=True))
    found.update(zip(windows, _steps(engine, [cast(Ask, asks[place]) for place in windows]), strict=True))
    return [found[place] for place in range(len(asks))]


def _steps(engine: Engine, asks: Sequence[Ask]) -> Sequence[Answer]:
    if len(asks) < 2 or not engine.batches:
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
