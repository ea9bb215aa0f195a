"""Clips in memory, and batches of windows made from them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from stream_ser.audio import read_blocks
from stream_ser.config import FeatureConfig, WindowConfig
from stream_ser.errors import DataError
from stream_ser.features import hann_window, log_mel, mel_filterbank
from stream_ser.framer import fullest_window_ends

from .augment import AugmentConfig, augment_wave
from .corpora import Clip
from .normalize import levelled

Waves = list[NDArray[np.int16]]


def to_int16(wave: NDArray[np.float32]) -> NDArray[np.int16]:
    """Half the memory of float32; the corpora are 16-bit to begin with."""
    return np.clip(np.round(wave * 32768.0), -32768, 32767).astype(np.int16)


def to_float32(wave: NDArray[np.int16]) -> NDArray[np.float32]:
    """Inverse of :func:`to_int16`."""
    out = wave.astype(np.float32)
    out /= np.float32(32768.0)
    return out


def read_waves(clips: Sequence[Clip], config: FeatureConfig, advance: Callable[[], object] | None = None) -> Waves:
    """Decode clips to 16 kHz mono, in threads.

    Args:
        clips: what to read.
        config: gives the sample rate and the shortest usable length.
        advance: called once a clip, for a progress display.

    Raises:
        DataError: a clip shorter than one frame.
        AudioError: a clip that cannot be decoded.
    """

    def read(clip: Clip) -> NDArray[np.int16]:
        blocks = list(read_blocks(clip.path, config.sample_rate))
        wave = to_int16(np.concatenate(blocks)) if blocks else np.empty(0, np.int16)
        if wave.size < config.n_fft:
            raise DataError(f"{clip.path}: {wave.size} samples, shorter than one frame of {config.n_fft}; remove it")
        if advance is not None:
            advance()
        return wave

    with ThreadPoolExecutor() as pool:
        return list(pool.map(read, clips))


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


class TorchLogMel(torch.nn.Module):
    """The log-mel of :mod:`stream_ser.features` for batches of training windows; a test holds the two together."""

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.window: torch.Tensor
        self.filters: torch.Tensor
        self.register_buffer("window", torch.from_numpy(hann_window(config.n_fft)))
        self.register_buffer("filters", torch.from_numpy(mel_filterbank(config)))

    def forward(self, waves: torch.Tensor) -> torch.Tensor:
        """``(batch, time)`` to ``(batch, mel, frames)``."""
        frames = waves.unfold(-1, self.config.n_fft, self.config.hop_length) * self.window
        power = torch.fft.rfft(frames).abs().square()
        return torch.log(power @ self.filters + self.config.log_floor).transpose(-1, -2)


def band_statistics(waves: Waves, config: FeatureConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each mel band over all frames of the training part, as ``config`` normalises.

    Returns:
        two arrays ``(n_mels,)``; 0 and 1 where each window is its own measure (``sample``).
    """
    if config.normalization == "sample":
        return np.zeros(config.n_mels, np.float32), np.ones(config.n_mels, np.float32)
    total = np.zeros(config.n_mels)
    squares = np.zeros(config.n_mels)
    count = 0
    for wave in waves:
        columns = log_mel(to_float32(wave), config)
        if config.normalization == "level":
            columns = levelled(torch.from_numpy(columns), config.log_floor).numpy()
        features = columns.astype(np.float64)
        total += features.sum(axis=1)
        squares += np.square(features).sum(axis=1)
        count += features.shape[1]
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - np.square(mean), 1e-6))
    return mean.astype(np.float32), std.astype(np.float32)


def evaluation_windows(
    waves: Waves, features: FeatureConfig, window: WindowConfig
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The windows by which the runtime judges each clip: its fullest ones.

    Returns:
        un-normalised windows ``(windows, mel, time)`` and the clip that each belongs to ``(windows,)``.
    """
    silence = np.float32(np.log(np.float32(features.log_floor)))
    windows, owners = [], []
    for clip, wave in enumerate(waves):
        columns = log_mel(to_float32(wave), features)
        for end in fullest_window_ends(columns.shape[1], window):
            out = np.full((features.n_mels, window.frames), silence, dtype=np.float32)
            first = max(0, end - window.frames)
            out[:, window.frames - (end - first) :] = columns[:, first:end]
            windows.append(out)
            owners.append(clip)
    return np.stack(windows), np.asarray(owners, dtype=np.int64)


class TrainingWindows:
    """Augmented training batches, one epoch at a time. The epoch's seed fixes every draw.

    Attributes:
        batches: batches an epoch; the last, smaller one is dropped, for batch norm's sake.
    """

    def __init__(
        self,
        waves: Waves,
        targets: NDArray[np.int64],
        features: FeatureConfig,
        window: WindowConfig,
        augment: AugmentConfig,
        batch_size: int,
    ) -> None:
        if len(waves) < batch_size:
            raise DataError(f"{len(waves)} training clips do not fill one batch of {batch_size}")
        self._copies = with_speeds(waves, augment.speeds)
        self._targets = targets
        self._features = features
        self._size = features.samples_for(window.frames)
        self._augment = augment
        self._batch_size = batch_size
        self.batches = len(waves) // batch_size

    def epoch(self, seed: tuple[int, ...]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Waves ``(batch, time)`` and class indices ``(batch,)``, prepared one batch ahead in a thread."""
        ready: queue.Queue[tuple[torch.Tensor, torch.Tensor] | BaseException | None] = queue.Queue(maxsize=2)
        stop = threading.Event()

        def produce() -> None:
            try:
                for batch in self._batches(seed):
                    while not stop.is_set():
                        try:
                            ready.put(batch, timeout=0.1)
                            break
                        except queue.Full:
                            continue
                    if stop.is_set():
                        return
                ready.put(None)
            except BaseException as error:  # noqa: BLE001 - handed to the consumer, which raises it
                ready.put(error)

        threading.Thread(target=produce, name="training-windows", daemon=True).start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()

    def _batches(self, seed: tuple[int, ...]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(self._targets))
        for index in range(self.batches):
            chosen = order[index * self._batch_size : (index + 1) * self._batch_size]
            waves = np.empty((len(chosen), self._size), dtype=np.float32)
            for row, clip in enumerate(chosen):
                copy = self._copies[int(rng.integers(len(self._copies)))]
                waves[row] = augment_wave(
                    to_float32(copy[clip]), self._size, self._augment, self._features.sample_rate, rng
                )
            yield torch.from_numpy(waves), torch.from_numpy(self._targets[chosen])
