"""Reverberation: synthetic rooms, and measured impulse responses."""

from __future__ import annotations

import numpy as np

from stream_ser.train.data.pcm16 import Wave


def convolved(wave: Wave, room: Wave) -> Wave:
    """Convolve with an impulse response; the length and the RMS level stay as they were.

    Args:
        wave: ``(time,)``.
        room: ``(taps,)``, the direct sound first.
    """
    size = wave.size + room.size - 1
    fast = 1 << (size - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(wave, fast) * np.fft.rfft(room, fast), fast)[: wave.size]
    before, after = float(np.square(wave).sum()), float(np.square(wet).sum())
    return (wet * np.sqrt(before / after)).astype(np.float32) if after > 0.0 else wave


def add_reverb(wave: Wave, rt60_s: float, sample_rate: int, rng: np.random.Generator) -> Wave:
    """Convolve with a synthetic room: the direct sound and noise that decays by 60 dB in ``rt60_s`` (Polack 1988).

    The length and the RMS level stay as they were.
    """
    time_s = np.arange(max(1, int(rt60_s * sample_rate)), dtype=np.float32) / sample_rate
    room = rng.standard_normal(time_s.size, dtype=np.float32) * np.exp(-6.908 * time_s / rt60_s)
    room *= np.float32(rng.uniform(0.05, 0.3) / max(float(np.sqrt(np.square(room).sum())), 1e-12) * 3.0)
    room[0] = 1.0
    return convolved(wave, room)
