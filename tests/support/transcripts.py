"""Audio that a tiny speller spells, and its lines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from streamed import RATE
from tiny_models import STREAMING_CARD

from stream_ser.events import Event, Transcript
from stream_ser.features.log_mel import mel_to_hz

FEATURES = STREAMING_CARD.features


def tones(text: str, each_s: float = 0.12) -> NDArray[np.float32]:
    """A tone a character, in the middle of the band that the speller of ``conftest`` reads as it; ``_`` is a pause."""
    edges_mel = np.linspace(*(2595.0 * np.log10(1.0 + np.array((FEATURES.f_min, FEATURES.f_max)) / 700.0)), 26)
    times = np.arange(round(each_s * RATE)) / RATE
    parts = []
    for character in text:
        if character == "_":
            parts.append(1e-4 * np.random.default_rng(len(parts)).standard_normal(times.size))
        else:
            hz = mel_to_hz(edges_mel[1 + STREAMING_CARD.vocabulary.index(character)])
            parts.append(0.3 * np.sin(2.0 * np.pi * hz * times))
    return np.concatenate(parts).astype(np.float32)


def lines(events: list[Event]) -> list[Transcript]:
    return [event for event in events if isinstance(event, Transcript)]


def texts(events: list[Event]) -> list[str]:
    return [line.text for line in lines(events) if line.final]
