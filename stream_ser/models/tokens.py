"""From a window to a grid of tokens, and the transformer layer on them: shared by SepTr and its control."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import attention_by_head, lean_attention
from .base import NetworkConfig
from .layers import Pool, check_choice, check_rate

Stem = Literal["patch", "conv"]
#: Width from which on a CPU trains faster head by head, though it projects twice: nothing has to be copied.
WIDE_HEAD = 128


@dataclass(frozen=True)
class TokenConfig(NetworkConfig):
    """Settings of the tokens and of the layers on them. The defaults are SepTr's published ones.

    Attributes:
        n_mels: height of the input.
        n_frames: width of the input.
        num_classes: logits; 35 (Speech Commands) in the published code.
        patch: height and width of a token in input bins; (1, 1) as published.
        dim: width of a token.
        depth: number of blocks.
        heads: attention heads.
        dim_head: width of a head.
        mlp_dim: hidden width of the feed-forward layers.
        dropout: after attention and in the feed-forward layers.
        stem: ``patch``: linear projection of each patch, as published. ``conv``: a stack of 3x3 convolutions with
            batch norm whose total stride is the patch size, which learns faster from a small corpus.
        stem_channels: channels of the convolutions, one a layer (``conv`` only); the last layer is followed by a
            projection to ``dim``.
        final_norm: layer norm before the classifier (not in the published network).
        pool: what is classified: the class token as published, or the ``mean`` or ``attention`` pooled tokens.
        recompute: train with less memory: attention is computed again for the backward pass instead of kept. Wide heads
            without dropout do that on a CPU in any case.
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
    dropout: float = 0.0
    stem: Stem = "patch"
    stem_channels: tuple[int, ...] = ()
    final_norm: bool = False
    pool: Pool = "cls"
    recompute: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("stem", self.stem, Stem)
        check_choice("pool", self.pool, Pool)
        check_rate("dropout", self.dropout)
        if len(self.patch) != 2:
            raise ValueError(f"patch {self.patch} must be a height and a width, such as 8x10")
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
        """Tokens over frequency and over time; the highest bands and oldest frames that fill no token go unused."""
        return self.n_mels // self.patch[0], self.n_frames // self.patch[1]

    @property
    def halvings(self) -> tuple[int, int]:
        """How often the convolution stem halves each side."""
        return self.patch[0].bit_length() - 1, self.patch[1].bit_length() - 1

    def make_stem(self) -> nn.Module:
        """From ``(batch, mel, time)`` to tokens ``(batch, frequency, time, dim)``."""
        return PatchStem(self) if self.stem == "patch" else ConvStem(self)


def crop_to_grid(x: Tensor, config: TokenConfig) -> Tensor:
    """``(batch, mel, time)`` without the bins that fill no token: the highest bands and the oldest frames.

    The end of the time axis is the newest audio, which a live recogniser must never leave unused.
    """
    height, width = (tokens * size for tokens, size in zip(config.grid, config.patch, strict=True))
    return x[:, :height, config.n_frames - width :]


class PatchStem(nn.Module):
    """Linear projection of non-overlapping patches."""

    def __init__(self, config: TokenConfig) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Linear(config.patch[0] * config.patch[1], config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to tokens ``(batch, frequency, time, dim)``."""
        p, q = self.config.patch
        tokens = rearrange(crop_to_grid(x, self.config), "b (f p) (t q) -> b f t (p q)", p=p, q=q)
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


def stem_strides(config: TokenConfig) -> list[tuple[int, int]]:
    """Stride of each convolution of a stem, over mel and time.

    The halvings are spread evenly over the layers, the first at once: most multiplications of such a stack would
    otherwise happen at its finest resolution.
    """
    halvings, layers = config.halvings, len(config.stem_channels)
    due = {round(turn * layers / max(halvings)): turn for turn in range(max(halvings))}
    strides = []
    for index in range(layers):
        turn = due.get(index)
        mel, time = (2 if turn is not None and turn < n else 1 for n in halvings)
        strides.append((mel, time))
    return strides


class ConvStem(nn.Module):
    """A stack of convolutions whose total stride is the patch size."""

    def __init__(self, config: TokenConfig) -> None:
        super().__init__()
        self.config = config
        stack: list[nn.Module] = []
        previous = 1
        for channels, stride in zip(config.stem_channels, stem_strides(config), strict=True):
            stack.append(ConvLayer(previous, channels, stride))
            previous = channels
        self.layers = nn.Sequential(*stack)
        self.projection = nn.Conv2d(previous, config.dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to tokens ``(batch, frequency, time, dim)``."""
        image = crop_to_grid(x, self.config).unsqueeze(1).contiguous(memory_format=torch.channels_last)
        tokens: Tensor = self.projection(self.layers(image))
        return rearrange(tokens, "b d f t -> b f t d")


class Attention(nn.Module):
    """Multi-head self-attention with heads of any width, which ``nn.MultiheadAttention`` does not have.

    Vaswani et al. 2017, with ``heads * dim_head`` free of ``dim`` and no bias on queries, keys and values.
    """

    def __init__(self, dim: int, heads: int, dim_head: int, dropout: float, *, recompute: bool = False) -> None:
        super().__init__()
        self.heads, self.by_head = heads, recompute or dim_head >= WIDE_HEAD
        self.to_qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.to_out = nn.Linear(heads * dim_head, dim)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, token, dim)`` to the same shape."""
        lean = self.training and x.device.type == "cpu" and not self.dropout
        if lean and self.by_head:
            out = attention_by_head(x, self.to_qkv.weight, self.to_out.weight, self.heads)
            return out + self.to_out.bias.to(out.dtype)
        qkv = self.to_qkv(x)
        if lean:
            return self.to_out(lean_attention(qkv, self.heads))  # type: ignore[no-any-return]
        q, k, v = rearrange(qkv, "b n (three h d) -> three b h n d", three=3, h=self.heads).unbind(0)
        if torch.compiler.is_exporting():
            # As it stands: torch's own way into a graph has a dozen operators beside the three that compute.
            out = torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), dim=-1) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.to_out(rearrange(out, "b h n d -> b n (h d)"))  # type: ignore[no-any-return]


def feed_forward(config: TokenConfig) -> nn.Sequential:
    """Two linear layers on each token alone."""
    return nn.Sequential(
        nn.Linear(config.dim, config.mlp_dim),
        nn.GELU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.mlp_dim, config.dim),
    )


class TransformerLayer(nn.Module):
    """One pre-norm transformer layer: attention, then a feed-forward layer."""

    def __init__(self, config: TokenConfig) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(config.dim)
        self.attention = Attention(
            config.dim, config.heads, config.dim_head, config.dropout, recompute=config.recompute
        )
        self.norm_mlp = nn.LayerNorm(config.dim)
        self.mlp = feed_forward(config)
        self.dropout = nn.Dropout(config.dropout)
        self.recompute = config.recompute

    def attend(self, x: Tensor) -> Tensor:
        """``(batch, token, dim)`` to the same shape."""
        # Without dropout attention on CPUs sees to that itself, and better.
        again = self.recompute and (x.device.type != "cpu" or self.attention.dropout > 0.0)
        if again and self.training and torch.is_grad_enabled():
            x = x + checkpoint(self._mix, x, use_reentrant=False)
        else:
            x = x + self._mix(x)
        return x + self.dropout(self.mlp(self.norm_mlp(x)))  # type: ignore[no-any-return]

    def _mix(self, x: Tensor) -> Tensor:
        return self.dropout(self.attention(self.norm_attention(x)))  # type: ignore[no-any-return]
