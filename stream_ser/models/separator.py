"""Separators: a mixture in, its sources out, streaming. An LSTM estimates a mask for each source on a basis.

Frame ``i`` covers the samples ``[(i + 1) * hop - window, (i + 1) * hop)``, so nothing waits for the future but the
overlap of the frames: output lags the input by ``window - hop`` samples, and a sample is through after ``window``
samples at most, which is the algorithmic latency. State goes in and comes out; the same :meth:`Separator.forward` runs
on a whole recording and on a single hop, with the same result.

The basis is a DFT written as two matrices (square-root Hann windows on both sides, perfect reconstruction), or learnt
(TasNet, Luo & Mesgarani 2018). Only matrix products, no FFT: every ONNX runtime has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from stream_ser.errors import TrainError

Basis = Literal["stft", "learned"]
Mask = Literal["sigmoid", "relu"]
MAX_LATENCY_MS = 32.0
#: Compression of magnitudes before the network: between the power and the logarithm (as for loudness, Stevens 1957).
_EXPONENT = 0.3
_FLOOR = 1e-10


class State(NamedTuple):
    """What a stream leaves for its next chunk.

    Attributes:
        history: newest input samples, ``(batch, window - hop)``.
        hidden: of each LSTM layer, ``(layers, batch, hidden)``.
        cell: of each LSTM layer, ``(layers, batch, hidden)``.
        tail: output that later frames add to, ``(batch, sources, window - hop)``.
    """

    history: Tensor
    hidden: Tensor
    cell: Tensor
    tail: Tensor


@dataclass(frozen=True)
class SeparatorConfig:
    """Settings that every separator has.

    Attributes:
        sample_rate: Hz.
        sources: that come out; 1 for enhancement, where what is left over is noise.
        window: samples of a frame, a multiple of ``hop``; the algorithmic latency.
        hop: samples from one frame to the next.
        basis: ``stft`` or ``learned``.
        channels: of a learned basis; an STFT has ``window // 2 + 1``.
        hidden: size of the LSTM.
        layers: of the LSTM.
        mask: ``sigmoid``, by which no source gets louder than the mixture, or ``relu``.

    Raises:
        ValueError: a value out of range, or a latency of more than 32 ms.
    """

    sample_rate: int = 8_000
    sources: int = 2
    window: int = 256
    hop: int = 64
    basis: Basis = "stft"
    channels: int = 256
    hidden: int = 8
    layers: int = 1
    mask: Mask = "sigmoid"

    def __post_init__(self) -> None:
        for name, kinds in (("basis", Basis), ("mask", Mask)):
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(get_args(kinds))}")
        for name in ("sample_rate", "sources", "hop", "channels", "hidden", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.window % self.hop or self.window < 2 * self.hop:
            raise ValueError(f"window {self.window} must be a multiple of hop {self.hop}, twice at least")
        if self.latency_ms > MAX_LATENCY_MS:
            raise ValueError(
                f"window {self.window} is a latency of {self.latency_ms:g} ms at {self.sample_rate} Hz, expected "
                f"{MAX_LATENCY_MS:g} ms at most"
            )

    @property
    def delay(self) -> int:
        """Samples by which output lags input."""
        return self.window - self.hop

    @property
    def latency_ms(self) -> float:
        """Longest time from a sample's arrival to that of its output, without computation."""
        return 1000.0 * self.window / self.sample_rate

    @property
    def width(self) -> int:
        """Channels of the masks."""
        return self.window // 2 + 1 if self.basis == "stft" else self.channels


def frame_sizes(sample_rate: int, latency_ms: float = MAX_LATENCY_MS) -> tuple[int, int]:
    """Window and hop for a rate: the largest power of two within the latency, and a quarter of it."""
    window: int = 2 ** math.floor(math.log2(sample_rate * latency_ms / 1000.0))
    return window, window // 4


