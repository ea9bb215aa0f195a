"""How far two sinusoids can be separated at all: frequencies, amplitudes and phases fitted to the mixture alone.

The classical way: pick a peak of the spectrum, refine its frequency, fit it by least squares, take it off, pick the
next; then refine both together by Gauss-Newton steps (Stoica & Moses 2005, ch. 4: nonlinear least squares, which
is the maximum-likelihood estimate in white noise). It knows neither the boundary nor the sources.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: Spectral bins to each that an unpadded transform has.
_PADDING = 4
_STEPS = 20


def _columns(hz: Floats, time_s: Floats) -> Floats:
    """Cosine and sine of each frequency, ``(time, 2 * frequencies)``: cosines first."""
    angle = 2.0 * np.pi * time_s[:, None] * hz
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


def _fit(wave: Floats, hz: Floats, time_s: Floats) -> Floats:
    """Least-squares weights of :func:`_columns`."""
    return np.asarray(np.linalg.lstsq(_columns(hz, time_s), wave, rcond=None)[0], np.float64)


def _peak(wave: Floats, sample_rate: int) -> float:
    """Frequency of the highest peak of a Hann-windowed spectrum, by a parabola through its logarithm, Hz."""
    size = 2 ** (_PADDING * wave.size - 1).bit_length()
    power = np.square(np.abs(np.fft.rfft(wave * np.hanning(wave.size), size)))
    index = int(power[1:-1].argmax()) + 1
    left, top, right = np.log(power[index - 1 : index + 2] + 1e-300)
    bend = left - 2.0 * top + right
    shift = 0.5 * (left - right) / bend if bend < 0.0 else 0.0
    return float((index + shift) * sample_rate / size)


def _refine(wave: Floats, hz: Floats, time_s: Floats, nyquist_hz: float) -> Floats:
    """Gauss-Newton over frequencies, with amplitudes and phases solved for again at each step."""

    def error(candidate: Floats) -> float:
        return float(np.square(wave - _columns(candidate, time_s) @ _fit(wave, candidate, time_s)).sum())

    count, best = hz.size, error(hz)
    for _ in range(_STEPS):
        columns = _columns(hz, time_s)
        weights = _fit(wave, hz, time_s)
        cosines, sines = columns[:, :count], columns[:, count:]
        slope = 2.0 * np.pi * time_s[:, None] * (weights[count:] * cosines - weights[:count] * sines)
        step = np.linalg.lstsq(np.concatenate([columns, slope], axis=1), wave - columns @ weights, rcond=None)[0]
        change = step[2 * count :]
        while True:
            moved = np.clip(hz + change, 0.0, nyquist_hz)
            found = error(moved)
            if found < best or np.abs(change).max() < 1e-9:
                break
            change = change / 2.0
        if found >= best:
            break
        hz, best = moved, found
    return hz


def separate(mixture: NDArray[np.float32], sample_rate: int, count: int = 2) -> tuple[NDArray[np.float32], Floats]:
    """The sinusoids of one mixture, lowest first.

    Args:
        mixture: ``(time,)``.
        sample_rate: Hz.
        count: how many sinusoids it is made of.

    Returns:
        sources ``(count, time)`` and their frequencies ``(count,)``, Hz.
    """
    wave = mixture.astype(np.float64)
    time_s = np.arange(wave.size) / sample_rate
    hz = np.empty(0)
    rest = wave
    for _ in range(count):
        hz = _refine(wave, np.append(hz, _peak(rest, sample_rate)), time_s, sample_rate / 2)
        rest = wave - _columns(hz, time_s) @ _fit(wave, hz, time_s)
    hz = np.sort(hz)
    weights = _fit(wave, hz, time_s)
    columns = _columns(hz, time_s)
    sources = [columns[:, [i, count + i]] @ weights[[i, count + i]] for i in range(count)]
    return np.stack(sources).astype(np.float32), hz
