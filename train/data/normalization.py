"""Normalisation of log-mel windows in torch: the one function for training, validation and the proof of an export.

The definition is that of :mod:`stream_ser.features.normalization`, which the runtime uses; a test holds the two
together.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from stream_ser.config import FeatureConfig
from stream_ser.features.normalization import LEVEL_FRAMES, LEVEL_MAX_GAIN, LEVEL_TARGET, SAMPLE_STD_MIN


def levelled(log_mel: torch.Tensor, log_floor: float) -> torch.Tensor:
    """Bring each window to the common level: ``(..., mel, time)`` raw log-mel to the same, float32."""
    power = (log_mel.exp() - log_floor).clamp_min(0.0)
    energy = power.sum(dim=-2).reshape(-1, 1, log_mel.shape[-1])
    level = F.avg_pool1d(energy, min(LEVEL_FRAMES, log_mel.shape[-1]), stride=1).amax(dim=-1)
    gain = LEVEL_TARGET / level.clamp_min(LEVEL_TARGET / LEVEL_MAX_GAIN)
    return torch.log(power * gain.reshape(*log_mel.shape[:-2], 1, 1) + log_floor)


def standardized(log_mel: torch.Tensor) -> torch.Tensor:
    """Each window minus its mean, over its (population) standard deviation: ``(..., mel, time)`` to the same."""
    centred = log_mel - log_mel.mean(dim=(-2, -1), keepdim=True)
    deviation = centred.square().mean(dim=(-2, -1), keepdim=True).sqrt()
    return centred / deviation.clamp_min(SAMPLE_STD_MIN)


def normalize(
    log_mel: torch.Tensor,
    features: FeatureConfig,
    mean: torch.Tensor | NDArray[np.float32],
    std: torch.Tensor | NDArray[np.float32],
) -> torch.Tensor:
    """Raw log-mel to a network's input.

    Args:
        log_mel: ``(..., mel, time)``.
        features: its ``normalization`` decides.
        mean: per band, ``(mel,)`` or ``(mel, 1)``.
        std: per band, as ``mean``.

    Returns:
        ``(..., mel, time)``.
    """
    mean = torch.as_tensor(mean, dtype=log_mel.dtype, device=log_mel.device).reshape(-1, 1)
    std = torch.as_tensor(std, dtype=log_mel.dtype, device=log_mel.device).reshape(-1, 1)
    if features.normalization == "level":
        log_mel = levelled(log_mel, features.log_floor)
    elif features.normalization == "sample":
        log_mel = standardized(log_mel)
    return (log_mel - mean) / std


class Normalized(nn.Module):
    """A network with its feature normalisation in front.

    Args:
        network: takes normalised log-mel ``(batch, mel, time)``.
        mean: per band, ``(mel,)``.
        std: per band, ``(mel,)``.
        features: says which normalisation.
    """

    def __init__(
        self, network: nn.Module, mean: NDArray[np.float32], std: NDArray[np.float32], features: FeatureConfig
    ) -> None:
        super().__init__()
        self.network = network
        self.features = features
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.from_numpy(np.asarray(mean, np.float32))[:, None])
        self.register_buffer("std", torch.from_numpy(np.asarray(std, np.float32))[:, None])

    def normalize(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Raw log-mel ``(batch, mel, time)`` to the network's input, as :func:`normalize`."""
        return normalize(log_mel, self.features, self.mean, self.std)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Raw log-mel ``(batch, mel, time)`` to logits."""
        return self.network(self.normalize(x))  # type: ignore[no-any-return]
