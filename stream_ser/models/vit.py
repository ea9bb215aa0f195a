"""Joint attention over all tokens: the control of SepTr, equal to it but for what a token may attend to.

Reference: A. Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", ICLR
2021. Tokens, stem, layer, class token, pooling and classifier are SepTr's own classes. A SepTr block has one layer an
axis, so the control of ``depth`` blocks over two axes has ``2 * depth`` layers: the same matrices, layer for layer.
Only the positions differ: one table of ``f * t + 1`` rows instead of one of ``f + 1`` or ``t + 1`` in every layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from .base import WindowNetwork
from .layers import TokenPool, learnt
from .tokens import TokenConfig, TransformerLayer


@dataclass(frozen=True)
class ViTConfig(TokenConfig):
    """Settings of :class:`ViT`.

    Attributes:
        depth: number of layers; twice SepTr's number of blocks where it is its control.
    """


class JointTransformer(TransformerLayer):
    """One transformer layer that attends over all tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, token, dim)`` to the same shape."""
        return self.attend(x)


class ViT(WindowNetwork):
    """Transformer encoder over the whole grid of tokens and a class token.

    Example:
        >>> model = ViT(ViTConfig(n_mels=8, n_frames=12, num_classes=6, dim=16, depth=2, dim_head=8))
        >>> model(torch.zeros(2, 8, 12)).shape
        torch.Size([2, 6])
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.stem = config.make_stem()
        self.cls_token = learnt(config.dim)
        self.position = learnt(config.grid[0] * config.grid[1] + 1, config.dim)
        self.layers = nn.Sequential(*(JointTransformer(config) for _ in range(config.depth)))
        self.pool = TokenPool(config.pool, config.dim)
        self.norm = nn.LayerNorm(config.dim) if config.final_norm else nn.Identity()
        self.make_head(config.dim)

    def embed(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to ``(batch, dim)``."""
        tokens = rearrange(self.stem(x), "b f t d -> b (f t) d")
        x = torch.cat((repeat(self.cls_token, "d -> b 1 d", b=x.shape[0]), tokens), dim=1) + self.position
        x = self.layers(x)
        return self.norm(self.pool(x[:, 0], x[:, 1:]))  # type: ignore[no-any-return]