class STFTBasis(nn.Module):
    """Fourier transform of square-root Hann windowed frames, and back."""

    analysis: Tensor
    synthesis: Tensor

    def __init__(self, window: int, hop: int) -> None:
        super().__init__()
        time = torch.arange(window, dtype=torch.float64)
        bins = torch.arange(window // 2 + 1, dtype=torch.float64)
        root = (0.5 - 0.5 * torch.cos(2.0 * math.pi * time / window)).sqrt()
        angle = 2.0 * math.pi * time[:, None] * bins / window
        # Each bin but the first and, of an even window, the last stands for its mirror image, too.
        twice = torch.full_like(bins, 2.0)
        twice[0] = 1.0
        if window % 2 == 0:
            twice[-1] = 1.0
        waves = torch.cat([angle.cos(), -angle.sin()], dim=1) * root[:, None]
        # Squared, the windows of overlapping frames add up to window / (2 * hop).
        scale = 2.0 * hop / window / window
        self.register_buffer("analysis", waves.float(), persistent=False)
        self.register_buffer("synthesis", (waves * twice.repeat(2) * scale).T.float(), persistent=False)
        self.full_scale = float(2.0 / root.sum())

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames ``(batch, frames, window)`` to what is masked ``(..., 2 * bins)`` and what the network sees."""
        spectrum = frames @ self.analysis
        real, imaginary = spectrum.chunk(2, dim=-1)
        power = (real.square() + imaginary.square()) * self.full_scale**2
        return spectrum, (power + _FLOOR).pow(_EXPONENT / 2.0)

    def decode(self, spectrum: Tensor, masks: Tensor) -> Tensor:
        """Masks ``(batch, frames, sources, bins)`` to frames ``(batch, frames, sources, window)``."""
        return (spectrum.unsqueeze(-2) * torch.cat([masks, masks], dim=-1)) @ self.synthesis


class LearnedBasis(nn.Module):
    """Linear encoder with rectification, linear decoder."""

    def __init__(self, window: int, channels: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(window, channels, bias=False)
        self.decoder = nn.Linear(channels, window, bias=False)

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`STFTBasis.encode`, with ``channels`` in both."""
        activity = functional.relu(self.encoder(frames))
        return activity, activity

    def decode(self, activity: Tensor, masks: Tensor) -> Tensor:
        """As :meth:`STFTBasis.decode`."""
        return self.decoder(activity.unsqueeze(-2) * masks)  # type: ignore[no-any-return]


class Separator(nn.Module):
    """Framing, basis, masks and overlap-add; subclasses implement :meth:`body`."""

    def __init__(self, config: SeparatorConfig) -> None:
        super().__init__()
        self.config = config
        self.basis: STFTBasis | LearnedBasis
        if config.basis == "stft":
            self.basis = STFTBasis(config.window, config.hop)
        else:
            self.basis = LearnedBasis(config.window, config.channels)
        # Over the channels of one frame: causal, blind to the level, and without a sum that grows for days.
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(self.make_body(), config.sources * config.width)

    def make_body(self) -> int:
        """Add the layers between the basis and the masks; their output's width."""
        raise NotImplementedError

    def body(self, features: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features ``(batch, frames, width)`` and the LSTMs' state to the head's input and the state after it."""
        raise NotImplementedError

    def initial_state(self, batch: int = 1) -> State:
        """The state before the first sample: silence."""
        c, like = self.config, self.head.weight
        return State(
            like.new_zeros(batch, c.delay),
            like.new_zeros(c.layers, batch, c.hidden),
            like.new_zeros(c.layers, batch, c.hidden),
            like.new_zeros(batch, c.sources, c.delay),
        )

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Separate the next chunk.

        Args:
            x: ``(batch, time)``; time is one or more hops.
            state: what the chunk before returned; None at the beginning.

        Returns:
            sources ``(batch, sources, time)``, ``delay`` samples late; and the state for the next chunk.

        Raises:
            ValueError: the chunk is no whole number of hops (not checked while exporting).
        """
        c, hop = self.config, self.config.hop
        if not torch.compiler.is_compiling() and (x.ndim != 2 or not x.shape[1] or x.shape[1] % hop):
            raise ValueError(f"input has shape {tuple(x.shape)}, expected (batch, time) with a multiple of {hop}")
        state = state or self.initial_state(x.shape[0])
        ratio = c.window // hop
        joined = torch.cat([state.history, x], dim=1)
        blocks = joined.unflatten(1, (-1, hop))
        # Ends are counted from the end: a traced export keeps no other length than constants.
        frames = torch.cat([blocks[:, k : k - ratio + 1 or None] for k in range(ratio)], dim=2)
        masked, features = self.basis.encode(frames)
        out, hidden, cell = self.body(self.norm(features), state.hidden, state.cell)
        masks = self.head(out).unflatten(-1, (c.sources, c.width))
        masks = torch.sigmoid(masks) if c.mask == "sigmoid" else functional.relu(masks)
        parts = self.basis.decode(masked, masks).transpose(1, 2).unflatten(-1, (ratio, hop))
        # Block k of frame i belongs to the output block i + k.
        padded = [functional.pad(parts[..., k, :], (0, 0, k, ratio - 1 - k)) for k in range(ratio)]
        summed = torch.stack(padded).sum(0).flatten(2)
        summed = torch.cat([summed[..., : c.delay] + state.tail, summed[..., c.delay :]], dim=-1)
        y, tail = summed[..., : -c.delay], summed[..., -c.delay :]
        return y, State(joined[:, -c.delay :], hidden, cell, tail)

    def separate(self, x: Tensor) -> Tensor:
        """Separate whole recordings ``(batch, time)`` of any length; ``(batch, sources, time)``, not delayed."""
        size, delay = x.shape[-1], self.config.delay
        padding = delay + -(size + delay) % self.config.hop
        y = self(functional.pad(x, (0, padding)))[0]
        return y[..., delay : delay + size]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class LSTMMaskConfig(SeparatorConfig):
    """Settings of :class:`LSTMMask`."""


class LSTMMask(Separator):
    """The simple one: a linear layer, an LSTM, a linear layer to the masks."""

    config: LSTMMaskConfig

    def make_body(self) -> int:
        """Linear layer and LSTM."""
        c = self.config
        self.project = nn.Linear(c.width, c.hidden)
        self.lstm = nn.LSTM(c.hidden, c.hidden, c.layers, batch_first=True)
        return c.hidden

    def body(self, features: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All layers at once."""
        out, (hidden, cell) = self.lstm(self.project(features), (hidden, cell))
        return out, hidden, cell


@dataclass(frozen=True)
class LSTMTasNetConfig(SeparatorConfig):
    """Settings of :class:`LSTMTasNet`.

    Attributes:
        bottleneck: width of the path that the layers add to.
    """

    hidden: int = 384
    layers: int = 2
    bottleneck: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bottleneck < 1:
            raise ValueError("bottleneck must be at least 1")


class LSTMTasNet(Separator):
    """Causal LSTM-TasNet: layers of norm, LSTM and projection, each added to what it was given."""

    config: LSTMTasNetConfig

    def make_body(self) -> int:
        """Bottleneck and residual LSTM layers."""
        c = self.config
        self.project = nn.Linear(c.width, c.bottleneck)
        self.norms = nn.ModuleList(nn.LayerNorm(c.bottleneck) for _ in range(c.layers))
        self.lstms = nn.ModuleList(nn.LSTM(c.bottleneck, c.hidden, batch_first=True) for _ in range(c.layers))
        self.projections = nn.ModuleList(nn.Linear(c.hidden, c.bottleneck) for _ in range(c.layers))
        return c.bottleneck

    def body(self, features: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Layer by layer."""
        x = self.project(features)
        states = []
        for index, (norm, lstm, projection) in enumerate(zip(self.norms, self.lstms, self.projections, strict=True)):
            before = hidden[index : index + 1].contiguous(), cell[index : index + 1].contiguous()
            out, after = lstm(norm(x), before)
            x = x + projection(out)
            states.append(after)
        return x, torch.cat([h for h, _ in states]), torch.cat([c for _, c in states])


@dataclass(frozen=True)
class SeparatorKind:
    """A kind of separator: its settings and what is built from them."""

    config: type[SeparatorConfig]
    module: Callable[..., Separator]


#: By name, apart from stream_ser.models.registry: those networks classify windows.
SEPARATORS: dict[str, SeparatorKind] = {
    "lstm-mask": SeparatorKind(LSTMMaskConfig, LSTMMask),
    "lstm-tasnet": SeparatorKind(LSTMTasNetConfig, LSTMTasNet),
}


def kind_of(name: str) -> SeparatorKind:
    """A kind of separator by its name.

    Raises:
        TrainError: unknown name.
    """
    if name not in SEPARATORS:
        raise TrainError(f"unknown separator {name!r}; known: {', '.join(SEPARATORS)}")
    return SEPARATORS[name]


def build(name: str, config: SeparatorConfig) -> Separator:
    """An untrained separator.

    Raises:
        TrainError: unknown name, or settings of another one.
    """
    kind = kind_of(name)
    if type(config) is not kind.config:
        raise TrainError(f"{name} is built from a {kind.config.__name__}, not from a {type(config).__name__}")
    return kind.module(config)
