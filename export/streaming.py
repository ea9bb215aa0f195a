"""A network that hears hop by hop as an ONNX graph: a hop and its state in, an answer and the next state out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from stream_ser.card import FEATURES, LOGITS, Card
from stream_ser.card_parts import State as CardState
from stream_ser.models.streaming_septr import State, StreamingSepTr

from .graph import graph_of

#: Largest absolute difference of a logit between the whole and hop by hop, in torch and in the file.
TOLERANCE = 1e-5
#: Before the names of the network's weights in a :class:`_Hop`.
_WRAPPED = "network."
#: Windows that are joined to one long stream, many times what the network remembers.
_JOINED = 16


class _Hop(nn.Module):
    """The network with its state as plain inputs and outputs, and the newest answer alone."""

    def __init__(self, network: StreamingSepTr) -> None:
        super().__init__()
        self.network = network
        self.make_up = network.initial_state()

    def forward(self, features: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """A hop ``(batch, mel, frames)`` and the state before it, to logits ``(batch, labels)`` and the state after."""
        embeddings, after = self.network.columns(features, self.make_up.filled(state))
        return (self.network.head(embeddings[:, -1]), *after.flat())


def states_of(network: StreamingSepTr) -> tuple[CardState, ...]:
    """What a card says of the network's state."""
    state = network.initial_state()
    names: list[str] = []
    part: Any
    for name, part in zip(State._fields, state, strict=True):
        names += [name] if isinstance(part, Tensor) else [f"{name}_{n}" for n in range(len(part))]
    return tuple(
        CardState(name, f"next_{name}", tuple(tensor.shape)) for name, tensor in zip(names, state.flat(), strict=True)
    )


def hop_graph(network: StreamingSepTr, card: Card) -> onnx.ModelProto:
    """The graph of a hop: any number of streams at once, mel and time fixed."""
    example = torch.zeros(2, card.features.n_mels, card.window.hop), network.initial_state(batch=2).flat()
    names = [(part.input, part.output) for part in card.states]
    inputs, outputs = (list(part) for part in zip(*names, strict=True))
    model = graph_of(_Hop(network), example, [FEATURES, *inputs], [LOGITS, *outputs])
    # Weights have the names that they have in the network, by which they come back from the file.
    for constant in model.graph.initializer:
        constant.name = constant.name.removeprefix(_WRAPPED)
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = name.removeprefix(_WRAPPED)
    return model


@torch.no_grad()
def largest_difference(path: Path, card: Card, network: StreamingSepTr, windows: Tensor) -> float:
    """Largest absolute difference of the logits of the whole from those of torch and of the file hop by hop.

    All windows are streams of their own, heard together and alone; then they are one long stream.

    Args:
        path: ONNX file.
        card: inside it.
        network: in evaluation mode, float32.
        windows: normalised ``(windows, mel, time)``.

    Returns:
        the difference after any hop; infinity where anything is not finite.
    """
    hop = card.window.hop
    windows = windows[..., windows.shape[-1] % hop :]
    joined = torch.cat(list(windows[:: max(1, len(windows) // _JOINED)]), dim=-1)[None]
    found = [_differences(path, card, network, part) for part in (windows, windows[:1], joined)]
    return float(np.max(found)) if np.isfinite(found).all() else float(np.inf)


def _differences(path: Path, card: Card, network: StreamingSepTr, streams: Tensor) -> float:
    """The same for streams ``(streams, mel, time)`` of whole hops, all at once."""
    hop = card.window.hop
    columns = hop // network.config.stride
    whole = network.hear(streams)[0][:, columns - 1 :: columns]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    state, largest = network.initial_state(len(streams)), 0.0
    feed = {part.input: tensor.numpy() for part, tensor in zip(card.states, state.flat(), strict=True)}
    for place, part in enumerate(streams.split(hop, dim=-1)):
        logits, state = network.hear(part, state)
        answer, *after = session.run(None, {FEATURES: part.numpy(), **feed})
        feed = dict(zip(feed, after, strict=True))
        expected = whole[:, place]
        apart = torch.maximum((logits[:, -1] - expected).abs(), (torch.from_numpy(answer) - expected).abs())
        if not bool(torch.isfinite(apart).all()):
            return float(np.inf)
        largest = max(largest, float(apart.max()))
    return largest
