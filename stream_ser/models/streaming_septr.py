"""SepTr for streams: each column of tokens is computed once, and nothing waits for the future.

The separable transformer (:mod:`stream_ser.models.septr`) looks at a window, so that each hop pays for all of it again.
Here convolutions see no later frame than the last of their column; attention along frequency stays within a column;
along time a column attends to the ``memory`` columns before it, whose keys and values are kept, by distance alone; and
what SepTr averages over a window's class tokens is a mean that slowly forgets. State goes in and comes out, so that the
same :meth:`StreamingSepTr.columns` runs on a whole recording and on a single hop, with the same result, and the cost of
a hop does not hang on what was heard before.

References: N.-C. Ristea, R. T. Ionescu, F. S. Khan, "SepTr", Interspeech 2022; N. Shazeer, "Fast Transformer Decoding:
One Write-Head is All You Need", 2019 (all heads share one key and value, which are what a stream must carry); C. Raffel
et al., "Exploring the Limits of Transfer Learning", JMLR 2020 (a learnt bias by distance, clipped).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from stream_ser.config import FeatureConfig, WindowConfig

from .base import WindowNetwork
from .layers import learnt
from .level import CommonLevel
from .running import RunningMean, decayed_sums
from .tokens import Stem, TokenConfig, TransformerLayer, feed_forward, stem_strides

#: Height and width of all convolutions.
KERNEL = 3


@dataclass(frozen=True)
class StreamingSepTrConfig(TokenConfig):
    """Settings of :class:`StreamingSepTr`.

    Attributes:
        memory: columns before its own that a token attends to: 62 of 16 frames of 10 ms are 9.9 s.
        reach: largest distance, in columns, that has a bias of its own; whatever is farther shares it.
        mean_memory: frames after which a column counts by 1/e in the mean that is classified.
        level_memory: frames after which a loud moment counts by 1/e for the level.

    Raises:
        ValueError: a value out of range.
    """

    n_mels: int = 64
    n_frames: int = 304
    num_classes: int = 6
    patch: tuple[int, int] = (16, 16)
    dim: int = 128
    depth: int = 2
    heads: int = 4
    dim_head: int = 32
    stem: Stem = "conv"
    stem_channels: tuple[int, ...] = (32, 32, 64, 64, 128, 128, 256)
    final_norm: bool = True
    memory: int = 62
    reach: int = 16
    mean_memory: float = 600.0
    level_memory: float = 1_000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stem != "conv" or self.pool != "cls" or not self.final_norm:
            raise ValueError("streaming-septr has a convolution stem, a class token and a final norm; leave them so")
        if min(self.memory, self.reach) < 1:
            raise ValueError("memory and reach must be at least 1 column")
        if not (0.0 < self.mean_memory < math.inf and 0.0 < self.level_memory < math.inf):
            raise ValueError("mean_memory and level_memory must be positive")
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be a multiple of heads {self.heads}")

    def check_input(self, features: FeatureConfig, window: WindowConfig) -> None:
        """Refuse a hop of no whole columns, and normalisation by what is still to come.

        Raises:
            ValueError: says what is needed.
        """
        if window.hop % self.stride:
            raise ValueError(f"window.hop {window.hop} must be a multiple of the {self.stride} frames of a column")
        if features.normalization != "corpus":
            raise ValueError(
                f"features.normalization {features.normalization!r} looks at a whole window; it needs 'corpus', and "
                "finds a common level by itself"
            )

    @property
    def stride(self) -> int:
        """Frames of a column."""
        return self.patch[1]


class State(NamedTuple):
    """What a stream leaves for its next frames; all zeros before the first. Each tensor has the batch first.

    Attributes:
        heard: columns so far, at most ``memory``, ``(batch, 1)``.
        energy: of the newest columns, ``(batch, columns)``.
        level: loudest of late, ``(batch, 1)``.
        past: newest inputs of each convolution, ``(batch, channels, mel, frames)``.
        keys: of each attention along time, ``(batch, frequency, memory, dim_head)``.
        values: of each attention along time, as the keys.
        totals: weighted sums of the class tokens: of each block, ``(batch, dim)``, then of what is classified.
        weights: sums of the weights: of all blocks, ``(batch, 1)``, then of what is classified, ``(batch, heads)``.
    """

    heard: Tensor
    energy: Tensor
    level: Tensor
    past: tuple[Tensor, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    totals: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]

    def flat(self) -> tuple[Tensor, ...]:
        """All tensors in order, as a graph's inputs and outputs."""
        parts = [(part,) if isinstance(part, Tensor) else part for part in self]
        return tuple(tensor for part in parts for tensor in part)

    def filled(self, tensors: Sequence[Tensor]) -> State:
        """A state of the same make-up from :meth:`flat` tensors."""
        rest = iter(tensors)
        parts: list[Any] = [
            next(rest) if isinstance(part, Tensor) else tuple(next(rest) for _ in part) for part in self
        ]
        return State(*parts)


