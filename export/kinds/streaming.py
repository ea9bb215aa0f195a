"""A network that hears hop by hop as an ONNX graph: a hop and its state in, an answer and the next state out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from stream_ser.export.graph import graph_of
from stream_ser.models.session import VoiceAdapter
from stream_ser.models.streaming_septr import State, StreamingSepTr
from stream_ser.runtime.card.base import State as CardState
from stream_ser.runtime.card.recognition import FEATURES, LOGITS, Card

#: Largest absolute difference of a logit between the whole and hop by hop, in torch and in the file.
TOLERANCE = 1e-5
#: Before the names of the network's weights in a :class:`_Hop`.
_WRAPPED = "network."
#: Windows that are joined to one long stream, many times what the network remembers.
_JOINED = 16
#: Names of a session's input, and of the output that says what an utterance adds to it.
SESSION, VOICE = "session", "voice"


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


class _HopWithMemory(_Hop):
    """The same with a memory of the voice: the session is the last of the states and passes through."""

    def __init__(self, network: StreamingSepTr, adapter: VoiceAdapter) -> None:
        super().__init__(network)
        self.adapter = adapter

    def forward(self, features: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As without, with what the utterance so far adds to the session behind the logits."""
        *own, session = state
        embeddings, after = self.network.columns(features, self.make_up.filled(own))
        embedding = embeddings[:, -1]
        logits, voice = self.adapter(embedding, self.network.head(embedding), session)
        # A graph that hands an input out again is refused by some providers: a copy of it.
        return (logits, voice, *after.flat(), session.clone())


def session_state(adapter: VoiceAdapter) -> CardState:
    """What a card says of the session."""
    return CardState(SESSION, f"next_{SESSION}", tuple(adapter.begin().shape))


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


def hop_graph(network: StreamingSepTr, card: Card, adapter: VoiceAdapter | None = None) -> onnx.ModelProto:
    """The graph of a hop: any number of streams at once, mel and time fixed; with a memory where there is one."""
    state, answers, module = network.initial_state(batch=2).flat(), [LOGITS], _Hop(network)
    if adapter is not None:
        state, answers, module = (*state, adapter.begin(2)), [LOGITS, VOICE], _HopWithMemory(network, adapter)
    example = torch.zeros(2, card.features.n_mels, card.window.hop), state
    names = [(part.input, part.output) for part in card.states]
    inputs, outputs = (list(part) for part in zip(*names, strict=True))
    model = graph_of(module, example, [FEATURES, *inputs], [*answers, *outputs])
    # Weights have the names that they have in the network, by which they come back from the file.
    for constant in model.graph.initializer:
        constant.name = constant.name.removeprefix(_WRAPPED)
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = name.removeprefix(_WRAPPED)
    return model


def memory_nodes(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes of a memory: what depends on the session, and what leads to nothing but the voice.

    They are a hundredth of the work, and differences of squares: another precision would spoil them for nothing.
    """
    graph = model.graph
    found, conditioned = set(), {SESSION}
    for node in graph.node:
        if conditioned & set(node.input):
            conditioned.update(node.output)
            # The sum with the network's own logits, too.
            found.add(node.name)
    others = {output.name for output in graph.output if output.name != VOICE}
    needed = set(others)
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed.update(node.input)
        else:
            found.add(node.name)
    return found


@torch.no_grad()
def largest_difference(
    path: Path, card: Card, network: StreamingSepTr, windows: Tensor, adapter: VoiceAdapter | None = None
) -> float:
    """Largest absolute difference of the logits of the whole from those of torch and of the file hop by hop.

    All windows are streams of their own, heard together and alone; then they are one long stream. With a memory, each
    stream is heard as in a session in which the others came before, and what it changes of the next utterance's
    logits is compared too.

    Args:
        path: ONNX file.
        card: inside it.
        network: in evaluation mode, float32.
        windows: normalised ``(windows, mel, time)``.
        adapter: the memory of the voice, if the file has one.

    Returns:
        the difference after any hop; infinity where anything is not finite.
    """
    hop = card.window.hop
    windows = windows[..., windows.shape[-1] % hop :]
    joined = torch.cat(list(windows[:: max(1, len(windows) // _JOINED)]), dim=-1)[None]
    session = None
    if adapter is not None:
        voices = adapter.voice(network.columns(windows)[0][:, -1])
        session = adapter, voices.sum(dim=0, keepdim=True)
    found = [_differences(path, card, network, part, session) for part in (windows, windows[:1], joined)]
    return float(np.max(found)) if np.isfinite(found).all() else float(np.inf)


def _differences(
    path: Path, card: Card, network: StreamingSepTr, streams: Tensor, memory: tuple[VoiceAdapter, Tensor] | None
) -> float:
    """The same for streams ``(streams, mel, time)`` of whole hops, all at once."""
    hop = card.window.hop
    columns = hop // network.config.stride
    embeddings = network.columns(streams)[0][:, columns - 1 :: columns]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    state, largest = network.initial_state(len(streams)), 0.0
    given = state.flat() if memory is None else (*state.flat(), memory[1].expand(len(streams), -1).contiguous())
    feed = {part.input: tensor.numpy() for part, tensor in zip(card.states, given, strict=True)}
    for place, part in enumerate(streams.split(hop, dim=-1)):
        found, state = network.columns(part, state)
        answer, *after = session.run(None, {FEATURES: part.numpy(), **feed})
        wanted, streamed = (_answers(network, each, memory) for each in (embeddings[:, place], found[:, -1]))
        voice = None if memory is None else torch.from_numpy(after.pop(0))
        answers = [torch.from_numpy(answer), *_next(voice, memory)]
        feed = dict(zip(feed, after, strict=True))
        for expected, ours, theirs in zip(wanted, streamed, answers, strict=True):
            apart = torch.maximum((ours - expected).abs(), (theirs - expected).abs())
            if expected is not wanted[0]:
                # What a session changes may be large: relative to it then.
                apart = apart / expected.abs().clamp_min(1.0)
            if not bool(torch.isfinite(apart).all()):
                return float(np.inf)
            largest = max(largest, float(apart.max()))
    return largest


def _answers(network: StreamingSepTr, embedding: Tensor, memory: tuple[VoiceAdapter, Tensor] | None) -> list[Tensor]:
    """Logits of embeddings ``(streams, dim)``, and with a memory what each changes of the next utterance's."""
    logits = network.head(embedding)
    if memory is None:
        return [logits]
    adapter, session = memory
    logits, voice = adapter(embedding, logits, session.expand(len(embedding), -1))
    return [logits, *_next(voice, memory)]


def _next(voice: Tensor | None, memory: tuple[VoiceAdapter, Tensor] | None) -> list[Tensor]:
    """What a session changes of the logits once ``voice`` ``(streams, size)`` is added to it."""
    if voice is None or memory is None:
        return []
    adapter, session = memory
    return [adapter.head.change(adapter.make_up.filled(session + voice))]
