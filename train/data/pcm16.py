"""Samples: clips in 16 bits, half the memory of float32 and what the corpora were to begin with; noise of a colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]
Waves = list[NDArray[np.int16]]


def to_int16(wave: Wave) -> NDArray[np.int16]:
    """Full scale at 32768; what lies beyond is clipped."""
    return np.clip(np.round(wave * 32768.0), -32768, 32767).astype(np.int16)


def to_float32(wave: NDArray[np.int16]) -> Wave:
    """Inverse of :func:`to_int16`."""
    out = wave.astype(np.float32)
    out /= np.float32(32768.0)
    return out


def coloured_noise(size: int, exponent: float, rng: np.random.Generator) -> Wave:
    """Gaussian noise ``(size,)`` with unit RMS and power spectrum ``1 / f**exponent`` (0 white, 1 pink, 2 brown)."""
    spectrum = np.fft.rfft(rng.standard_normal(size, dtype=np.float32))
    shape = np.ones(spectrum.size, dtype=np.float32)
    shape[1:] = np.arange(1, spectrum.size, dtype=np.float32) ** np.float32(-exponent / 2.0)
    shape[0] = 0.0
    noise = np.fft.irfft(spectrum * shape, size)
    return (noise / max(float(np.sqrt(np.mean(np.square(noise)))), 1e-12)).astype(np.float32)
