"""Log-mel features: one definition, used offline, while streaming and (through torch) in training.

Frame ``i`` is computed from samples ``[i * hop_length, i * hop_length + n_fft)`` alone: no centring, no padding, no
statistic of the whole clip. The same frame therefore has the same bits however the audio was cut into blocks.

Definition (Davis & Mermelstein 1980, with the HTK mel scale of Young et al., The HTK Book):
``log(sum_k filterbank[m, k] * |rfft(hann * frame)[k]|**2 + log_floor)``; the periodic Hann window is not
normalised, the triangular filters peak at 1. It equals torchaudio's ``MelSpectrogram(center=False, norm=None,
mel_scale="htk")`` followed by ``log(x + log_floor)``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stream_ser.config import FeatureConfig

#: Frames that are transformed at once: their buffers, one set a stream, stay in a core's second cache.
FRAMES_AT_ONCE = 32


def hz_to_mel(hz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """HTK mel scale: ``2595 * log10(1 + hz / 700)``."""
    return 2595.0 * np.log10(1.0 + np.asarray(hz, dtype=np.float64) / 700.0)


def mel_to_hz(mel: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Inverse of :func:`hz_to_mel`."""
    return 700.0 * (10.0 ** (np.asarray(mel, dtype=np.float64) / 2595.0) - 1.0)


def mel_filterbank(config: FeatureConfig) -> NDArray[np.float32]:
    """Triangular filters, evenly spaced in mel, with peak 1.

    Returns:
        ``(n_fft // 2 + 1, n_mels)``, float32.

    Raises:
        ValueError: a band is so narrow that no FFT bin falls into it.
    """
    bins_hz = np.linspace(0.0, config.sample_rate / 2, config.n_fft // 2 + 1)
    edges_hz = mel_to_hz(np.linspace(hz_to_mel(config.f_min), hz_to_mel(config.f_max), config.n_mels + 2))
    lower, centre, upper = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising = (bins_hz[:, None] - lower) / (centre - lower)
    falling = (upper - bins_hz[:, None]) / (upper - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling))
    empty = np.flatnonzero(filters.sum(axis=0) == 0.0)
    if empty.size:
        raise ValueError(
            f"mel band {empty[0]} of {config.n_mels} holds no bin of a {config.n_fft}-point FFT: "
            "use fewer bands or a longer FFT"
        )
    return filters.astype(np.float32)


def hann_window(size: int) -> NDArray[np.float32]:
    """Periodic Hann window, ``(size,)``, float32."""
    return (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)).astype(np.float32)


@lru_cache(maxsize=8)
def _tables(config: FeatureConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What all streams share: a window for each of the frames at once, times ``n_fft``, and the filters."""
    # One row a frame, as numpy broadcasts a single row through a buffer that it allocates.
    window = np.tile(config.n_fft * hann_window(config.n_fft), (FRAMES_AT_ONCE, 1))
    filters = mel_filterbank(config)
    window.flags.writeable = filters.flags.writeable = False
    return window, filters


class LogMel:
    """From frames of samples to log-mel columns, in buffers that are allocated once.

    It remembers nothing from one call to the next: framing is the framer's work. One instance serves one thread.

    Example:
        >>> import numpy as np
        >>> LogMel(FeatureConfig())(np.zeros((2, 512), np.float32)).shape
        (2, 64)
    """

    def __init__(self, config: FeatureConfig) -> None:
        self.config = config
        self._window, self._filters = _tables(config)
        self._floor = np.float32(config.log_floor)
        bins = config.n_fft // 2 + 1
        self._frames = np.empty((FRAMES_AT_ONCE, config.n_fft), dtype=np.float32)
        self._spectrum = np.empty((FRAMES_AT_ONCE, bins), dtype=np.complex64)
        self._power = np.empty((FRAMES_AT_ONCE, 1, bins), dtype=np.float32)
        self._mel = np.empty((FRAMES_AT_ONCE, 1, config.n_mels), dtype=np.float32)

    @property
    def silence(self) -> float:
        """The value of every band for digital silence."""
        return float(np.log(self._floor))

    def __call__(self, frames: NDArray[np.float32], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Transform frames.

        Args:
            frames: ``(frames, n_fft)`` float32.
            out: where the result goes, ``(frames, n_mels)`` float32; nothing is allocated then.

        Returns:
            ``(frames, n_mels)`` float32. Row ``i`` depends on ``frames[i]`` alone, to the last bit.
        """
        if out is None:
            out = np.empty((len(frames), self.config.n_mels), dtype=np.float32)
        for first in range(0, len(frames), FRAMES_AT_ONCE):
            self._transform(frames[first : first + FRAMES_AT_ONCE], out[first : first + FRAMES_AT_ONCE])
        return out

    def _transform(self, frames: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        count = len(frames)
        spectrum, power, mel = self._spectrum[:count], self._power[:count], self._mel[:count]
        windowed = np.multiply(frames, self._window[:count], out=self._frames[:count])
        # With its default norm numpy transforms float32 as float64, in buffers that it allocates. This one divides by
        # n_fft, which the window has made up for.
        np.fft.rfft(windowed, axis=-1, norm="forward", out=spectrum)  # type: ignore[arg-type]
        np.square(spectrum.real, out=power[:, 0])
        # The frames are not needed any more: their place takes the other squares.
        power[:, 0] += np.square(spectrum.imag, out=windowed[:, : spectrum.shape[1]])
        # A stack of one-row products: BLAS gets the same shape for every frame, however many there are. One
        # (frames, bins) @ (bins, mel) product rounds differently for different numbers of frames.
        np.matmul(power, self._filters, out=mel)
        mel += self._floor
        np.log(mel[:, 0], out=out)


def log_mel(samples: NDArray[np.float32], config: FeatureConfig | None = None) -> NDArray[np.float32]:
    """Log-mel spectrogram of a whole clip.

    Args:
        samples: ``(time,)`` float32 at ``config.sample_rate``, full scale at 1.0.
        config: the definition; the default is :class:`FeatureConfig`.

    Returns:
        ``(n_mels, frames)`` float32, with ``frames = (time - n_fft) // hop_length + 1``, or 0 for less than
        ``n_fft`` samples.

    Raises:
        ValueError: ``samples`` is not one-dimensional.
    """
    config = config or FeatureConfig()
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim != 1:
        raise ValueError(f"samples has shape {samples.shape}, expected (time,)")
    if samples.size < config.n_fft:
        return np.empty((config.n_mels, 0), dtype=np.float32)
    frames = sliding_window_view(samples, config.n_fft)[:: config.hop_length]
    columns: NDArray[np.float32] = LogMel(config)(frames).T
    return columns
