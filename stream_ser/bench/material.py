"""What is pushed in a benchmark: speech without a pause, the dearest input there is, and a quiet room."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_ser.audio.decode import read_blocks
from stream_ser.vad.detector import VoiceDetector
from stream_ser.vad.silero import available

_QUIET_DBFS = -55.0
_QUIET_S = 10


def speech(sample_rate: int) -> NDArray[np.float32]:
    """The bundled clip without its pauses, ``(time,)``: the network is asked at every hop.

    Where there is no voice activity detection the pauses stay: nothing tells them from speech, and the network is
    asked all the same.
    """
    clip = np.concatenate(list(read_blocks(Path(str(resources.files("stream_ser.assets") / "demo.flac")), sample_rate)))
    if not available():
        return clip
    detector = VoiceDetector(sample_rate)
    size = detector.chunk_samples
    chunks = clip[: clip.size // size * size].reshape(-1, size)
    voiced = np.array([voice.voiced for voice in detector.push(chunks.reshape(-1))])
    joined: NDArray[np.float32] = chunks[voiced].reshape(-1)
    return joined


def quiet(sample_rate: int) -> NDArray[np.float32]:
    """White noise at -55 dBFS, ``(time,)``: a microphone in a room where nobody speaks."""
    noise = np.random.default_rng(0).standard_normal(_QUIET_S * sample_rate)
    scaled: NDArray[np.float32] = (10.0 ** (_QUIET_DBFS / 20.0) * noise).astype(np.float32)
    return scaled
