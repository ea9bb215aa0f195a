"""VGG-16 over the mel image or a 1-D signal.

Reference: K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
configuration D: thirteen convolutions of 3 in five stages, each stage ended by a maximum over 2, then two hidden layers
and the classifier: sixteen layers with weights. The 1-D form has the same layers over one axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from .base import WindowNetwork
from .inputs import CONV, MAX_POOL, NORM, ImageConfig, InputConfig, SignalConfig
from .layers import CropOldest, check_rate, dense, initialise_rectified

#: Convolutions in each stage.
STAGES = (2, 2, 3, 3, 3)


@dataclass(frozen=True)
class VGGConfig(InputConfig):
    """Settings of both forms.

    Attributes:
        channels: of the five stages; 64, 128, 256, 512, 512 as published.
        hidden: widths of the two hidden layers; 4096 each as published.
        norm: batch norm behind each convolution. The published network has none and was trained from a shallower
            one; from scratch it hardly learns without.
        dropout: behind the hidden layers.
    """

    channels: tuple[int, ...] = (64, 128, 256, 512, 512)
    hidden: tuple[int, ...] = (512, 512)
    norm: bool = True
    dropout: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate("dropout", self.dropout)
        if len(self.channels) != len(STAGES) or len(self.hidden) != 2 or min(*self.channels, *self.hidden) < 1:
            raise ValueError(f"channels {self.channels} must be five widths and hidden {self.hidden} two")
        if min(self.sides_out) < 1:
            raise ValueError(f"VGG-16 needs sides of 32 or more, not {' x '.join(map(str, self.sides))}")

    @property
    def sides_out(self) -> tuple[int, ...]:
        """What is left of the sides once each stage has halved them."""
        return tuple(side >> len(STAGES) for side in self.sides)


@dataclass(frozen=True)
class VGG1dConfig(VGGConfig, SignalConfig):
    """Settings of :class:`VGG16` over a signal."""


@dataclass(frozen=True)
class VGG2dConfig(VGGConfig, ImageConfig):
    """Settings of :class:`VGG16` over the mel image.

    At half the published channels and half the time resolution by default: a window of 3 s then costs an eighth of
    the 6 GMAC that the published widths cost at full size.
    """

    channels: tuple[int, ...] = (32, 64, 128, 256, 256)
    image: tuple[int, ...] = (64, 152)


class VGG16(WindowNetwork):
    """VGG-16, 1-D or 2-D by its settings.

    Example:
        >>> import torch
        >>> VGG16(VGG1dConfig())(torch.zeros(2, 64, 300)).shape
        torch.Size([2, 6])
    """

    def __init__(self, config: VGGConfig) -> None:
        super().__init__(config)
        rank = len(config.sides)
        layers: list[nn.Module] = []
        previous = config.channels_in
        for channels, convolutions in zip(config.channels, STAGES, strict=True):
            for _ in range(convolutions):
                layers.append(CONV[rank](previous, channels, 3, padding=1, bias=not config.norm))
                layers += [NORM[rank](channels)] if config.norm else []
                layers.append(nn.ReLU())
                previous = channels
            layers += [CropOldest(2, 2), MAX_POOL[rank](2)]
        self.stem = config.make_stem()
        self.layers = nn.Sequential(*layers)
        self.hidden = dense((previous * math.prod(config.sides_out), *config.hidden), nn.ReLU, config.dropout)
        initialise_rectified(self)
        self.make_head(config.hidden[-1])

    def embed(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to ``(batch, hidden[-1])``."""
        return self.hidden(self.layers(self.stem(x)).flatten(1))  # type: ignore[no-any-return]