class CausalConvLayer(nn.Module):
    """3x3 convolution that sees no later frame than its own, batch norm, GELU; residual where the shape stays."""

    def __init__(self, channels_in: int, channels_out: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.residual = channels_in == channels_out and stride == (1, 1)
        self.past = KERNEL - stride[1]
        self.conv = nn.Conv2d(channels_in, channels_out, KERNEL, stride=stride, padding=(1, 0), bias=False)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """``(batch, channels_in, mel, time)`` and what was before it, to the output and what is kept of the input."""
        joined = torch.cat((past.to(x.dtype), x), dim=-1)
        out = functional.gelu(self.norm(self.conv(joined)))
        return x + out if self.residual else out, joined[..., -self.past :]


class FrequencyLayer(TransformerLayer):
    """One transformer layer within each column; its class token comes first."""

    def __init__(self, config: StreamingSepTrConfig) -> None:
        super().__init__(config)
        self.position = learnt(config.grid[0] + 1, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, time, 1 + frequency, dim)`` to the same shape."""
        attended: Tensor = self.attend((x + self.position).flatten(0, 1))
        return attended.reshape(x.shape)


class TimeLayer(nn.Module):
    """One transformer layer along time, within each row of tokens; each column's class token attends to every row.

    A token attends to its row's tokens of the ``memory`` columns before it and of its own, and to its own column's
    class token. The class token attends to the same in each row, and takes the mean over the rows.

    Args:
        config: settings.
        last: nobody reads the other tokens any more: what comes out is the class token alone.
    """

    def __init__(self, config: StreamingSepTrConfig, last: bool) -> None:
        super().__init__()
        self.heads, self.dim_head = config.heads, config.dim_head
        self.memory, self.reach, self.last = config.memory, config.reach, last
        self.norm_attention = nn.LayerNorm(config.dim)
        self.to_queries = nn.Linear(config.dim, config.heads * config.dim_head, bias=False)
        self.to_key_value = nn.Linear(config.dim, 2 * config.dim_head, bias=False)
        self.to_out = nn.Linear(config.heads * config.dim_head, config.dim)
        #: Added to the scores, by distance: the same wherever in the stream.
        self.bias = learnt(config.heads, config.reach + 1)
        self.norm_mlp = nn.LayerNorm(config.dim)
        self.mlp = feed_forward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, unheard: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attend within each row.

        Args:
            x: ``(batch, time, 1 + frequency, dim)``, the class token first.
            keys: of the columns before, ``(batch, frequency, columns, dim_head)``.
            values: as the keys.
            unheard: added to the scores, minus infinity for a column before the stream's start,
                ``(batch, 1, columns + time)``.

        Returns:
            tokens of the same shape, or the class token alone; keys and values of the newest ``memory`` columns.
        """
        normed = self.norm_attention(x)
        key, value = self.to_key_value(normed).chunk(2, dim=-1)
        keys = torch.cat((keys, rearrange(key[:, :, 1:], "b t f d -> b f t d")), dim=2)
        values = torch.cat((values, rearrange(value[:, :, 1:], "b t f d -> b f t d")), dim=2)
        queries = self.to_queries(normed[:, :, :1] if self.last else normed) * self.dim_head**-0.5
        queries = rearrange(queries, "b t n (h d) -> b n t h d", h=self.heads)
        # The class token asks in every row, beside the row's token: (batch, frequency, 1 or 2, time, heads, dim_head).
        asked = queries[:, :1].expand(-1, keys.shape[1], -1, -1, -1)[:, :, None]
        if not self.last:
            asked = torch.cat((asked, queries[:, 1:, None]), dim=2)
        scores = (asked.flatten(2, 4) @ keys.transpose(-1, -2)).float()
        near = self._near(x.shape[1], keys.shape[2]) + unheard[:, :, None]
        scores = scores.unflatten(2, asked.shape[2:5]) + near[:, None, None]
        own = (asked * key[:, None, None, :, :1]).sum(dim=-1, keepdim=True).float()
        shares = torch.cat((scores, own), dim=-1).softmax(dim=-1).to(values.dtype)
        heard = (shares[..., :-1].flatten(2, 4) @ values).unflatten(2, asked.shape[2:5])
        heard = heard + shares[..., -1:] * value[:, None, None, :, :1]
        said = heard[:, :, 0].mean(dim=1, keepdim=True)
        if not self.last:
            said = torch.cat((said, heard[:, :, 1]), dim=1)
        out = self.to_out(rearrange(said, "b n t h d -> b t n (h d)"))
        x = (x[:, :, :1] if self.last else x) + self.dropout(out)
        x = x + self.dropout(self.mlp(self.norm_mlp(x)))
        return x, _newest(keys, self.memory), _newest(values, self.memory)

    def _near(self, steps: int, columns: int) -> Tensor:
        """What is added to the scores by distance, minus infinity out of reach, ``(1, steps, heads, columns)``."""
        at = torch.arange(columns, device=self.bias.device)
        distance = at[columns - steps :, None] - at
        out_of_reach = (distance < 0) | (distance > self.memory)
        bias = self.bias[:, distance.clamp(0, self.reach)].masked_fill(out_of_reach, -math.inf)
        return bias.transpose(0, 1)[None]


def _newest(x: Tensor, count: int) -> Tensor:
    """The newest ``count`` of ``(batch, frequency, columns, dim_head)``, behind zeros where there are fewer."""
    if x.shape[2] < count:
        x = functional.pad(x, (0, 0, count - x.shape[2], 0))
    return x[:, :, x.shape[2] - count :]


class StreamingSepTr(WindowNetwork):
    """The separable transformer for streams.

    Example:
        >>> config = StreamingSepTrConfig(n_mels=32, n_frames=48, dim=16, dim_head=8, stem_channels=(4, 4, 8, 8))
        >>> model = StreamingSepTr(config).eval()
        >>> x = torch.randn(1, 32, 48)
        >>> whole, _ = model.hear(x)
        >>> first, state = model.hear(x[..., :16])
        >>> rest, _ = model.hear(x[..., 16:], state)
        >>> torch.allclose(torch.cat((first, rest), dim=1), whole, atol=1e-5)
        True
    """

    config: StreamingSepTrConfig

    def __init__(self, config: StreamingSepTrConfig) -> None:
        super().__init__(config)
        self.level = CommonLevel(config.n_mels, config.stride, config.level_memory)
        channels = (1, *config.stem_channels)
        self.stem = nn.ModuleList(
            CausalConvLayer(*sizes) for sizes in zip(channels, channels[1:], stem_strides(config), strict=False)
        )
        self.projection = nn.Conv2d(channels[-1], config.dim, 1)
        self.cls_token = learnt(config.dim)
        self.along_frequency = nn.ModuleList(FrequencyLayer(config) for _ in range(config.depth))
        self.along_time = nn.ModuleList(TimeLayer(config, last=n == config.depth - 1) for n in range(config.depth))
        self.norm = nn.LayerNorm(config.dim)
        self.pool = RunningMean(config.dim, config.heads, config.mean_memory / config.stride)
        self.make_head(config.dim)

    def set_normalization(self, mean: Tensor, std: Tensor, log_floor: float) -> None:
        """Tell the network how its input is normalised: by band, ``(mel,)``, and the floor of the power."""
        self.level.mean.copy_(mean[:, None])
        self.level.std.copy_(std[:, None])
        self.level.floor.fill_(log_floor)

    def initial_state(self, batch: int = 1, memory: int | None = None) -> State:
        """The state before the first frame; ``memory`` is the columns that it has place for."""
        c, new = self.config, self.head.weight.new_zeros
        past, channels, bands = [], 1, c.grid[0] * c.patch[0]
        for (mel, time), outputs in zip(stem_strides(c), c.stem_channels, strict=True):
            past.append(new(batch, channels, bands, KERNEL - time).to(memory_format=torch.channels_last))
            channels, bands = outputs, bands // mel
        ring = (batch, c.grid[0], c.memory if memory is None else memory, c.dim_head)
        return State(
            heard=new(batch, 1),
            energy=new(batch, self.level.before),
            level=new(batch, 1),
            past=tuple(past),
            keys=tuple(new(ring) for _ in range(c.depth)),
            values=tuple(new(ring) for _ in range(c.depth)),
            totals=tuple(new(batch, c.dim) for _ in range(c.depth + 1)),
            weights=(new(batch, 1), new(batch, c.heads)),
        )

    def columns(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Hear whole columns.

        Args:
            x: normalised log-mel ``(batch, mel, time)``, a multiple of ``stride`` frames.
            state: what the chunk before returned; None at the beginning.

        Returns:
            embeddings as of each column's end ``(batch, time / stride, dim)``, and the state for the next chunk.
        """
        c = self.config
        # At the beginning there is nothing to remember: what is not there costs nothing.
        state = state or self.initial_state(x.shape[0], memory=0)
        x, energy, level = self.level(x, state.energy, state.level)
        x = x[:, None, : c.grid[0] * c.patch[0]].contiguous(memory_format=torch.channels_last)
        past = []
        for layer, before in zip(self.stem, state.past, strict=True):
            x, kept = layer(x, before)
            past.append(kept)
        x = rearrange(self.projection(x), "b d f t -> b t f d")
        x = torch.cat((self.cls_token.to(x.dtype).expand(*x.shape[:2], 1, -1), x), dim=2)
        steps, columns = x.shape[1], state.keys[0].shape[2]
        place = torch.arange(columns + steps, device=x.device)
        unheard = torch.where(place + state.heard < columns, -math.inf, 0.0)[:, None]
        memory = c.mean_memory / c.stride
        weights = decayed_sums(torch.ones_like(x[:, :, 0, :1], dtype=torch.float32), state.weights[0], memory)
        keys, values, totals = [], [], []
        for n, (along_frequency, along_time) in enumerate(zip(self.along_frequency, self.along_time, strict=True)):
            x = along_frequency(x)
            sums = decayed_sums(x[:, :, 0].float(), state.totals[n], memory)
            totals.append(sums[:, -1])
            x = torch.cat(((sums / weights).to(x.dtype)[:, :, None], x[:, :, 1:]), dim=2)
            x, key, value = along_time(x, state.keys[n], state.values[n], unheard)
            keys.append(key)
            values.append(value)
        embeddings, total, weight = self.pool(self.norm(x[:, :, 0]), state.totals[-1], state.weights[1])
        after = State(
            heard=(state.heard + steps).clamp_max(c.memory),
            energy=energy,
            level=level,
            past=tuple(past),
            keys=tuple(keys),
            values=tuple(values),
            totals=(*totals, total),
            weights=(weights[:, -1], weight),
        )
        return embeddings, after

    def hear(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """As :meth:`columns`, with logits ``(batch, time / stride, num_classes)``.

        Raises:
            ValueError: other bands, or no whole columns (not checked while exporting).
        """
        stride = self.config.stride
        if not torch.jit.is_tracing() and (  # type: ignore[attr-defined]
            x.ndim != 3 or x.shape[1] != self.config.n_mels or not x.shape[2] or x.shape[2] % stride
        ):
            raise ValueError(
                f"features have shape {tuple(x.shape)}, expected (batch, {self.config.n_mels}, frames), a multiple of "
                f"{stride} frames"
            )
        embeddings, state = self.columns(x, state)
        return self.head(embeddings), state

    def moments(self, x: Tensor) -> Tensor:
        """Embeddings of a window as of each column's end, ``(batch, time / stride, dim)``."""
        return self.columns(x[..., x.shape[-1] % self.config.stride :])[0]

    def embed(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to ``(batch, dim)``, as of the window's end."""
        return self.moments(x)[:, -1]
