"""Resampling of a stream of samples."""

from __future__ import annotations

from typing import cast

import numpy as np
import soxr

from stream_ser.audio.wav import Samples
from stream_ser.config import SAMPLE_RATE_HZ


class Resampler:
    """Streaming sample rate conversion (soxr, HQ); every split of the input gives the same output.

    After :meth:`flush`, ``n`` input samples have given ``n * output_rate / input_rate`` samples, rounded to a
    neighbouring integer. Equal rates pass the samples through untouched.

    Args:
        input_rate: Hz.
        output_rate: Hz.
    """

    def __init__(self, input_rate: int, output_rate: int = SAMPLE_RATE_HZ) -> None:
        if input_rate < 1 or output_rate < 1:
            raise ValueError(f"rates must be positive, got {input_rate} and {output_rate} Hz")
        self.input_rate = input_rate
        self.output_rate = output_rate
        self.reset()

    def reset(self) -> None:
        """Forget everything that was pushed."""
        # A new stream: after soxr's own clear() the length of the next output could differ by a sample.
        self._stream: soxr.ResampleStream | None = None
        if self.input_rate != self.output_rate:
            self._stream = soxr.ResampleStream(self.input_rate, self.output_rate, 1, "float32", "HQ")

    def push(self, block: Samples) -> Samples:
        """Take ``(time,)`` samples and return those that are ready, ``(time,)``; at first often none."""
        if self._stream is None:
            return block
        return cast(Samples, self._stream.resample_chunk(np.ascontiguousarray(block, np.float32)))

    def flush(self) -> Samples:
        """Return the rest, ``(time,)``, as if silence followed, and start anew."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        rest = cast(Samples, self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        self.reset()
        return rest
