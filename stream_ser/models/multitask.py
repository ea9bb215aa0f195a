"""One network that hears what is said and how: characters by CTC and the emotion, streaming.

A causal convolution front end thins out time and mel bands, residual LSTM layers follow, and two heads: one spells, the
other takes a running mean over time, weighted by what it attends to and slowly forgetting. Nothing waits for the
future. State goes in and comes out, so that the same :meth:`Multitask.forward` runs on a whole recording and on a
single hop, with the same result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .running import RunningMean


class State(NamedTuple):
    """What a stream leaves for its next chunk; zeros before the first frame.

    Attributes:
        frames: newest input frames, ``(batch, 1, n_mels, kernel - stride)``.
        columns: newest frames after the first convolution, ``(batch, channels, n_mels / 2, kernel - stride)``.
        hidden: of each LSTM layer, ``(layers, batch, width)``.
        cell: of each LSTM layer, ``(layers, batch, width)``.
        total: weighted sum of what the emotion is read from, ``(batch, width)``.
        weight: sum of these weights, ``(batch, heads)``.
    """

    frames: Tensor
    columns: Tensor
    hidden: Tensor
    cell: Tensor
    total: Tensor
    weight: Tensor


@dataclass(frozen=True)
class MultitaskConfig:
    """Settings of :class:`Multitask`.

    Attributes:
        n_mels: mel bands, a multiple of 4.
        num_classes: emotions.
        vocabulary: classes of the CTC head, the blank included.
        channels: of the two convolutions.
        kernels: their lengths in time, not below their strides.
        strides: in time; their product is the frames of a CTC step.
        width: of the LSTM layers.
        layers: of the LSTM.
        heads: that attend to different moments, a part of the width each.
        memory: frames after which a moment counts for the emotion by 1/e.
        dropout: share of the features that is dropped before each layer and head, for a whole clip.

    Raises:
        ValueError: a value out of range.
    """

    n_mels: int = 64
    num_classes: int = 6
    vocabulary: int = 29
    channels: tuple[int, int] = (32, 32)
    kernels: tuple[int, int] = (5, 3)
    strides: tuple[int, int] = (2, 2)
    width: int = 256
    layers: int = 3
    heads: int = 4
    memory: float = 600.0
    dropout: float = 0.15

    def __post_init__(self) -> None:
        for name in ("channels", "kernels", "strides"):
            if len(getattr(self, name)) != 2 or min(getattr(self, name)) < 1:
                raise ValueError(f"{name} must be two positive numbers, one a convolution")
        for name, least in (("num_classes", 2), ("vocabulary", 2), ("width", 1), ("layers", 1), ("heads", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}")
        if self.n_mels < 4 or self.n_mels % 4:
            raise ValueError(f"n_mels {self.n_mels} must be a multiple of 4")
        if any(kernel <= stride for kernel, stride in zip(self.kernels, self.strides, strict=True)):
            raise ValueError(f"kernels {self.kernels} must be longer than strides {self.strides}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if not 0.0 < self.memory < math.inf or not 0.0 <= self.dropout < 1.0:
            raise ValueError("memory must be positive, dropout in [0, 1)")

    @property
    def stride(self) -> int:
        """Frames of a CTC step."""
        return self.strides[0] * self.strides[1]


class ClipDropout(nn.Module):
    """Dropout that drops the same features of a clip at all its steps (Gal & Ghahramani 2016).

    Args:
        share: that is dropped.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, steps, width)``; in evaluation mode as it is."""
        if not self.training or not self.share:
            return x
        return x * functional.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.share)


class CausalConv(nn.Module):
    """A convolution over mel and time that halves the bands and sees no later frame than the last of its step.

    Args:
        inputs: channels.
        outputs: channels.
        kernel: in time; 3 over mel bands.
        stride: in time; 2 over mel bands.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.history = kernel - stride
        self.convolution = nn.Conv2d(inputs, outputs, (3, kernel), (2, stride), padding=(1, 0))

    def forward(self, x: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """``(batch, inputs, mel, time)`` and the frames before it, to ``(batch, outputs, mel / 2, time / stride)``."""
        joined = torch.cat([history, x], dim=-1)
        return functional.silu(self.convolution(joined)), joined[..., -self.history :]


class Multitask(nn.Module):
    """Log-mel in; emotion and characters out.

    Args:
        config: settings.
    """

    def __init__(self, config: MultitaskConfig) -> None:
        super().__init__()
        c = self.config = config
        inputs = (1, c.channels[0])
        self.front = nn.ModuleList(
            CausalConv(*sizes) for sizes in zip(inputs, c.channels, c.kernels, c.strides, strict=True)
        )
        self.project = nn.Linear(c.channels[1] * (c.n_mels // 4), c.width)
        self.norms = nn.ModuleList(nn.LayerNorm(c.width) for _ in range(c.layers))
        self.lstms = nn.ModuleList(nn.LSTM(c.width, c.width, batch_first=True) for _ in range(c.layers))
        self.dropout = ClipDropout(c.dropout)
        self.spoken_norm = nn.LayerNorm(c.width)
        self.spell = nn.Linear(c.width, c.vocabulary)
        #: What the emotion is read from: how much of the front end's and of each layer's output (Peters et al. 2018).
        self.mix = nn.Parameter(torch.zeros(c.layers + 1))
        self.felt_norm = nn.LayerNorm(c.width)
        self.pool = RunningMean(c.width, c.heads, c.memory / c.stride)
        self.head = nn.Linear(c.width, c.num_classes)

    def initial_state(self, batch: int = 1) -> State:
        """The state before the first frame."""
        c, like = self.config, self.head.weight
        past = [kernel - stride for kernel, stride in zip(c.kernels, c.strides, strict=True)]
        return State(
            like.new_zeros(batch, 1, c.n_mels, past[0]),
            like.new_zeros(batch, c.channels[0], c.n_mels // 2, past[1]),
            like.new_zeros(c.layers, batch, c.width),
            like.new_zeros(c.layers, batch, c.width),
            like.new_zeros(batch, c.width),
            like.new_zeros(batch, c.heads),
        )

    def forward(self, features: Tensor, state: State | None = None) -> tuple[Tensor, Tensor, State]:
        """Hear the next chunk.

        Args:
            features: normalised log-mel ``(batch, n_mels, frames)``; frames are one or more whole steps.
            state: what the chunk before returned; None at the beginning.

        Returns:
            emotion as of the chunk's end ``(batch, num_classes)``, log-probabilities of the characters
            ``(batch, frames / stride, vocabulary)``, and the state for the next chunk.

        Raises:
            ValueError: another shape (not checked while exporting).
        """
        logits, log_probs, state = self.steps(features, state)
        return logits[:, -1], log_probs, state

    def steps(self, features: Tensor, state: State | None = None) -> tuple[Tensor, Tensor, State]:
        """As :meth:`forward`, with the emotion as of each step ``(batch, frames / stride, num_classes)``."""
        c = self.config
        if not torch.jit.is_tracing() and (  # type: ignore[attr-defined]
            features.ndim != 3 or features.shape[1] != c.n_mels or not features.shape[2] or features.shape[2] % c.stride
        ):
            raise ValueError(
                f"features have shape {tuple(features.shape)}, expected (batch, {c.n_mels}, frames), a multiple of "
                f"{c.stride} frames"
            )
        state = state or self.initial_state(features.shape[0])
        x, frames = self.front[0](features.unsqueeze(1), state.frames)
        x, columns = self.front[1](x, state.columns)
        x = self.project(x.flatten(1, 2).transpose(1, 2))
        heard, hidden, cell = [x], [], []
        for index, (norm, lstm) in enumerate(zip(self.norms, self.lstms, strict=True)):
            before = state.hidden[index : index + 1].contiguous(), state.cell[index : index + 1].contiguous()
            out, (h, k) = lstm(self.dropout(norm(x)), before)
            x = x + out
            heard.append(x)
            hidden.append(h)
            cell.append(k)
        log_probs = functional.log_softmax(self.spell(self.dropout(self.spoken_norm(x))).float(), dim=-1)
        shares = torch.softmax(self.mix, dim=0)
        mixed = torch.stack([share * part for share, part in zip(shares, heard, strict=True)]).sum(0)
        mean, total, weight = self.pool(self.dropout(self.felt_norm(mixed)), state.total, state.weight)
        logits = self.head(self.dropout(mean)).float()
        return logits, log_probs, State(frames, columns, torch.cat(hidden), torch.cat(cell), total, weight)


def build(config: MultitaskConfig) -> Multitask:
    """An untrained network."""
    return Multitask(config)
