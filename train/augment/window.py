"""One training window from one clip."""

from __future__ import annotations

import numpy as np

from stream_ser.train.data.pcm16 import Wave

from .config import AugmentConfig
from .filters import channel, telephone
from .noise import add_noise
from .rooms import add_reverb, convolved
from .sounds import Sounds

NO_SOUNDS = Sounds()


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


def augment_wave(
    wave: Wave,
    size: int,
    config: AugmentConfig,
    sample_rate: int,
    rng: np.random.Generator,
    sounds: Sounds = NO_SOUNDS,
) -> Wave:
    """One training window from a clip: place, room, noise, microphone, telephone, gain.

    Args:
        wave: ``(time,)`` float32.
        size: samples of the window.
        config: what to do.
        sample_rate: Hz.
        rng: source of all randomness.
        sounds: recordings of noise and rooms; without them both are synthetic.

    Returns:
        ``(size,)`` float32.
    """
    window = place(wave, size, draw_end(wave.size, size, config, sample_rate, rng))
    if rng.random() < config.reverb_p:
        if sounds.rooms:
            window = convolved(window, sounds.rooms[int(rng.integers(len(sounds.rooms)))])
        else:
            window = add_reverb(window, float(rng.uniform(*config.reverb_rt60_s)), sample_rate, rng)
    if rng.random() < config.noise_p:
        recorded = sounds.noises is not None and rng.random() < config.noise_recorded
        snr_db = float(rng.uniform(*config.noise_snr_db))
        window = add_noise(window, snr_db, rng, sounds.noises if recorded else None)
    # What is off draws nothing, so that an older recipe keeps its draws.
    if config.channel_p > 0.0 and rng.random() < config.channel_p:
        window = channel(window, sample_rate, config.channel_db, rng)
    if config.telephone_p > 0.0 and rng.random() < config.telephone_p:
        window = telephone(window, sample_rate)
    window *= np.float32(10.0 ** (rng.uniform(-config.gain_db, config.gain_db) / 20.0))
    return window
