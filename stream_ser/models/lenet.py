"""LeNet-5 over the mel image or a 1-D signal.

Reference: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document Recognition",
Proc. IEEE 86(11), 1998. Two convolutions of 5 without padding, each followed by an average over 2, then layers of 120
and 84. As everywhere today, the second convolution sees all channels, the averages have no weights of their own and
the last layer is linear. The 1-D form has the same layers over one axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from .base import WindowNetwork
from .inputs import CONV, MEAN_POOL, NORM, ImageConfig, InputConfig, SignalConfig
from .layers import CropOldest, check_choice, check_rate, dense, output_length

Activation = Literal["tanh", "relu"]

KERNEL = 5


@dataclass(frozen=True)
class LeNetConfig(InputConfig):
    """Settings of both forms.

    Attributes:
        channels: of the two convolutions.
        hidden: widths of the layers behind them.
        activation: ``tanh`` as published, or ``relu``.
        norm: batch norm behind each convolution (not in the published network).
        dropout: behind the hidden layers (not in the published network).
    """

    channels: tuple[int, ...] = (6, 16)
    hidden: tuple[int, ...] = (120, 84)
    activation: Activation = "tanh"
    norm: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("activation", self.activation, Activation)
        check_rate("dropout", self.dropout)
        if len(self.channels) != 2 or len(self.hidden) != 2 or min(*self.channels, *self.hidden) < 1:
            raise ValueError(f"channels {self.channels} and hidden {self.hidden} must be two widths each")
        if min(self.sides_out) < 1:
            raise ValueError(f"LeNet-5 needs sides of 16 or more, not {' x '.join(map(str, self.sides))}")

    @property
    def sides_out(self) -> tuple[int, ...]:
        """What is left of the sides behind the convolutions and averages."""
        sides = self.sides
        for _ in self.channels:
            sides = tuple(output_length(output_length(side, KERNEL), 2, 2) for side in sides)
        return sides


@dataclass(frozen=True)
class LeNet1dConfig(LeNetConfig, SignalConfig):
    """Settings of :class:`LeNet5` over a signal."""


@dataclass(frozen=True)
class LeNet2dConfig(LeNetConfig, ImageConfig):
    """Settings of :class:`LeNet5` over the mel image, 32 x 32 as published."""

    image: tuple[int, ...] = (32, 32)


class LeNet5(WindowNetwork):
    """LeNet-5, 1-D or 2-D by its settings.

    Example:
        >>> import torch
        >>> LeNet5(LeNet2dConfig())(torch.zeros(2, 64, 300)).shape
        torch.Size([2, 6])
    """

    def __init__(self, config: LeNetConfig) -> None:
        super().__init__(config)
        rank = len(config.sides)
        activation: type[nn.Module] = nn.Tanh if config.activation == "tanh" else nn.ReLU
        layers: list[nn.Module] = []
        previous = config.channels_in
        for channels in config.channels:
            layers.append(CONV[rank](previous, channels, KERNEL, bias=not config.norm))
            layers += [NORM[rank](channels)] if config.norm else []
            layers += [activation(), CropOldest(2, 2), MEAN_POOL[rank](2)]
            previous = channels
        self.stem = config.make_stem()
        self.layers = nn.Sequential(*layers)
        self.hidden = dense((previous * math.prod(config.sides_out), *config.hidden), activation, config.dropout)
        self.make_head(config.hidden[-1])

    def embed(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to ``(batch, hidden[-1])``."""
        return self.hidden(self.layers(self.stem(x)).flatten(1))  # type: ignore[no-any-return]
