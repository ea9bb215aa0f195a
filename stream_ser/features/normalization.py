"""Normalisation of one window of log-mel, as a model's card asks for it.

``corpus``: each band minus the training part's mean, over its standard deviation. ``sample``: the window minus its own
mean, over its own standard deviation. ``level``: the window is first brought to a common level, then as ``corpus``;
predictions then do not hang on a microphone's gain. All three see the window alone, so streaming needs no memory.

The level of a window of mel powers ``P`` is that of its loudest quarter of a second (25 frames of 10 ms):
``L = max_t mean(sum_m P[m, t .. t + 24])``, and its log-mel becomes ``log(g * P + log_floor)`` with
``g = min(LEVEL_TARGET / L, LEVEL_MAX_GAIN)``. ``stream_ser.train.data.normalization`` has the same for batches in
torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import FeatureConfig

#: Frames over which a window's level is averaged.
LEVEL_FRAMES = 25
#: Mel power, summed over bands, that a window is brought to: the median of CREMA-D's training clips is 102 with the
#: default log-mel, so half of such speech is amplified and half attenuated.
LEVEL_TARGET = 100.0
#: Largest gain of the power (40 dB): the noise of an empty room is not blown up to speech.
LEVEL_MAX_GAIN = 1e4
#: Least standard deviation that a window is divided by, in nepers of power: white noise alone has about 1.
SAMPLE_STD_MIN = 0.1


class Normalizer:
    """From raw log-mel windows to the network's input, in buffers that are allocated once.

    Args:
        features: the log-mel; its ``normalization`` decides.
        mean: per band, ``(n_mels,)``.
        std: per band, ``(n_mels,)``, positive.
        frames: length of the windows.

    Example:
        >>> features = FeatureConfig(n_mels=2, normalization="sample")
        >>> out = np.empty((2, 3), np.float32)
        >>> Normalizer(features, (0, 0), (1, 1), 3)(np.eye(3, 2, dtype=np.float32), out)
        >>> out.astype(float).round(2).tolist()
        [[1.41, -0.71, -0.71], [-0.71, 1.41, -0.71]]
    """

    def __init__(self, features: FeatureConfig, mean: Sequence[float], std: Sequence[float], frames: int) -> None:
        self._kind = features.normalization
        self._floor = np.float32(features.log_floor)
        # As wide as a window, as numpy broadcasts a single column through buffers that it allocates.
        self._mean = np.repeat(np.asarray(mean, dtype=np.float32)[:, None], frames, axis=1)
        self._scale = np.repeat(np.float32(1.0) / np.asarray(std, dtype=np.float32)[:, None], frames, axis=1)
        self._power = np.empty((frames, features.n_mels), dtype=np.float32)
        self._level_frames = min(LEVEL_FRAMES, frames)
        self._energy = np.zeros(frames + 1)
        self._summed = np.empty(frames, dtype=np.float32)
        self._spans = np.empty(frames + 1 - self._level_frames)

    def __call__(self, window: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Normalise one window.

        Args:
            window: raw log-mel ``(frames, n_mels)``.
            out: the result ``(n_mels, frames)``, overwritten.
        """
        if self._kind == "level":
            window = self._levelled(window)
        if self._kind == "sample":
            np.copyto(out, window.T)
            out -= out.mean()
            deviation = float(np.sqrt(np.square(out, out=self._power.reshape(out.shape)).mean()))
            out /= np.float32(max(deviation, SAMPLE_STD_MIN))
        else:
            np.copyto(out, window.T)
        np.subtract(out, self._mean, out=out)
        np.multiply(out, self._scale, out=out)

    def _levelled(self, window: NDArray[np.float32]) -> NDArray[np.float32]:
        """The window at the common level, in a buffer that the next call overwrites."""
        power, energy, frames = self._power, self._energy, self._level_frames
        np.exp(window, out=power)
        power -= self._floor
        np.maximum(power, np.float32(0.0), out=power)
        np.cumsum(np.sum(power, axis=1, out=self._summed), out=energy[1:])
        level = float(np.subtract(energy[frames:], energy[:-frames], out=self._spans).max()) / frames
        power *= np.float32(LEVEL_TARGET / max(level, LEVEL_TARGET / LEVEL_MAX_GAIN))
        power += self._floor
        return np.log(power, out=power)
