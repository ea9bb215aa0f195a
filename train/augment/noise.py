"""Additive noise: coloured, or from recordings."""

from __future__ import annotations

import functools
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stream_ser.train.data.pcm16 import Wave, coloured_noise, to_float32

Sample = TypeVar("Sample", np.float32, np.int16)


@functools.lru_cache(maxsize=1)
def noise_bank(seconds: int = 64, sample_rate: int = 16_000) -> Wave:
    """Coloured noises with exponents from 0 to 2, ``(9, time)``, unit RMS, always the same ones.

    Slices of it cost a fiftieth of noise that is shaped anew for each clip.
    """
    rng = np.random.default_rng(0)
    return np.stack([coloured_noise(seconds * sample_rate, e, rng) for e in np.linspace(0.0, 2.0, 9)])


def _slice(noise: NDArray[Sample], start: int, size: int) -> NDArray[Sample]:
    """``size`` samples from ``start`` on, round and round."""
    part = noise[start : start + size]
    return part if part.size == size else np.resize(np.roll(noise, -start), size)


def add_noise(wave: Wave, snr_db: float, rng: np.random.Generator, recordings: NDArray[np.int16] | None = None) -> Wave:
    """Add a slice of noise at a signal-to-noise ratio; a silent wave stays silent.

    Args:
        wave: ``(time,)``.
        snr_db: mean power of the wave over that of the noise, both over the whole wave.
        rng: source of all randomness.
        recordings: ``(time,)``, where the slice is cut from; default: coloured noise.
    """
    rms = float(np.sqrt(np.mean(np.square(wave))))
    if rms == 0.0:
        return wave
    bank = noise_bank()
    total = bank.shape[1] if recordings is None else recordings.size
    start = int(rng.integers(max(1, total - wave.size)))
    if recordings is None:
        noise = _slice(bank[int(rng.integers(len(bank)))], start, wave.size)
    else:
        noise = to_float32(_slice(recordings, start, wave.size))
    level = max(float(np.sqrt(np.mean(np.square(noise)))), 1e-12)
    scaled: Wave = noise * np.float32(rms / level * 10.0 ** (-snr_db / 20.0))
    return wave + scaled
