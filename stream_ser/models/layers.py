"""Small parts that several networks share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

#: How tokens become one vector.
Pool = Literal["cls", "mean", "attention"]


def check_choice(name: str, value: str, kind: object) -> None:
    """Refuse a value that is not one of a ``Literal``'s.

    Raises:
        ValueError: with the known ones.
    """
    if value not in get_args(kind):
        raise ValueError(f"{name} {value!r} is not one of {', '.join(get_args(kind))}")


def check_rate(name: str, rate: float) -> None:
    """Refuse dropout and the like outside [0, 1).

    Raises:
        ValueError: with the name.
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"{name} {rate} must be in [0, 1)")


def output_length(length: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """Length behind a convolution or a pooling, 0 where the kernel does not fit."""
    return max(0, (length + 2 * padding - kernel) // stride + 1)


class CropOldest(nn.Module):
    """Drops what a strided kernel would leave over at the end of the last axis, from its beginning instead.

    The end of the time axis is the newest audio, which a live recogniser must never leave unused.
    """

    def __init__(self, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """``(..., time)`` to ``(..., time - rest)``."""
        return x[..., (x.shape[-1] + 2 * self.padding - self.kernel) % self.stride :]


class TokenPool(nn.Module):
    """One vector from a class token and the other tokens.

    ``cls``: the class token. ``mean``: the mean of the others. ``attention``: their mean, weighted by the softmax of a
    learnt score (P. Safari, M. India, J. Hernando, "Self-attention encoding and pooling for speaker recognition",
    Interspeech 2020).
    """

    def __init__(self, pool: Pool, dim: int) -> None:
        super().__init__()
        self.pool = pool
        if pool == "attention":
            self.score = nn.Linear(dim, 1)

    def forward(self, cls: Tensor, tokens: Tensor) -> Tensor:
        """``(batch, dim)`` and ``(batch, token, dim)`` to ``(batch, dim)``."""
        if self.pool == "cls":
            return cls
        if self.pool == "mean":
            return tokens.mean(dim=1)
        return (self.score(tokens).softmax(dim=1) * tokens).sum(dim=1)  # type: ignore[no-any-return]


def initialise_rectified(network: nn.Module) -> None:
    """Initialise convolutions and linear layers for rectifiers, so that deep stacks learn without batch norm.

    Reference: K. He, X. Zhang, S. Ren, J. Sun, "Delving Deep into Rectifiers", ICCV 2015.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def dense(widths: Sequence[int], activation: type[nn.Module], dropout: float) -> nn.Sequential:
    """Linear layers from ``widths[0]`` over ``widths[1]`` on, each followed by the activation and dropout."""
    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(widths):
        layers += [nn.Linear(width_in, width_out), activation(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


def learnt(*shape: int) -> nn.Parameter:
    """A class token or positions: normal with deviation 0.02, as in ViT."""
    return nn.Parameter(0.02 * torch.randn(*shape))
