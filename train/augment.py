"""Augmentation of training clips. It is applied after the split, to the training part alone.

Everything draws from the generator that is passed in, so a seed reproduces a run.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Wave = NDArray[np.float32]


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to a training clip, and how often. A probability of 0 switches a step off.

    Attributes:
        speeds: speed factors to draw from (tempo and pitch together, as by resampling).
        cut_p: probability that the window ends before the clip does, as it does while somebody is still speaking.
        trail_s: longest silence after the clip, seconds.
        gain_db: gain is drawn from [-gain_db, gain_db].
        noise_p: probability of additive coloured noise.
        noise_snr_db: range of the signal-to-noise ratio.
        reverb_p: probability of a synthetic room.
        reverb_rt60_s: range of the reverberation time.
        time_masks: SpecAugment masks over time, each of at most ``time_mask_frames``.
        time_mask_frames: longest time mask.
        mel_masks: SpecAugment masks over mel bands, each of at most ``mel_mask_bands``.
        mel_mask_bands: widest band mask.
        mixup_alpha: Beta(alpha, alpha) of mix-up; 0 is off, for it slowed the bundled network's learning (LOG.md).
    """

    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    cut_p: float = 0.2
    trail_s: float = 0.5
    gain_db: float = 6.0
    noise_p: float = 0.25
    noise_snr_db: tuple[float, float] = (5.0, 30.0)
    reverb_p: float = 0.15
    reverb_rt60_s: tuple[float, float] = (0.1, 0.5)
    time_masks: int = 2
    time_mask_frames: int = 30
    mel_masks: int = 2
    mel_mask_bands: int = 8
    mixup_alpha: float = 0.0

    def __post_init__(self) -> None:
        for name in ("cut_p", "noise_p", "reverb_p"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1]")
        for name in (
            "trail_s",
            "gain_db",
            "time_masks",
            "time_mask_frames",
            "mel_masks",
            "mel_mask_bands",
            "mixup_alpha",
        ):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative")
        if not self.speeds or not all(0.25 <= speed <= 4.0 for speed in self.speeds):
            raise ValueError("speeds must hold one or more factors in [0.25, 4]")
        for name in ("noise_snr_db", "reverb_rt60_s"):
            low_high = getattr(self, name)
            if len(low_high) != 2 or not low_high[0] <= low_high[1]:
                raise ValueError(f"{name} must be a lower and an upper bound")
        if self.reverb_rt60_s[0] <= 0.0:
            raise ValueError("reverb_rt60_s must be positive")


def coloured_noise(size: int, exponent: float, rng: np.random.Generator) -> Wave:
    """Gaussian noise ``(size,)`` with unit RMS and power spectrum ``1 / f**exponent`` (0 white, 1 pink, 2 brown)."""
    spectrum = np.fft.rfft(rng.standard_normal(size, dtype=np.float32))
    shape = np.ones(spectrum.size, dtype=np.float32)
    shape[1:] = np.arange(1, spectrum.size, dtype=np.float32) ** np.float32(-exponent / 2.0)
    shape[0] = 0.0
    noise = np.fft.irfft(spectrum * shape, size)
    return (noise / max(float(np.sqrt(np.mean(np.square(noise)))), 1e-12)).astype(np.float32)


@functools.lru_cache(maxsize=1)
def noise_bank(seconds: int = 64, sample_rate: int = 16_000) -> Wave:
    """Coloured noises with exponents from 0 to 2, ``(9, time)``, unit RMS, always the same ones.

    Slices of it cost a fiftieth of noise that is shaped anew for each clip.
    """
    rng = np.random.default_rng(0)
    return np.stack([coloured_noise(seconds * sample_rate, e, rng) for e in np.linspace(0.0, 2.0, 9)])


def add_noise(wave: Wave, snr_db: float, rng: np.random.Generator) -> Wave:
    """Add a slice of coloured noise at a signal-to-noise ratio; a silent wave stays silent."""
    rms = float(np.sqrt(np.mean(np.square(wave))))
    if rms == 0.0:
        return wave
    bank = noise_bank()
    start = int(rng.integers(bank.shape[1] - wave.size))
    noise = bank[int(rng.integers(len(bank))), start : start + wave.size]
    level = max(float(np.sqrt(np.mean(np.square(noise)))), 1e-12)
    scaled: Wave = noise * np.float32(rms / level * 10.0 ** (-snr_db / 20.0))
    return wave + scaled


