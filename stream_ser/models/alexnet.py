"""AlexNet over a 1-D signal.

Reference: A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet Classification with Deep Convolutional Neural Networks",
NeurIPS 2012: five convolutions (11 with stride 4, 5, then three of 3), overlapping maxima of 3 with stride 2 behind the
first, second and last, two hidden layers with dropout. Here over one axis, in one column of the usual present-day
widths, and without local response normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from .base import WindowNetwork
from .inputs import CONV, MAX_POOL, NORM, SignalConfig
from .layers import CropOldest, check_rate, dense, initialise_rectified, output_length

#: kernel, stride, padding and whether a maximum follows, for each convolution.
CONVOLUTIONS = ((11, 4, 2, True), (5, 1, 2, True), (3, 1, 1, False), (3, 1, 1, False), (3, 1, 1, True))


@dataclass(frozen=True)
class AlexNet1dConfig(SignalConfig):
    """Settings of :class:`AlexNet1d`.

    Attributes:
        channels: of the five convolutions.
        hidden: widths of the two hidden layers; 4096 each as published.
        norm: batch norm behind each convolution (not in the published network).
        dropout: behind the hidden layers.
    """

    channels: tuple[int, ...] = (64, 192, 384, 256, 256)
    hidden: tuple[int, ...] = (512, 512)
    norm: bool = True
    dropout: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate("dropout", self.dropout)
        if len(self.channels) != len(CONVOLUTIONS) or len(self.hidden) != 2 or min(*self.channels, *self.hidden) < 1:
            raise ValueError(f"channels {self.channels} must be five widths and hidden {self.hidden} two")
        if self.length_out < 1:
            raise ValueError(f"AlexNet needs a signal of 63 or more values, not {self.sides[0]}")

    @property
    def length_out(self) -> int:
        """Length of the signal behind the convolutions."""
        (length,) = self.sides
        for kernel, stride, padding, pooled in CONVOLUTIONS:
            length = output_length(length, kernel, stride, padding)
            length = output_length(length, 3, 2) if pooled else length
        return length


class AlexNet1d(WindowNetwork):
    """AlexNet over the mean log-mel vector or over time.

    Example:
        >>> import torch
        >>> AlexNet1d(AlexNet1dConfig(signal="time"))(torch.zeros(2, 64, 300)).shape
        torch.Size([2, 6])
    """

    def __init__(self, config: AlexNet1dConfig) -> None:
        super().__init__(config)
        layers: list[nn.Module] = []
        previous = config.channels_in
        for channels, (kernel, stride, padding, pooled) in zip(config.channels, CONVOLUTIONS, strict=True):
            layers.append(CropOldest(kernel, stride, padding))
            layers.append(CONV[1](previous, channels, kernel, stride=stride, padding=padding, bias=not config.norm))
            layers += [NORM[1](channels)] if config.norm else []
            layers.append(nn.ReLU())
            layers += [CropOldest(3, 2), MAX_POOL[1](3, 2)] if pooled else []
            previous = channels
        self.stem = config.make_stem()
        self.layers = nn.Sequential(*layers)
        self.hidden = dense((previous * config.length_out, *config.hidden), nn.ReLU, config.dropout)
        initialise_rectified(self)
        self.make_head(config.hidden[-1])

    def embed(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to ``(batch, hidden[-1])``."""
        return self.hidden(self.layers(self.stem(x)).flatten(1))  # type: ignore[no-any-return]
