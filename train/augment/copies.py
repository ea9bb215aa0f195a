"""Copies of whole clips that are made once, before training: speeds, pitch, tempo, noise.

A phase vocoder costs some milliseconds a clip; drawn anew for each window it would take the cores from the training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torchaudio import functional as audio

from stream_ser.errors import DataError
from stream_ser.train.data.pcm16 import Wave, Waves, to_float32, to_int16

from .config import EXPANSIONS, AugmentConfig
from .noise import add_noise
from .sounds import Sounds

#: Of the phase vocoder, samples: 64 ms at 16 kHz.
_N_FFT = 1_024
_HOP = _N_FFT // 4


def with_speeds(waves: Waves, speeds: Sequence[float]) -> list[Waves]:
    """One copy of the waves a speed factor (Ko et al. 2015): resampled, so tempo and pitch move together."""
    copies: list[Waves] = []
    for speed in speeds:
        if speed <= 0.0:
            raise DataError(f"speed factor {speed} must be positive")
        if speed == 1.0:
            copies.append(waves)
            continue
        with ThreadPoolExecutor() as pool:
            copies.append(list(pool.map(lambda w, s=speed: soxr.resample(w, s * 1000.0, 1000.0, quality="HQ"), waves)))
    return copies


def stretched(wave: Wave, rate: float) -> Wave:
    """Change the tempo and keep the pitch, by a phase vocoder (Flanagan & Golden 1966; Laroche & Dolson 1999).

    Args:
        wave: ``(time,)``.
        rate: 2 is twice as fast.

    Returns:
        ``(round(time / rate),)`` float32.
    """
    window = torch.hann_window(_N_FFT)
    samples = torch.from_numpy(np.ascontiguousarray(wave))
    spectrum = torch.stft(samples, _N_FFT, _HOP, window=window, pad_mode="constant", return_complex=True)
    advance = torch.linspace(0.0, math.pi * _HOP, spectrum.shape[0])[:, None]
    spectrum = audio.phase_vocoder(spectrum, rate, advance)
    out: Wave = torch.istft(spectrum, _N_FFT, _HOP, window=window, length=max(1, round(wave.size / rate))).numpy()
    return out


def pitch_shifted(wave: Wave, semitones: float) -> Wave:
    """Change the pitch (and the formants) and keep the tempo: stretched, then resampled to the old length.

    Args:
        wave: ``(time,)``.
        semitones: 12 is an octave up.

    Returns:
        ``(time,)`` float32.
    """
    ratio = 2.0 ** (semitones / 12.0)
    moved = soxr.resample(stretched(wave, 1.0 / ratio), ratio * 1000.0, 1000.0, quality="HQ")[: wave.size]
    return np.pad(moved, (0, wave.size - moved.size)).astype(np.float32, copy=False)


def expanded(
    waves: Waves, kind: str, config: AugmentConfig, sample_rate: int, seed: int, sounds: Sounds | None = None
) -> Waves:
    """A copy of the whole set, each clip with a draw of its own that hangs on the seed, the kind and its place alone.

    Args:
        waves: the training part.
        kind: ``noise``, ``pitch`` or ``stretch``; ``original`` returns the waves themselves.
        config: ranges to draw from.
        sample_rate: Hz.
        seed: of the draws.
        sounds: recordings of noise.

    Raises:
        DataError: an unknown kind.
    """
    change: Callable[[Wave, np.random.Generator], Wave]
    if kind == "original":
        return waves
    if kind == "noise":

        def change(wave: Wave, rng: np.random.Generator) -> Wave:
            snr_db = float(rng.uniform(*config.noise_snr_db))
            recorded = sounds is not None and sounds.noises is not None and rng.random() < config.noise_recorded
            return add_noise(wave, snr_db, rng, sounds.noises if recorded and sounds is not None else None)

    elif kind == "pitch":

        def change(wave: Wave, rng: np.random.Generator) -> Wave:
            return pitch_shifted(wave, float(rng.uniform(*config.pitch_semitones)))

    elif kind == "stretch":

        def change(wave: Wave, rng: np.random.Generator) -> Wave:
            return stretched(wave, float(rng.uniform(*config.stretch_rates)))

    else:
        raise DataError(f"expansion {kind!r} is not one of {', '.join(EXPANSIONS)}")

    def make(index: int) -> NDArray[np.int16]:
        rng = np.random.default_rng((seed, EXPANSIONS.index(kind), index))
        copy: NDArray[np.int16] = to_int16(change(to_float32(waves[index]), rng))
        return copy

    with ThreadPoolExecutor() as pool:
        return list(pool.map(make, range(len(waves))))
