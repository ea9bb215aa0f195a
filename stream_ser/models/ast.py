"""AST, the audio spectrogram transformer, in its minimal form.

Reference: Y. Gong, Y.-A. Chung, J. Glass, "AST: Audio Spectrogram Transformer", Interspeech 2021. Overlapping patches
of the spectrogram, a linear projection, learnt positions, a class token and a plain pre-norm encoder. Left out are its
ImageNet weights and with them the second, distillation token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from .base import NetworkConfig, WindowNetwork
from .layers import CropOldest, Pool, TokenPool, check_choice, check_rate, learnt, output_length


@dataclass(frozen=True)
class ASTConfig(NetworkConfig):
    """Settings of :class:`AST`.

    Attributes:
        patch: height and width of a patch in input bins; 16 x 16 as published, the full height for patches that are
            short in time.
        stride: from one patch to the next over frequency and time; less than ``patch`` where they overlap (10 x 10
            as published; 12 leaves no band of 64 unused).
        dim: width of a token.
        depth: number of layers.
        heads: attention heads; they divide ``dim``.
        mlp_dim: hidden width of the feed-forward layers.
        dropout: on the tokens, after attention and in the feed-forward layers.
        pool: what is classified: the class token as published, or the ``mean`` or ``attention`` pooled tokens.
    """

    patch: tuple[int, ...] = (16, 16)
    stride: tuple[int, ...] = (12, 10)
    dim: int = 192
    depth: int = 6
    heads: int = 3
    mlp_dim: int = 768
    dropout: float = 0.1
    pool: Pool = "cls"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("pool", self.pool, Pool)
        check_rate("dropout", self.dropout)
        if len(self.patch) != 2 or len(self.stride) != 2:
            raise ValueError(f"patch {self.patch} and stride {self.stride} must be a height and a width, such as 16x16")
        if min(self.dim, self.depth, self.heads, self.mlp_dim, *self.patch, *self.stride) < 1:
            raise ValueError("depth, heads, widths, patch and stride must all be at least 1")
        if self.dim % self.heads:
            raise ValueError(f"{self.heads} heads do not divide dim {self.dim}")
        if self.n_mels < self.patch[0] or self.n_frames < self.patch[1]:
            raise ValueError(f"patch {self.patch} is larger than the input {self.n_mels} x {self.n_frames}")

    @property
    def grid(self) -> tuple[int, int]:
        """Tokens over frequency and over time; the highest bands and oldest frames that fill none go unused."""
        frequency, time = map(output_length, (self.n_mels, self.n_frames), self.patch, self.stride)
        return frequency, time


class AST(WindowNetwork):
    """The audio spectrogram transformer.

    Example:
        >>> AST(ASTConfig())(torch.zeros(2, 64, 300)).shape
        torch.Size([2, 6])
    """

    def __init__(self, config: ASTConfig) -> None:
        super().__init__(config)
        patch, stride = (config.patch[0], config.patch[1]), (config.stride[0], config.stride[1])
        # A convolution whose stride is that of the patches is their linear projection.
        self.stem = nn.Sequential(CropOldest(patch[1], stride[1]), nn.Conv2d(1, config.dim, patch, stride))
        self.cls_token = learnt(config.dim)
        self.position = learnt(config.grid[0] * config.grid[1] + 1, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        # Not nn.TransformerEncoder, whose layers all start as copies of one.
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    config.dim,
                    config.heads,
                    config.mlp_dim,
                    config.dropout,
                    activation="gelu",
                    batch_first=True,
                    norm_first=True,
                )
                for _ in range(config.depth)
            )
        )
        self.norm = nn.LayerNorm(config.dim)
        self.pool = TokenPool(config.pool, config.dim)
        self.make_head(config.dim)

    def embed(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to ``(batch, dim)``."""
        tokens = rearrange(self.stem(x.unsqueeze(1)), "b d f t -> b (f t) d")
        x = torch.cat((repeat(self.cls_token, "d -> b 1 d", b=x.shape[0]), tokens), dim=1) + self.position
        x = self.norm(self.layers(self.dropout(x)))
        return self.pool(x[:, 0], x[:, 1:])  # type: ignore[no-any-return]
