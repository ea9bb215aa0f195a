"""What a stream asks its networks, one question after the other, whoever answers.

A recogniser's work is a generator that gives out questions and is sent the answers. One stream alone is answered by its
engine at once; those of a :class:`stream_ser.recognition.pool.RecognizerPool` wait for each other and are answered
together.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stream_ser.runtime.engine import Engine, State, Step
from stream_ser.runtime.requests import finished
from stream_ser.vad.detector import VadRequest
from stream_ser.vad.silero import Hearing


@dataclass(frozen=True, slots=True)
class ModelRequest:
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
Request = ModelRequest | VadRequest
Answer = Step | Hearing
#: Work that asks, is sent a :class:`Step` or a :class:`Hearing` for each question, and ends with a result.
Asking = Generator[Request, Any, T]


def answer(engine: Engine, ask: Request) -> Answer:
    """One question, to an engine or to the network that it names.

    Raises:
        ModelError: see :meth:`Engine.step` and :meth:`stream_ser.vad.silero.SileroNetwork.hear`.
    """
    if isinstance(ask, VadRequest):
        return ask.network.hear([ask.chunk], [ask.memory])[0]
    if engine.card.states:
        return engine.step(ask.frames, ask.state)
    started = time.perf_counter()
    probabilities = engine.probabilities(ask.frames)
    return Step(probabilities, None, (), time.perf_counter() - started)


def answers(engine: Engine, asks: Sequence[Request]) -> Sequence[Answer]:
    """Several questions of different streams, all to one network, in one call where it takes them.

    Raises:
        ModelError: see :meth:`Engine.together` and :meth:`stream_ser.vad.silero.SileroNetwork.hear`.
    """
    listens = [ask for ask in asks if isinstance(ask, VadRequest)]
    if listens:
        assert len(listens) == len(asks)
        return listens[0].network.hear([ask.chunk for ask in listens], [ask.memory for ask in listens])
    windows = [ask for ask in asks if isinstance(ask, ModelRequest)]
    if len(windows) < 2 or not engine.batches:
        return [answer(engine, ask) for ask in windows]
    return engine.together([ask.frames for ask in windows], [ask.state for ask in windows])


def answered(asking: Asking[T], engine: Engine, asked: Request | None = None) -> T:
    """Do the work of one stream, its questions answered at once.

    Args:
        asking: not begun yet, or waiting for an answer.
        engine: of the stream.
        asked: the question that is open; None where the work has not begun.

    Raises:
        ModelError: the network cannot be run.
    """
    return finished(asking, lambda ask: answer(engine, ask), asked)
