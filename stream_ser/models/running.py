"""Sums, means and maxima over time that slowly forget: a stream carries one number each, however long it is.

All take a chunk and what was carried to it, and work by matrices instead of loops: no power is above 1, so they are
stable.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def _shares(steps: int, memory: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """How much of step ``s``, and of what was carried, counts at step ``t``: ``(t, s)`` and ``(t, 1)``."""
    at = torch.arange(steps, device=like.device, dtype=torch.float32)
    age = at[:, None] - at
    # Masked before the exponential, or it overflows.
    return torch.exp(-age.clamp_min(0.0) / memory) * (age >= 0.0), torch.exp(-(at + 1.0) / memory)[:, None]


def decayed_sums(x: Tensor, carried: Tensor, memory: float) -> Tensor:
    """After step ``t`` it is ``sum_s g**(t - s) x_s`` with ``g = exp(-1 / memory)``.

    Args:
        x: ``(batch, steps, width)``.
        carried: the sum before the first step, ``(batch, width)``.
        memory: steps.

    Returns:
        ``(batch, steps, width)``; the last one is to be carried on.
    """
    if x.shape[1] == 1:
        return x + math.exp(-1.0 / memory) * carried[:, None]
    share, before = _shares(x.shape[1], memory, x)
    return share @ x + before * carried[:, None]


def decayed_max(x: Tensor, carried: Tensor, memory: float) -> Tensor:
    """After step ``t`` it is ``max_s g**(t - s) x_s``, of values that are not negative.

    Args:
        x: ``(batch, steps)``.
        carried: the maximum before the first step, ``(batch, 1)``.
        memory: steps.

    Returns:
        ``(batch, steps)``; the last one is to be carried on.
    """
    share, before = _shares(x.shape[1], memory, x)
    return torch.maximum((share * x[:, None]).amax(dim=-1), before.T * carried)


class RunningMean(nn.Module):
    """Mean over all that was heard, weighted by attention (Lin et al. 2017) and forgetting exponentially.

    With weights ``w`` in (0, 1), values ``v`` and ``g = exp(-1 / memory)``, after step ``t`` it is
    ``sum_s g**(t - s) w_s v_s / sum_s g**(t - s) w_s``: a stream keeps the two sums alone.

    Args:
        width: of values.
        heads: weights a step; each weighs its part of the width.
        memory: steps.
    """

    def __init__(self, width: int, heads: int, memory: float) -> None:
        super().__init__()
        self.memory = memory
        self.heads = heads
        self.values = nn.Linear(width, width)
        self.weights = nn.Linear(width, heads)

    def forward(self, x: Tensor, total: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Steps ``(batch, steps, width)`` and the sums before them, to the mean after each step and the sums."""
        values = functional.silu(self.values(x)).float().unflatten(-1, (self.heads, -1))
        # The sigmoid, by way of its logarithm: small weights keep all their digits, of which the mean needs a ratio.
        # onnxruntime's sigmoid is right to some absolute error alone.
        weights = torch.exp(-functional.softplus(-self.weights(x).float()))
        totals = decayed_sums((values * weights[..., None]).flatten(2), total, self.memory)
        sums = decayed_sums(weights, weight, self.memory)
        mean = totals.unflatten(-1, (self.heads, -1)) / (sums[..., None] + 1e-4)
        return mean.flatten(2), totals[:, -1], sums[:, -1]
