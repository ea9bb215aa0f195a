"""Channels that cut the spectrum."""

from __future__ import annotations

import functools

import numpy as np

from stream_ser.train.waves import Wave

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
