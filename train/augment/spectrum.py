"""Augmentation of batches of normalised spectrograms."""

from __future__ import annotations

import numpy as np
import torch

from .config import AugmentConfig


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
