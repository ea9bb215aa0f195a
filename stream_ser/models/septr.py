"""SepTr, the separable transformer for audio spectrograms.

Reference: N.-C. Ristea, R. T. Ionescu, F. S. Khan, "SepTr: Separable Transformer for Audio Spectrogram Processing",
Interspeech 2022. A spectrogram becomes a grid of tokens. One block attends along one axis within each line of the
other axis, then along the other: a column of ``f`` tokens costs ``f**2`` and there are ``t`` of them, so the cost is
``f t (f + t)`` instead of ``(f t)**2``. A class token goes with every line; after each transformer the lines'
class tokens are averaged and handed on, and the last one is classified.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn

from .base import WindowNetwork
from .layers import TokenPool, check_choice, learnt
from .tokens import TokenConfig, TransformerLayer

Axis = Literal["frequency", "time"]
Order = Literal["frequency-time", "time-frequency", "frequency", "time"]

_AXES: dict[Order, tuple[Axis, ...]] = {
    "frequency-time": ("frequency", "time"),
    "time-frequency": ("time", "frequency"),
    "frequency": ("frequency",),
    "time": ("time",),
}


@dataclass(frozen=True)
class SepTrConfig(TokenConfig):
    """Settings of :class:`SepTr`. The defaults are the published ones, at a 512 x 512 input.

    Attributes:
        depth: number of separable blocks, each of one layer an axis.
        order: which axes are attended to, in which order; one axis alone is an ablation.
    """

    order: Order = "frequency-time"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("order", self.order, Order)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of a block, in order."""
        return _AXES[self.order]


class AxisTransformer(TransformerLayer):
    """One transformer layer that attends along one axis of the grid, with its own positions.

    Each line along the axis gets the class token in front. Position embeddings cover the class token too.
    """

    def __init__(self, config: SepTrConfig, axis: Axis) -> None:
        super().__init__(config)
        length = config.grid[0] if axis == "frequency" else config.grid[1]
        self.axis = axis
        self.position = learnt(length + 1, config.dim)

    def forward(self, tokens: Tensor, cls: Tensor) -> tuple[Tensor, Tensor]:
        """Attend within each line.

        Args:
            tokens: ``(batch, frequency, time, dim)``.
            cls: ``(batch, dim)``, the class token.

        Returns:
            tokens of the same shape, and the mean over the lines of their class tokens, ``(batch, dim)``.
        """
        _, n_freq, n_time, _ = tokens.shape
        if self.axis == "frequency":
            lines, n_lines = rearrange(tokens, "b f t d -> (b t) f d"), n_time
        else:
            lines, n_lines = rearrange(tokens, "b f t d -> (b f) t d"), n_freq
        x = torch.cat((repeat(cls, "b d -> (b n) 1 d", n=n_lines), lines), dim=1) + self.position
        x = self.attend(x)
        cls = reduce(x[:, 0], "(b n) d -> b d", "mean", n=n_lines)
        if self.axis == "frequency":
            return rearrange(x[:, 1:], "(b t) f d -> b f t d", t=n_time), cls
        return rearrange(x[:, 1:], "(b f) t d -> b f t d", f=n_freq), cls


class SepTr(WindowNetwork):
    """The separable transformer.

    Example:
        >>> model = SepTr(SepTrConfig(n_mels=8, n_frames=12, num_classes=6, dim=16, depth=1, dim_head=8))
        >>> model(torch.zeros(2, 8, 12)).shape
        torch.Size([2, 6])
    """

    def __init__(self, config: SepTrConfig) -> None:
        super().__init__(config)
        self.stem = config.make_stem()
        self.cls_token = learnt(config.dim)
        self.layers = nn.ModuleList(AxisTransformer(config, axis) for _ in range(config.depth) for axis in config.axes)
        self.pool = TokenPool(config.pool, config.dim)
        self.norm = nn.LayerNorm(config.dim) if config.final_norm else nn.Identity()
        self.make_head(config.dim)

    def embed(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to ``(batch, dim)``."""
        tokens = self.stem(x)
        cls = repeat(self.cls_token, "d -> b d", b=x.shape[0])
        for layer in self.layers:
            tokens, cls = layer(tokens, cls)
        return self.norm(self.pool(cls, tokens.flatten(1, 2)))  # type: ignore[no-any-return]
