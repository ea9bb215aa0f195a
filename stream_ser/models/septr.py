"""SepTr, the separable transformer for audio spectrograms.

Reference: N.-C. Ristea, R. T. Ionescu, F. S. Khan, "SepTr: Separable Transformer for Audio Spectrogram Processing",
Interspeech 2022. A spectrogram becomes a grid of tokens. One block attends along one axis within each line of the
other axis, then along the other: a column of ``f`` tokens costs ``f**2`` and there are ``t`` of them, so the cost is
``f t (f + t)`` instead of ``(f t)**2``. A class token goes with every line; after each transformer the lines'
class tokens are averaged and handed on, and the last one is classified.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from torch import Tensor, nn

from .base import NetworkConfig, WindowNetwork

Axis = Literal["frequency", "time"]
Order = Literal["frequency-time", "time-frequency", "frequency", "time"]
Stem = Literal["patch", "conv"]

_AXES: dict[Order, tuple[Axis, ...]] = {
    "frequency-time": ("frequency", "time"),
    "time-frequency": ("time", "frequency"),
    "frequency": ("frequency",),
    "time": ("time",),
}


@dataclass(frozen=True)
class SepTrConfig(NetworkConfig):
    """Settings of :class:`SepTr`. The defaults are the published ones, at a 512 x 512 input.

    Attributes:
        n_mels: height of the input.
        n_frames: width of the input.
        num_classes: logits; 35 (Speech Commands) in the published code.
        patch: height and width of a token in input bins; (1, 1) as published.
        dim: width of a token.
        depth: number of separable blocks.
        heads: attention heads.
        dim_head: width of a head.
        mlp_dim: hidden width of the feed-forward layers.
        order: which axes are attended to, in which order; one axis alone is an ablation.
        dropout: after attention and in the feed-forward layers.
        stem: ``patch``: linear projection of each patch, as published. ``conv``: a stack of 3x3 convolutions with
            batch norm whose total stride is the patch size, which learns faster from a small corpus.
        stem_channels: channels of the convolutions, one a layer (``conv`` only); the last layer is followed by a
            projection to ``dim``.
        final_norm: layer norm before the classifier (not in the published network).
    """

    n_mels: int = 512
    n_frames: int = 512
    num_classes: int = 35
    patch: tuple[int, int] = (1, 1)
    dim: int = 256
    depth: int = 3
    heads: int = 5
    dim_head: int = 256
    mlp_dim: int = 256
    order: Order = "frequency-time"
    dropout: float = 0.0
    stem: Stem = "patch"
    stem_channels: tuple[int, ...] = ()
    final_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in get_args(Order):
            raise ValueError(f"order {self.order!r} is not one of {', '.join(get_args(Order))}")
        if self.stem not in get_args(Stem):
            raise ValueError(f"stem {self.stem!r} is not one of {', '.join(get_args(Stem))}")
        if len(self.patch) != 2:
            raise ValueError(f"patch {self.patch} must be a height and a width, such as 8x10")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout {self.dropout} must be in [0, 1)")
        if min(self.depth, self.heads, self.dim, self.dim_head, self.mlp_dim, *self.patch) < 1:
            raise ValueError("depth, heads, widths and patch must all be at least 1")
        if self.n_mels < self.patch[0] or self.n_frames < self.patch[1]:
            raise ValueError(f"patch {self.patch} is larger than the input {self.n_mels} x {self.n_frames}")
        if self.stem == "conv":
            if not self.stem_channels:
                raise ValueError("stem 'conv' needs stem_channels")
            if any(size & (size - 1) for size in self.patch):
                raise ValueError(f"stem 'conv' halves: patch {self.patch} must be powers of two")
            if len(self.stem_channels) < max(self.halvings):
                raise ValueError(f"patch {self.patch} needs {max(self.halvings)} or more stem_channels")

    @property
    def grid(self) -> tuple[int, int]:
        """Tokens over frequency and over time; input bins that do not fill a token are not used."""
        return self.n_mels // self.patch[0], self.n_frames // self.patch[1]

    @property
    def halvings(self) -> tuple[int, int]:
        """How often the convolution stem halves each side."""
        return self.patch[0].bit_length() - 1, self.patch[1].bit_length() - 1

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of a block, in order."""
        return _AXES[self.order]


