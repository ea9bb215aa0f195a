"""A recogniser of its own in the style of Whisper: it hears a whole clip, then writes it down character by character.

Two convolutions with GELU thin out the log-mel, a transformer encoder listens to all of it, and a decoder attends to
what was heard and to what it has written so far. Beside it, a linear layer on the encoder spells by CTC while it is
trained: without it, attention hardly finds its way from scratch on little data (Watanabe et al. 2017).

References: A. Radford et al., "Robust speech recognition via large-scale weak supervision", ICML 2023; A. Vaswani et
al., "Attention is all you need", NeurIPS 2017; S. Watanabe et al., "Hybrid CTC/attention architecture for end-to-end
speech recognition", IEEE JSTSP 2017.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import check_rate, learnt

#: Class that ends a text. Characters have the classes of the vocabulary, whose blank the decoder has no use for.
END = 0
#: The longest wave of the encoder's positions, in steps.
_LONGEST_WAVE = 10_000.0

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class TranscriberConfig:
    """Settings of :class:`Transcriber`.

    Attributes:
        n_mels: mel bands.
        vocabulary: classes: the end of the text, which is also the blank of CTC, and the characters.
        dim: width.
        heads: of each attention; a divisor of ``dim``.
        encoder_layers: that listen.
        decoder_layers: that write.
        strides: of the two convolutions, 1 to 3; their product is the frames of a step.
        expansion: hidden width of the feed-forward parts, in widths.
        max_tokens: characters of the longest text.
        dropout: of what each part adds, and of attention.

    Raises:
        ValueError: a value out of range.
    """

    n_mels: int = 64
    vocabulary: int = 29
    dim: int = 192
    heads: int = 4
    encoder_layers: int = 4
    decoder_layers: int = 2
    strides: tuple[int, int] = (2, 2)
    expansion: int = 4
    max_tokens: int = 256
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if len(self.strides) != 2 or not 1 <= min(self.strides) <= max(self.strides) <= 3:
            raise ValueError(f"strides {self.strides} must be two numbers from 1 to 3, one a convolution")
        for name in ("n_mels", "heads", "encoder_layers", "decoder_layers", "expansion", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.vocabulary < 2:
            raise ValueError("vocabulary must be at least 2")
        if self.dim < 2 or self.dim % (2 * self.heads):
            raise ValueError(f"dim {self.dim} must be a multiple of twice the heads, {2 * self.heads}")
        check_rate("dropout", self.dropout)

    @property
    def stride(self) -> int:
        """Frames of a step."""
        return self.strides[0] * self.strides[1]


class Memory(NamedTuple):
    """What the decoder attends to, worked out once a clip.

    Attributes:
        keys: of each decoder layer, ``(layers, batch, heads, steps, dim / heads)``.
        values: the same.
        mask: steps that are there, ``(batch, 1, 1, steps)``; None where all are.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None


class Cache(NamedTuple):
    """Keys and values of what was written, ``(layers, batch, heads, room, dim / heads)`` each; zeros at first."""

    keys: Tensor
    values: Tensor


class Attention(nn.Module):
    """Several heads of scaled dot-product attention.

    Args:
        dim: width.
        heads: a part of the width each.
        dropout: of the weights.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(dim, dim)
        # Without a bias, which would add the same to all scores of a query.
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def project(self, x: Tensor) -> Pair:
        """Keys and values ``(batch, heads, time, dim / heads)`` of ``(batch, time, dim)``."""
        return self._split(self.key(x)), self._split(self.value(x))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """What queries ``(batch, time, dim)`` find; ``mask`` is true where one may look, broadcast over heads."""
        rate = self.dropout if self.training else 0.0
        found = functional.scaled_dot_product_attention(self._split(self.query(x)), keys, values, mask, rate)
        out: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return out

    def look(self, x: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        """Log of the first head's weights, ``(batch, time, places)``: where its queries look."""
        queries = self._split(self.query(x))[:, 0]
        scores = ((queries * queries.shape[-1] ** -0.5) @ keys[:, 0].transpose(1, 2)).float()
        if mask is not None:
            scores = scores.masked_fill(~mask[:, 0], -torch.inf)
        return functional.log_softmax(scores, dim=-1)

    def _split(self, x: Tensor) -> Tensor:
        parts: Tensor = x.unflatten(-1, (self.heads, -1))
        return parts.transpose(1, 2)


class _Feed(nn.Sequential):
    def __init__(self, config: TranscriberConfig) -> None:
        inner = config.expansion * config.dim
        super().__init__(
            nn.LayerNorm(config.dim), nn.Linear(config.dim, inner), nn.GELU(), nn.Linear(inner, config.dim)
        )


