"""What a convolution network sees of a window: a 1-D signal or the mel image. And the layers of each rank.

The networks themselves are written once: whether they are 1-D or 2-D follows from their settings' ``sides``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from .base import NetworkConfig
from .layers import check_choice

#: The mean log-mel vector over the window, or the window over time with its bands as channels.
Signal = Literal["mean", "time"]

#: Frames that differ from the window's oldest by no more in any band, in normalised units, are taken for its copies.
SAME_FRAME = 1e-3

#: Layers for an input of one or two sides.
CONV: dict[int, type[nn.Conv1d | nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}
NORM: dict[int, type[nn.BatchNorm1d | nn.BatchNorm2d]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
MAX_POOL: dict[int, type[nn.MaxPool1d | nn.MaxPool2d]] = {1: nn.MaxPool1d, 2: nn.MaxPool2d}
MEAN_POOL: dict[int, type[nn.AvgPool1d | nn.AvgPool2d]] = {1: nn.AvgPool1d, 2: nn.AvgPool2d}


@dataclass(frozen=True)
class InputConfig(NetworkConfig):
    """Settings of a network whose input is made from the window first."""

    @property
    def sides(self) -> tuple[int, ...]:
        """Length of the signal, or height and width of the image."""
        raise NotImplementedError

    @property
    def channels_in(self) -> int:
        """Channels of the signal or image."""
        raise NotImplementedError

    def make_stem(self) -> nn.Module:
        """From ``(batch, mel, time)`` to ``(batch, channels_in, *sides)``."""
        raise NotImplementedError


@dataclass(frozen=True)
class SignalConfig(InputConfig):
    """Settings of a 1-D network.

    Attributes:
        signal: ``mean``: the mean log-mel vector over the window, one channel of ``n_mels`` values. ``time``: the
            window, ``n_mels`` channels of ``n_frames`` values.
    """

    signal: Signal = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("signal", self.signal, Signal)

    @property
    def sides(self) -> tuple[int, ...]:
        """Length of the signal."""
        return (self.n_mels if self.signal == "mean" else self.n_frames,)

    @property
    def channels_in(self) -> int:
        """Channels of the signal."""
        return 1 if self.signal == "mean" else self.n_mels

    def make_stem(self) -> nn.Module:
        """From ``(batch, mel, time)`` to ``(batch, channel, length)``."""
        return MeanVector() if self.signal == "mean" else nn.Identity()


@dataclass(frozen=True)
class ImageConfig(InputConfig):
    """Settings of a 2-D network.

    Attributes:
        image: height and width that the mel image is resized to; 0 keeps a side as it is.
    """

    image: tuple[int, ...] = (0, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.image) != 2 or min(self.image) < 0:
            raise ValueError(f"image {self.image} must be a height and a width, such as 32x32")

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width of the image."""
        return self.image[0] or self.n_mels, self.image[1] or self.n_frames

    @property
    def channels_in(self) -> int:
        """Channels of the image."""
        return 1

    def make_stem(self) -> nn.Module:
        """From ``(batch, mel, time)`` to ``(batch, 1, height, width)``."""
        return MelImage(None if self.sides == (self.n_mels, self.n_frames) else self.sides)


class MeanVector(nn.Module):
    """Mean over the window's frames, its padding left out.

    A stream's first windows are filled up at their beginning with many copies of one frame, that of digital silence.
    The frames that equal the oldest are therefore left out: these copies, or in a full window the oldest frame alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to ``(batch, 1, mel)``; a window of one repeated frame gives that frame."""
        heard = (x - x[:, :, :1]).abs().amax(dim=1, keepdim=True) > SAME_FRAME
        weight = (heard | ~heard.any(dim=2, keepdim=True)).to(x.dtype)
        return ((x * weight).sum(dim=2) / weight.sum(dim=2)).unsqueeze(1)


class MelImage(nn.Module):
    """The window as an image of one channel, resized by means over areas (adaptive average pooling)."""

    def __init__(self, size: tuple[int, ...] | None) -> None:
        super().__init__()
        self.resize = nn.Identity() if size is None else nn.AdaptiveAvgPool2d(size)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to ``(batch, 1, height, width)``."""
        return self.resize(x.unsqueeze(1))  # type: ignore[no-any-return]