class Attention(nn.Module):
    """Multi-head self-attention with heads of any width.

    Vaswani et al. 2017, with ``heads * dim_head`` free of ``dim`` and no bias on queries, keys and values.
    """

    def __init__(self, dim: int, heads: int, dim_head: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.to_out = nn.Linear(heads * dim_head, dim)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, token, dim)`` to the same shape."""
        q, k, v = rearrange(self.to_qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.to_out(rearrange(out, "b h n d -> b n (h d)"))  # type: ignore[no-any-return]


class AxisTransformer(nn.Module):
    """One pre-norm transformer layer that attends along one axis of the grid, with its own positions.

    Each line along the axis gets the class token in front. Position embeddings cover the class token too.
    """

    def __init__(self, config: SepTrConfig, axis: Axis) -> None:
        super().__init__()
        length = config.grid[0] if axis == "frequency" else config.grid[1]
        self.axis = axis
        self.position = nn.Parameter(0.02 * torch.randn(length + 1, config.dim))
        self.norm_attention = nn.LayerNorm(config.dim)
        self.attention = Attention(config.dim, config.heads, config.dim_head, config.dropout)
        self.norm_mlp = nn.LayerNorm(config.dim)
        self.mlp = nn.Sequential(
            nn.Linear(config.dim, config.mlp_dim),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.mlp_dim, config.dim),
        )
        self.dropout = nn.Dropout(config.dropout)

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
        x = x + self.dropout(self.attention(self.norm_attention(x)))
        x = x + self.dropout(self.mlp(self.norm_mlp(x)))
        cls = reduce(x[:, 0], "(b n) d -> b d", "mean", n=n_lines)
        if self.axis == "frequency":
            return rearrange(x[:, 1:], "(b t) f d -> b f t d", t=n_time), cls
        return rearrange(x[:, 1:], "(b f) t d -> b f t d", f=n_freq), cls


class PatchStem(nn.Module):
    """Linear projection of non-overlapping patches."""

    def __init__(self, config: SepTrConfig) -> None:
        super().__init__()
        self.patch = config.patch
        self.grid = config.grid
        self.projection = nn.Linear(config.patch[0] * config.patch[1], config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to tokens ``(batch, frequency, time, dim)``."""
        height, width = self.grid[0] * self.patch[0], self.grid[1] * self.patch[1]
        x = x[:, :height, :width]
        tokens = rearrange(x, "b (f p) (t q) -> b f t (p q)", p=self.patch[0], q=self.patch[1])
        return self.projection(tokens)  # type: ignore[no-any-return]


class ConvLayer(nn.Module):
    """3x3 convolution, batch norm, GELU; residual where the shape stays the same (He et al. 2016)."""

    def __init__(self, channels_in: int, channels_out: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.residual = channels_in == channels_out and stride == (1, 1)
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, channels_in, mel, time)`` to ``(batch, channels_out, mel / stride, time / stride)``."""
        out = F.gelu(self.norm(self.conv(x)))
        return x + out if self.residual else out


class ConvStem(nn.Module):
    """A stack of convolutions whose total stride is the patch size.

    The halvings are spread evenly over the layers, the first at once: most multiplications of such a stack would
    otherwise happen at its finest resolution.
    """

    def __init__(self, config: SepTrConfig) -> None:
        super().__init__()
        self.grid = config.grid
        halvings, layers = config.halvings, len(config.stem_channels)
        due = {round(turn * layers / max(halvings)): turn for turn in range(max(halvings))}
        stack: list[nn.Module] = []
        previous = 1
        for index, channels in enumerate(config.stem_channels):
            turn = due.get(index)
            strides = [2 if turn is not None and turn < n else 1 for n in halvings]
            stack.append(ConvLayer(previous, channels, (strides[0], strides[1])))
            previous = channels
        self.layers = nn.Sequential(*stack)
        self.projection = nn.Conv2d(previous, config.dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to tokens ``(batch, frequency, time, dim)``."""
        x = self.projection(self.layers(x.unsqueeze(1).contiguous(memory_format=torch.channels_last)))
        return rearrange(x[:, :, : self.grid[0], : self.grid[1]], "b d f t -> b f t d")


class SepTr(WindowNetwork):
    """The separable transformer.

    Example:
        >>> model = SepTr(SepTrConfig(n_mels=8, n_frames=12, num_classes=6, dim=16, depth=1, dim_head=8))
        >>> model(torch.zeros(2, 8, 12)).shape
        torch.Size([2, 6])
    """

    def __init__(self, config: SepTrConfig) -> None:
        super().__init__(config)
        self.stem = PatchStem(config) if config.stem == "patch" else ConvStem(config)
        self.cls_token = nn.Parameter(0.02 * torch.randn(config.dim))
        self.layers = nn.ModuleList(AxisTransformer(config, axis) for _ in range(config.depth) for axis in config.axes)
        self.norm = nn.LayerNorm(config.dim) if config.final_norm else nn.Identity()
        self.make_head(config.dim)

    def embed(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to the last class token, ``(batch, dim)``."""
        tokens = self.stem(x)
        cls = repeat(self.cls_token, "d -> b d", b=x.shape[0])
        for layer in self.layers:
            tokens, cls = layer(tokens, cls)
        return self.norm(cls)  # type: ignore[no-any-return]