class EncoderLayer(nn.Module):
    """Attention to the whole clip, then a feed-forward part, both behind a norm.

    Args:
        config: of the network.
    """

    def __init__(self, config: TranscriberConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)
        self.attention = Attention(config.dim, config.heads, config.dropout)
        self.feed = _Feed(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``(batch, steps, dim)``."""
        heard = self.norm(x)
        x = x + self.dropout(self.attention(heard, *self.attention.project(heard), mask))
        out: Tensor = x + self.dropout(self.feed(x))
        return out


class DecoderLayer(nn.Module):
    """Attention to what was written, to what was heard, and a feed-forward part, each behind a norm.

    Args:
        config: of the network.
    """

    def __init__(self, config: TranscriberConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)
        self.attention = Attention(config.dim, config.heads, config.dropout)
        self.cross_norm = nn.LayerNorm(config.dim)
        self.cross = Attention(config.dim, config.heads, config.dropout)
        self.feed = _Feed(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        memory: Pair,
        heard: Tensor | None,
        written: Tensor,
        past: tuple[Tensor, Tensor, Tensor] | None,
        looks: list[Tensor] | None = None,
    ) -> tuple[Tensor, Pair]:
        """One pass over ``(batch, time, dim)``.

        Args:
            x: what is written now.
            memory: keys and values of the clip.
            heard: mask over its steps.
            written: mask over what was written.
            past: earlier keys, earlier values, and true at the places ``(room, 1)`` where those of ``x`` belong; None
                where ``x`` is all that was written.
            looks: gets where it looks in the clip, as :meth:`Attention.look` tells it.

        Returns:
            the same shape, and keys and values of all that was written.
        """
        y = self.norm(x)
        keys, values = self.attention.project(y)
        if past is not None:
            keys, values = torch.where(past[2], keys, past[0]), torch.where(past[2], values, past[1])
        x = x + self.dropout(self.attention(y, keys, values, written))
        asked = self.cross_norm(x)
        if looks is not None:
            looks.append(self.cross.look(asked, memory[0], heard))
        x = x + self.dropout(self.cross(asked, *memory, heard))
        return x + self.dropout(self.feed(x)), (keys, values)


class Transcriber(nn.Module):
    """Log-mel of a clip in; its text out.

    Args:
        config: settings.
    """

    def __init__(self, config: TranscriberConfig) -> None:
        super().__init__()
        c = self.config = config
        self.convolutions = nn.ModuleList(
            nn.Conv1d(inputs, c.dim, 3, stride, padding=1)
            for inputs, stride in zip((c.n_mels, c.dim), c.strides, strict=True)
        )
        self.encoder = nn.ModuleList(EncoderLayer(c) for _ in range(c.encoder_layers))
        self.encoder_norm = nn.LayerNorm(c.dim)
        self.spell = nn.Linear(c.dim, c.vocabulary)
        #: Of the classes, and of the beginning, which comes last. Also what the output is compared with.
        self.embedding = nn.Embedding(c.vocabulary + 1, c.dim)
        nn.init.normal_(self.embedding.weight, std=c.dim**-0.5)
        self.positions = learnt(c.max_tokens + 1, c.dim)
        self.decoder = nn.ModuleList(DecoderLayer(c) for _ in range(c.decoder_layers))
        self.decoder_norm = nn.LayerNorm(c.dim)
        self.dropout = nn.Dropout(c.dropout)

    @property
    def begin(self) -> int:
        """What is written before the first character; never an output."""
        return self.config.vocabulary

    def encode(self, features: Tensor, steps: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Listen to clips.

        Args:
            features: normalised log-mel ``(batch, n_mels, frames)``, whole steps.
            steps: of each clip, ``(batch,)``; what is behind its end is not heard. None where all are equally long.

        Returns:
            ``(batch, steps, dim)`` and the mask over its steps ``(batch, 1, 1, steps)``, None without ``steps``.

        Raises:
            ValueError: another shape (not checked while exporting).
        """
        c = self.config
        if not torch.jit.is_tracing() and (  # type: ignore[attr-defined]
            features.ndim != 3 or features.shape[1] != c.n_mels or not features.shape[2] or features.shape[2] % c.stride
        ):
            raise ValueError(
                f"features have shape {tuple(features.shape)}, expected (batch, {c.n_mels}, frames), a multiple of "
                f"{c.stride} frames"
            )
        x, frames = features, None if steps is None else steps * c.stride
        for convolution, stride in zip(self.convolutions, c.strides, strict=True):
            if frames is not None:
                # A convolution must see the same behind a clip's end as behind that of the longest one: zeros.
                x = x * _before(frames, x.shape[2])[:, None]
                frames = frames // stride
            x = functional.gelu(convolution(x))
        x = x.transpose(1, 2)
        mask = None if steps is None else _before(steps, x.shape[1])[:, None, None]
        x = self.dropout(x + sinusoids(x.shape[1], c.dim, x.device))
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x), mask

    def ctc(self, encoded: Tensor) -> Tensor:
        """Log-probabilities ``(batch, steps, vocabulary)`` of the characters, class 0 being the blank."""
        return functional.log_softmax(self.spell(self.dropout(encoded)).float(), dim=-1)

    def remember(self, encoded: Tensor, mask: Tensor | None = None) -> Memory:
        """What the decoder needs of what :meth:`encode` gave."""
        layers = cast("list[DecoderLayer]", self.decoder)
        keys, values = zip(*(layer.cross.project(encoded) for layer in layers), strict=True)
        return Memory(torch.stack(keys), torch.stack(values), mask)

    def forward(self, memory: Memory, tokens: Tensor, looks: list[Tensor] | None = None) -> Tensor:
        """What follows each token of a known text.

        Args:
            memory: of the clips.
            tokens: ``(batch, length)``, from :attr:`begin` on; at most ``max_tokens + 1``.
            looks: gets where the last layer's first head looks for what follows each token: the log of its weights,
                ``(batch, length, steps)``.

        Returns:
            logits ``(batch, length, vocabulary)``; those at a place hang on tokens up to it.
        """
        length = tokens.shape[1]
        x = self.dropout(self.embedding(tokens) + self.positions[:length])
        places = torch.arange(length, device=tokens.device)
        written = places <= places[:, None]
        for index, layer in enumerate(self.decoder):
            last = index == len(self.decoder) - 1
            pair = memory.keys[index], memory.values[index]
            x, _ = layer(x, pair, memory.mask, written, None, looks if last else None)
        return self._logits(x)

    def start(self, memory: Memory, room: int) -> Cache:
        """An empty cache for texts of up to ``room`` tokens."""
        layers, batch, heads, _, width = memory.keys.shape
        empty = memory.keys.new_zeros(layers, batch, heads, room, width)
        return Cache(empty, empty)

    def step(self, memory: Memory, token: Tensor, place: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """What follows a token, from what was kept of those before it: the same as :meth:`forward` at that place.

        Args:
            memory: of the clips.
            token: ``(batch, 1)``.
            place: of the token, from 0: ``()``.
            cache: after the tokens before.

        Returns:
            logits ``(batch, vocabulary)`` and the cache after the token.
        """
        x = self.embedding(token) + self.positions[place]
        places = torch.arange(cache.keys.shape[3], device=token.device)
        written, now = places <= place, (places == place)[:, None]
        pairs = []
        for index, layer in enumerate(self.decoder):
            past = cache.keys[index], cache.values[index], now
            x, pair = layer(x, (memory.keys[index], memory.values[index]), memory.mask, written[None], past)
            pairs.append(pair)
        keys, values = zip(*pairs, strict=True)
        return self._logits(x)[:, 0], Cache(torch.stack(keys), torch.stack(values))

    def _logits(self, x: Tensor) -> Tensor:
        return functional.linear(self.decoder_norm(x), self.embedding.weight[: self.config.vocabulary]).float()

    @torch.no_grad()
    def greedy(self, features: Tensor, steps: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """Write clips down, always the likeliest character, until the end: after one character a step at the latest.

        Args:
            features: as for :meth:`encode`.
            steps: as there.

        Returns:
            of each clip the tokens ``(length,)``, the last of them :data:`END` unless it was cut off, and the
            log-probability of each.
        """
        memory = self.remember(*self.encode(features, steps))
        batch = features.shape[0]
        if steps is None:
            steps = torch.full((batch,), features.shape[2] // self.config.stride)
        most = steps.to(features.device).clamp_max(self.config.max_tokens) + 1
        room = int(most.max())
        token = most.new_full((batch, 1), self.begin)
        cache = self.start(memory, room)
        tokens, scores = most.new_zeros(batch, room), memory.keys.new_zeros(batch, room)
        lengths = most.clone()
        for place in range(room):
            logits, cache = self.step(memory, token, most.new_tensor(place), cache)
            best = functional.log_softmax(logits, dim=-1).max(dim=-1)
            token = best.indices[:, None]
            tokens[:, place], scores[:, place] = best.indices, best.values
            ended = (best.indices == END) & (lengths > place)
            lengths = torch.where(ended, place + 1, lengths)
            if bool((lengths <= place + 1).all()):
                break
        return [(t[:n], s[:n]) for t, s, n in zip(tokens, scores, lengths.tolist(), strict=True)]


def _before(lengths: Tensor, room: int) -> Tensor:
    """``(batch, room)``, true at places before each length."""
    return torch.arange(room, device=lengths.device) < lengths[:, None]


def sinusoids(length: int, dim: int, device: torch.device) -> Tensor:
    """Positions ``(length, dim)``: sines, then cosines, of wavelengths from ``2 pi`` to ``2 pi 10,000`` steps."""
    half = dim // 2
    rates = torch.exp(-math.log(_LONGEST_WAVE) / max(1, half - 1) * torch.arange(half, device=device))
    angles = torch.arange(length, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
