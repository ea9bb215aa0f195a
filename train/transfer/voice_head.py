"""The file of a fitted memory of the voice, which ``stream-ser export --memory`` attaches to the network it is of.

Written by ``python -m stream_ser.train.experiments.sessions --run RUN --head FILE``. Read as data, never as code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stream_ser.errors import TrainError
from stream_ser.models.session import SessionHead, VoiceAdapter
from stream_ser.train.checkpoint import read_state
from stream_ser.train.files import write_atomically

FORMAT = "stream-ser voice head 1"
COMMAND = "python -m stream_ser.train.experiments.sessions --run RUN --head FILE"
#: Speech that counts as one utterance, seconds: about what a corpus' clip holds.
FULL_S = 2.0
_DIGITS = 16
_KINDS: tuple[tuple[str, type], ...] = (
    ("network", str),
    ("classes", int),
    ("width", int),
    ("neutral", int),
    ("prior", float),
    ("full_s", float),
    ("weights", dict),
    ("about", dict),
)


@dataclass(frozen=True)
class VoiceHead:
    """A memory of the voice and what it was fitted on.

    Attributes:
        adapter: in evaluation mode.
        network: fingerprint of the network on whose embeddings it was fitted.
        full_s: speech that counts as one utterance, seconds.
        about: corpora, seed and results, for people.
    """

    adapter: VoiceAdapter
    network: str
    full_s: float = FULL_S
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Of the network and the memory together, for the card and for voice profiles."""
        own = _digest(self.adapter.state_dict().items())
        return hashlib.sha256(f"{self.network} {own} {self.full_s}".encode()).hexdigest()[:_DIGITS]


def _digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(tensors):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:_DIGITS]


def fingerprint(network: nn.Module) -> str:
    """A fingerprint of a network's weights."""
    return _digest(network.state_dict().items())


def standardizing(weight: Tensor, bias: Tensor, mean: Tensor, std: Tensor) -> nn.Linear:
    """The affine map ``(weight x + bias - mean) / std`` as one layer.

    Args:
        weight: ``(width, dim)``.
        bias: ``(width,)``.
        mean: as ``bias``.
        std: as ``bias``.
    """
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight / std[:, None])
        layer.bias.copy_((bias - mean) / std)
    return layer


def write(head: VoiceHead, path: Path) -> None:
    """Write the file, whole or not at all."""
    inner = head.adapter.head
    state = {
        "format": FORMAT,
        "network": head.network,
        "classes": inner.classes,
        "width": inner.base.in_features,
        "neutral": inner.neutral,
        "prior": float(inner.prior),
        "full_s": float(head.full_s),
        "weights": dict(head.adapter.state_dict()),
        "about": head.about,
    }
    write_atomically(path, lambda temporary: torch.save(state, temporary))


def read(path: Path) -> VoiceHead:
    """Read a file.

    Raises:
        TrainError: missing, unreadable, damaged or something else.
    """
    state = read_state(path, FORMAT, "the memory of a voice", COMMAND, _KINDS)
    weights: Mapping[str, Any] = state["weights"]
    try:
        head = SessionHead(state["width"], state["classes"], state["prior"], state["neutral"])
        out, dim = weights["features.weight"].shape
        adapter = VoiceAdapter(head, nn.Linear(dim, out))
        adapter.load_state_dict(weights)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError, IndexError):
        raise TrainError(f"{path}: a damaged memory of a voice, its weights do not fit; fit it again") from None
    return VoiceHead(adapter.eval(), state["network"], state["full_s"], state["about"])


def fitting(head: VoiceHead, path: Path, network: nn.Module, dim: int, classes: int) -> VoiceHead:
    """See that a memory belongs to a network.

    Args:
        head: the memory.
        path: of its file, for the message.
        network: what it shall be attached to.
        dim: width of its embedding.
        classes: of it.

    Raises:
        TrainError: it was fitted on another network.
    """
    own = fingerprint(network)
    shape = (head.adapter.features.in_features, head.adapter.head.classes)
    if head.network != own or shape != (dim, classes):
        raise TrainError(
            f"{path}: the memory was fitted on network {head.network} with {shape[0]} numbers and {shape[1]} classes, "
            f"expected {own} with {dim} and {classes}; fit it on this checkpoint: {COMMAND}"
        )
    return head