def add_reverb(wave: Wave, rt60_s: float, sample_rate: int, rng: np.random.Generator) -> Wave:
    """Convolve with a synthetic room: the direct sound and noise that decays by 60 dB in ``rt60_s`` (Polack 1988).

    The length and the RMS level stay as they were.
    """
    time_s = np.arange(max(1, int(rt60_s * sample_rate)), dtype=np.float32) / sample_rate
    room = rng.standard_normal(time_s.size, dtype=np.float32) * np.exp(-6.908 * time_s / rt60_s)
    room *= np.float32(rng.uniform(0.05, 0.3) / max(float(np.sqrt(np.square(room).sum())), 1e-12) * 3.0)
    room[0] = 1.0
    size = wave.size + room.size - 1
    fast = 1 << (size - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(wave, fast) * np.fft.rfft(room, fast), fast)[: wave.size]
    before, after = float(np.square(wave).sum()), float(np.square(wet).sum())
    return (wet * np.sqrt(before / after)).astype(np.float32) if after > 0.0 else wave


def place(wave: Wave, size: int, end: int) -> Wave:
    """The window of ``size`` samples that ends at sample ``end`` of ``wave``; zeros outside the clip."""
    window = np.zeros(size, dtype=np.float32)
    first, last = max(0, end - size), min(wave.size, end)
    if last > first:
        offset = first - (end - size)
        window[offset : offset + last - first] = wave[first:last]
    return window


def draw_end(length: int, size: int, config: AugmentConfig, sample_rate: int, rng: np.random.Generator) -> int:
    """Where the training window ends: anywhere for a long clip, early for an interrupted one, else at its end."""
    trail = int(rng.uniform(0.0, config.trail_s) * sample_rate)
    if length > size:
        return int(rng.integers(size, length + trail + 1))
    if rng.random() < config.cut_p:
        return int(rng.integers(min(length, sample_rate), length + 1))
    return length + trail


def augment_wave(wave: Wave, size: int, config: AugmentConfig, sample_rate: int, rng: np.random.Generator) -> Wave:
    """One training window from a clip: place, gain, room, noise.

    Args:
        wave: ``(time,)`` float32.
        size: samples of the window.
        config: what to do.
        sample_rate: Hz.
        rng: source of all randomness.

    Returns:
        ``(size,)`` float32.
    """
    window = place(wave, size, draw_end(wave.size, size, config, sample_rate, rng))
    if rng.random() < config.reverb_p:
        window = add_reverb(window, float(rng.uniform(*config.reverb_rt60_s)), sample_rate, rng)
    if rng.random() < config.noise_p:
        window = add_noise(window, float(rng.uniform(*config.noise_snr_db)), rng)
    window *= np.float32(10.0 ** (rng.uniform(-config.gain_db, config.gain_db) / 20.0))
    return window


def spec_augment(features: torch.Tensor, config: AugmentConfig, rng: np.random.Generator) -> torch.Tensor:
    """Mask stretches of time and of mel bands with zero, the mean after normalisation (Park et al. 2019).

    Args:
        features: normalised ``(batch, mel, time)``; changed in place.
        config: number and size of the masks.
        rng: source of all randomness.
    """
    batch, n_mels, n_frames = features.shape
    for row in range(batch):
        for _ in range(config.time_masks):
            width = int(rng.integers(0, config.time_mask_frames + 1))
            start = int(rng.integers(0, max(1, n_frames - width + 1)))
            features[row, :, start : start + width] = 0.0
        for _ in range(config.mel_masks):
            width = int(rng.integers(0, config.mel_mask_bands + 1))
            start = int(rng.integers(0, max(1, n_mels - width + 1)))
            features[row, start : start + width, :] = 0.0
    return features


def mixup(
    features: torch.Tensor, targets: torch.Tensor, alpha: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Convex combinations of pairs of examples and of their targets (Zhang et al. 2018).

    Args:
        features: ``(batch, mel, time)``.
        targets: ``(batch, classes)`` probabilities.
        alpha: of the Beta distribution; 0 returns the inputs.
        rng: source of all randomness.
    """
    if alpha <= 0.0:
        return features, targets
    partner = torch.from_numpy(rng.permutation(len(features))).to(features.device)
    share = torch.from_numpy(rng.beta(alpha, alpha, size=len(features)).astype(np.float32)).to(features.device)
    mixed = features * share[:, None, None] + features[partner] * (1.0 - share)[:, None, None]
    return mixed, targets * share[:, None] + targets[partner] * (1.0 - share)[:, None]
