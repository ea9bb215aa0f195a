"""Clips in memory, and batches of windows made from them."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from stream_ser.audio.decode import read_blocks
from stream_ser.config import FeatureConfig, WindowConfig
from stream_ser.errors import DataError
from stream_ser.features.framing import fullest_window_ends
from stream_ser.features.log_mel import hann_window, log_mel, mel_filterbank
from stream_ser.train.augment import AugmentConfig, Sounds, augment_wave, expanded, splice, with_speeds

from .corpora import Clip
from .normalization import levelled
from .pcm16 import Waves, to_float32, to_int16


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


class TorchLogMel(torch.nn.Module):
    """The log-mel of :mod:`stream_ser.features.log_mel` for batches; a test holds the two together."""

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


def _mates(groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """For each clip the other clips of its group."""
    members = {group: np.flatnonzero(groups == group) for group in np.unique(groups)}
    return [members[group][members[group] != clip] for clip, group in enumerate(groups)]


class TrainingWindows:
    """Augmented training batches, one epoch at a time. The epoch's seed fixes every draw.

    Args:
        waves: clips of the training part.
        targets: distributions over the classes ``(clips, classes)``, or class indices ``(clips,)``, which become
            one-hot up to the largest one.
        features: gives the sample rate and, with ``window``, the length of a window.
        window: length in frames.
        augment: what is done to the clips; its ``expand`` makes an epoch so many times as long.
        batch_size: windows a batch.
        weights: probability of each clip to be drawn ``(clips,)``, with replacement, for class balance; default: each
            clip once an epoch.
        seed: of the copies that are made here, once.
        groups: which clips may be spliced together, those with the same value, ``(clips,)``: same speaker and label.
        own: columns of the targets from which on they belong to a clip alone (what is said in it): set to zero for a
            window that is spliced.

    Attributes:
        batches: batches an epoch; the last, smaller one is dropped, for batch norm's sake.

    Raises:
        DataError: less than a batch of clips, or targets or weights that do not fit them.
    """

    def __init__(
        self,
        waves: Waves,
        targets: NDArray[np.float32] | NDArray[np.int64],
        features: FeatureConfig,
        window: WindowConfig,
        augment: AugmentConfig,
        batch_size: int,
        weights: NDArray[np.float64] | None = None,
        seed: int = 0,
        groups: NDArray[np.int64] | None = None,
        own: int | None = None,
    ) -> None:
        sets = len(augment.expand)
        if sets * len(waves) < batch_size:
            raise DataError(f"{sets * len(waves)} training clips do not fill one batch of {batch_size}")
        if len(targets) != len(waves) or targets.ndim not in (1, 2):
            raise DataError(f"targets of shape {targets.shape} for {len(waves)} clips, expected (clips, classes)")
        if weights is not None and not (weights.shape == (len(waves),) and (weights >= 0).all() and weights.sum() > 0):
            raise DataError(
                f"weights of shape {weights.shape} for {len(waves)} clips, expected one, not negative, each"
            )
        if targets.ndim == 1:
            targets = np.eye(int(targets.max()) + 1, dtype=np.float32)[targets.astype(np.int64)]
        self._targets = np.tile(targets.astype(np.float32), (sets, 1))
        self._weights = None if weights is None else np.tile(weights / (sets * weights.sum()), sets)
        if augment.splice_p > 0.0 and (groups is None or len(groups) != len(waves)):
            raise DataError("augment.splice_p needs to know which clips are of the same speaker and label")
        self._mates = _mates(groups) if augment.splice_p > 0.0 and groups is not None else []
        self._own = self._targets.shape[1] if own is None else own
        self._clips = len(waves)
        self._size = features.samples_for(window.frames)
        self._rate = features.sample_rate
        self._augment = augment
        self._sounds = Sounds.load(augment, self._rate, seed)

        def copy(kind: str, seed: int) -> Waves:
            made: Waves = expanded(waves, kind, augment, self._rate, seed, self._sounds)
            return made

        speeds = with_speeds(waves, augment.speeds) if "original" in augment.expand else []
        self._sets = [speeds if kind == "original" else [copy(kind, seed)] for kind in augment.expand]
        # Drawn as windows are cut, instead of a speed: seeds of their own, so that they are not the expansion again.
        self._pitched = copy("pitch", seed + 1) if augment.pitch_p > 0.0 else waves
        self._stretched = copy("stretch", seed + 1) if augment.stretch_p > 0.0 else waves
        self._batch_size = batch_size
        self.batches = sets * len(waves) // batch_size

    def epoch(self, seed: tuple[int, ...]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Waves ``(batch, time)`` and targets ``(batch, classes)``, prepared one batch ahead in a thread."""
        ready: queue.Queue[tuple[torch.Tensor, torch.Tensor] | BaseException | None] = queue.Queue(maxsize=2)
        stop = threading.Event()

        def put(item: tuple[torch.Tensor, torch.Tensor] | BaseException | None) -> None:
            """Wait for a place, unless nobody takes anything any more."""
            while not stop.is_set():
                with contextlib.suppress(queue.Full):
                    return ready.put(item, timeout=0.1)

        def produce() -> None:
            try:
                for batch in self._batches(seed):
                    put(batch)
                    if stop.is_set():
                        return
                put(None)
            except BaseException as error:  # noqa: BLE001 - handed to the consumer, which raises it
                put(error)

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
        if self._weights is None:
            order = rng.permutation(len(self._targets))
        else:
            order = rng.choice(len(self._targets), size=self.batches * self._batch_size, p=self._weights)
        for index in range(self.batches):
            chosen = order[index * self._batch_size : (index + 1) * self._batch_size]
            waves = np.empty((len(chosen), self._size), dtype=np.float32)
            targets = self._targets[chosen]
            for row, item in enumerate(chosen):
                wave = to_float32(self._draw(int(item), rng))
                # What is off draws nothing, so that an older recipe keeps its draws.
                if self._mates and rng.random() < self._augment.splice_p:
                    wave = self._spliced(wave, int(item), rng)
                    targets[row, self._own :] = 0.0
                waves[row] = augment_wave(wave, self._size, self._augment, self._rate, rng, self._sounds)
            yield torch.from_numpy(waves), torch.from_numpy(targets)

    def _spliced(self, wave: NDArray[np.float32], item: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Pieces of a clip and of up to three others of its group, at the same speed or whatever is drawn for them."""
        number, clip = divmod(item, self._clips)
        mates = self._mates[clip]
        others = rng.choice(mates, size=min(3, len(mates)), replace=False).tolist() if len(mates) else []
        parts = [to_float32(self._draw(number * self._clips + other, rng)) for other in others]
        joined: NDArray[np.float32] = splice([wave, *parts], self._augment, self._rate, rng)
        return joined

    def _draw(self, item: int, rng: np.random.Generator) -> NDArray[np.int16]:
        """A clip's copy, of those that its set has."""
        number, clip = divmod(item, self._clips)
        if self._augment.expand[number] == "original" and self._augment.pitch_p + self._augment.stretch_p > 0.0:
            draw = rng.random()
            if draw < self._augment.pitch_p:
                return self._pitched[clip]
            if draw < self._augment.pitch_p + self._augment.stretch_p:
                return self._stretched[clip]
        copies = self._sets[number]
        return copies[int(rng.integers(len(copies)))][clip]
