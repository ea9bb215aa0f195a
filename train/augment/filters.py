"""Channels that cut the spectrum."""

from __future__ import annotations

import functools

import numpy as np

from stream_ser.train.data.pcm16 import Wave

#: Edges of the telephone band, Hz (ITU-T G.120), and the order of the Butterworth slopes that stand for its filters.
TELEPHONE_HZ = (300.0, 3_400.0)
TELEPHONE_ORDER = 8


@functools.lru_cache(maxsize=4)
def _telephone_response(size: int, sample_rate: int) -> Wave:
    """Magnitude at the bins of a real FFT of ``size``: -3 dB at the band's edges, 48 dB an octave beyond."""
    low_hz, high_hz = TELEPHONE_HZ
    hz = np.fft.rfftfreq(size, 1.0 / sample_rate)
    below = (low_hz / np.maximum(hz, 1e-3)) ** (2 * TELEPHONE_ORDER)
    above = (hz / high_hz) ** (2 * TELEPHONE_ORDER)
    response: Wave = (1.0 / np.sqrt((1.0 + below) * (1.0 + above))).astype(np.float32)
    return response


#: Where the gain of another microphone is drawn, Hz: an octave apart.
CHANNEL_HZ = (62.5, 125.0, 250.0, 500.0, 1_000.0, 2_000.0, 4_000.0, 8_000.0)


def channel(wave: Wave, sample_rate: int, deviation_db: float, rng: np.random.Generator) -> Wave:
    """Colour a recording as another microphone and room would, without delay.

    The gain at each octave is drawn from a normal distribution, is linear in decibels over the logarithm of the
    frequency between two, and leaves the power of the recording as it was.

    Args:
        wave: ``(time,)``.
        sample_rate: Hz.
        deviation_db: standard deviation of the gains.
        rng: source of all randomness.

    Returns:
        ``(time,)`` float32.
    """
    fast = 1 << (wave.size - 1).bit_length()
    hz = np.maximum(np.fft.rfftfreq(fast, 1.0 / sample_rate), 1.0)
    gain_db = np.interp(np.log2(hz), np.log2(CHANNEL_HZ), rng.normal(0.0, deviation_db, len(CHANNEL_HZ)))
    coloured = np.fft.irfft(np.fft.rfft(wave, fast) * 10.0 ** (gain_db / 20.0), fast)[: wave.size]
    power = float(np.square(coloured).sum())
    level = np.sqrt(float(np.square(wave, dtype=np.float64).sum()) / power) if power > 0.0 else 1.0
    return (coloured * level).astype(np.float32)


def telephone(wave: Wave, sample_rate: int) -> Wave:
    """Pass the telephone band alone, without delay.

    Args:
        wave: ``(time,)``.
        sample_rate: Hz.

    Returns:
        ``(time,)`` float32.
    """
    fast = 1 << (wave.size - 1).bit_length()
    spectrum = np.fft.rfft(wave, fast) * _telephone_response(fast, sample_rate)
    return np.fft.irfft(spectrum, fast)[: wave.size].astype(np.float32)
