"""Where somebody speaks: Silero VAD over the stream, chunk by chunk, and the hysteresis that makes speech of it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import DEFAULT_VAD, VadConfig
from stream_ser.runtime.requests import Waits, finished
from stream_ser.vad.silero import CHUNK_MS as CHUNK_MS
from stream_ser.vad.silero import Hearing, Memory, shared_network

#: A gain that follows the level brings loud chunks to this level: the network hears whispers, and microphones that are
#: turned down, less well than it should.
TARGET_DBFS = -15.0
#: The level that is reckoned with before anything was heard.
START_DBFS = -30.0
MAX_GAIN_DB = 30.0
#: The level rises at once and falls at this rate, dB a second: pauses are not made loud.
FALL_DB_PER_S = 3.0
#: The same as amplitudes.
_TARGET, _MAX_GAIN, _FULL_SCALE = 10.0 ** (TARGET_DBFS / 20.0), 10.0 ** (MAX_GAIN_DB / 20.0), np.float32(1.0)


class Network(Protocol):
    """What gives the probability of speech of one chunk after the other, of any number of streams."""

    def fresh(self) -> Memory:
        """What there is to remember at the start of a stream."""

    def hear(self, chunks: Sequence[NDArray[np.float32]], memories: Sequence[Memory]) -> list[Hearing]:
        """Hear the next chunk of each of several streams."""


@dataclass(frozen=True, slots=True)
class VadRequest:
    """A question to the network: whether somebody speaks in a chunk.

    Attributes:
        network: that is asked.
        chunk: ``(time,)``, a view that stays as it is until the answer is there.
        memory: of the stream.
    """

    network: Network
    chunk: NDArray[np.float32]
    memory: Memory


@dataclass(frozen=True, slots=True)
class Voice:
    """What was heard in the chunk that ends at sample ``end``.

    Attributes:
        end: one past the chunk's last sample.
        probability: that somebody speaks in it.
        voiced: somebody speaks in it.
        speaking: somebody speaks in it, or paused a moment ago.
    """

    end: int
    probability: float
    voiced: bool
    speaking: bool


@dataclass(frozen=True, slots=True)
class Utterance:
    """The newest speech in a window, in frames of the window.

    Attributes:
        begin: first frame behind all earlier utterances; 0 where the window holds none.
        first: first frame in which somebody speaks in this one.
        end: one past the last such frame.
    """

    begin: int
    first: int
    end: int


def newest_utterance(voiced: NDArray[np.bool_], speaking: NDArray[np.bool_]) -> Utterance | None:
    """Find the newest speech; None where nobody speaks.

    Args:
        voiced: ``(frames,)``, :attr:`Voice.voiced`.
        speaking: ``(frames,)``, :attr:`Voice.speaking`; a frame without it lies between two utterances.

    Example:
        >>> flags = np.array([[1, 0, 0, 1, 1, 0], [1, 1, 0, 1, 1, 1]], dtype=bool)
        >>> newest_utterance(*flags)
        Utterance(begin=2, first=3, end=5)
    """
    heard = np.flatnonzero(voiced)
    if not heard.size:
        return None
    end = int(heard[-1]) + 1
    apart = np.flatnonzero(~speaking[:end])
    edge = int(apart[-1]) + 1 if apart.size else 0
    earlier = np.flatnonzero(speaking[:edge])
    begin = int(earlier[-1]) + 1 if earlier.size else 0
    return Utterance(begin, int(heard[np.searchsorted(heard, edge)]), end)


class VoiceDetector:
    """Tells speech from everything else.

    A chunk of digital silence has the probability 0 and makes the network forget what it heard: what was lost from a
    stream reads as zeros, and what follows a loss does not continue what was before it. As this hangs on the samples
    alone, a recording with a loss in it gives what the live stream gave.

    Args:
        sample_rate: Hz.
        config: thresholds and durations.
        network: default: Silero's.
        waits: gets the time that others take between a question and its answer.

    Raises:
        ModelError: see :class:`stream_ser.vad.silero.SileroNetwork`.
    """

    def __init__(
        self,
        sample_rate: int,
        config: VadConfig = DEFAULT_VAD,
        network: Network | None = None,
        waits: Waits | None = None,
    ) -> None:
        self.config = config
        self.chunk_samples = CHUNK_MS * sample_rate // 1000
        self._min_speech = round(config.min_speech_s * sample_rate)
        self._min_silence = round(config.min_silence_s * sample_rate)
        self._network = network or shared_network(sample_rate)
        self._waits = waits or Waits()
        self._chunk = np.zeros(self.chunk_samples, dtype=np.float32)
        self._keep = 10.0 ** (-FALL_DB_PER_S * CHUNK_MS / 10_000.0)
        self.reset()

    def reset(self, start: int = 0) -> None:
        """Back to the start of a stream, whose first sample has the position ``start``."""
        self._memory = self._network.fresh()
        self._filled = 0
        self._end = start
        self._power = 10.0 ** (START_DBFS / 10.0)
        self._speaking = False
        #: Where what may become speech began, and where speech was last heard.
        self._began: int | None = None
        self._voiced_end = start

    def push(self, samples: NDArray[np.float32]) -> list[Voice]:
        """Take ``(time,)`` finite samples, full scale at 1; returns the chunks that they complete.

        Raises:
            ModelError: the network cannot be run.
        """
        return finished(self.asking(samples), lambda ask: ask.network.hear([ask.chunk], [ask.memory])[0])

    def asking(self, samples: NDArray[np.float32]) -> Generator[VadRequest, Hearing, list[Voice]]:
        """The work of :meth:`push`; whoever drives it answers its questions."""
        heard = []
        taken = 0
        while taken < len(samples):
            step = min(len(samples) - taken, self.chunk_samples - self._filled)
            self._chunk[self._filled : self._filled + step] = samples[taken : taken + step]
            taken += step
            self._filled += step
            if self._filled == self.chunk_samples:
                heard.append((yield from self._hear()))
        return heard

    def _hear(self) -> Generator[VadRequest, Hearing, Voice]:
        self._filled = 0
        start, self._end = self._end, self._end + self.chunk_samples
        probability = 0.0
        if self._chunk.any():
            self._level()
            heard: Hearing = yield from self._waits.ask(VadRequest(self._network, self._chunk, self._memory))
            probability, self._memory = heard.probability, heard.memory
        else:
            self._memory = self._network.fresh()
        if self._began is None:
            if probability >= self.config.enter:
                self._began = start
        elif probability < self.config.leave and not self._speaking:
            self._began = None
        voiced = False
        if self._began is not None:
            if self._end - self._began >= self._min_speech:
                self._speaking = True
            voiced = self._speaking and probability >= self.config.leave
            if voiced:
                self._voiced_end = self._end
            elif self._speaking and self._end - self._voiced_end >= self._min_silence:
                self._speaking, self._began = False, None
        return Voice(self._end, probability, voiced, self._speaking)

    def _level(self) -> None:
        """Make the chunk loud enough; never quieter, and never beyond full scale."""
        chunk = self._chunk
        self._power = max(float(np.dot(chunk, chunk)) / chunk.size, self._keep * self._power)
        gain = min(_TARGET / self._power**0.5, _MAX_GAIN)
        if gain > 1.0:
            chunk *= np.float32(gain)
        # numpy's clip takes longer than both, and this runs thirty times a second in every stream.
        np.minimum(chunk, _FULL_SCALE, out=chunk)
        np.maximum(chunk, -_FULL_SCALE, out=chunk)
