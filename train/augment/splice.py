"""Clips made of pieces of others: the same voice and emotion, but no sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stream_ser.train.data.pcm16 import Wave

from .config import AugmentConfig

#: Length of the cross-fade between two pieces, seconds.
FADE_S = 0.02


def splice(waves: Sequence[Wave], config: AugmentConfig, sample_rate: int, rng: np.random.Generator) -> Wave:
    """Join pieces of several clips, each of a length drawn from ``splice_s``, until the first clip's length is reached.

    Pieces come from the clips in turn, from anywhere in them, and are cross-faded.

    Args:
        waves: ``(time,)`` float32 each; one alone is shuffled.
        config: gives the lengths.
        sample_rate: Hz.
        rng: source of all randomness.

    Returns:
        ``(time,)`` float32, as long as the first clip.
    """
    fade = round(FADE_S * sample_rate)
    ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
    out = np.zeros(waves[0].size, np.float32)
    at = 0
    while at < out.size:
        source = waves[int(rng.integers(len(waves)))]
        length = min(round(float(rng.uniform(*config.splice_s)) * sample_rate), source.size)
        # The louder of two: clips begin and end with silence.
        starts = rng.integers(source.size - length + 1, size=2)
        pieces = [source[first : first + length] for first in starts]
        piece = max(pieces, key=lambda x: float(np.square(x).sum())).astype(np.float32)
        if at and piece.size > fade:
            piece[:fade] *= ramp
        if piece.size > fade:
            piece[-fade:] *= ramp[::-1]
        end = min(at + piece.size, out.size)
        out[at:end] += piece[: end - at]
        at = max(at + 1, end - fade) if end < out.size else end
    return out
