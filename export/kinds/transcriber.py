"""The transcriber as one ONNX file: encoder, and the greedy loop of the decoder as an ONNX ``Loop`` inside the graph.

Two parts are traced, the encoder and one step of the decoder, and put together here: the step becomes the body of the
loop. It carries the last token and a cache of fixed size, takes what the encoder heard from the graph around it, and
leaves a token and its log-probability behind each time, until the token is the end of the text.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.compose import add_prefix_graph
from torch import Tensor, nn

from stream_ser.audio.decode import read_blocks
from stream_ser.config import FeatureConfig
from stream_ser.errors import TrainError
from stream_ser.export.checkpoints import OPSET, keep_checkpoint, temporary_beside, without_folders
from stream_ser.features.log_mel import log_mel
from stream_ser.models.transcriber import END, Cache, Memory, Transcriber, TranscriberConfig
from stream_ser.runtime.card.recognition import CARD_KEY, FEATURES
from stream_ser.runtime.card.transcription import MAX_FRAMES, SCORES, TOKENS, TranscriberCard
from stream_ser.runtime.engine import CPU, open_session
from stream_ser.train.data.normalization import normalize
from stream_ser.train.losses.ctc import Vocabulary
from stream_ser.train.tasks.transcriber.config import TranscriberRun
from stream_ser.train.tasks.transcriber.task import CHECKPOINT, read_checkpoint, trained_network

#: Largest absolute difference of a token's log-probability between torch and the file.
TOLERANCE = 1e-3
#: Seconds of the clips that are compared, cut from the bundled voice, and of noise.
_VERIFIED_S = (0.5, 1.0, 1.7, 2.4, 3.3)
#: Before the names of the loop's body, which share a space with those of the graph around it.
_BODY = "step_"


@dataclass(frozen=True)
class ExportedTranscriber:
    """What an export made.

    Attributes:
        path: the ONNX file.
        card: inside it.
        difference: largest difference of a token's log-probability from torch.
        clips: that were compared.
        tokens: in them.
        rtf: processing time over audio time of the file, one thread.
    """

    path: Path
    card: TranscriberCard
    difference: float
    clips: int
    tokens: int
    rtf: float


class _Listen(nn.Module):
    """The part of the network that is run once."""

    def __init__(self, network: Transcriber) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values that the decoder attends to."""
        memory = self.network.remember(*self.network.encode(features))
        return memory.keys, memory.values


class _Write(nn.Module):
    """One step of the loop."""

    def __init__(self, network: Transcriber) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, place: Tensor, token: Tensor, keys: Tensor, values: Tensor, heard_keys: Tensor, heard_values: Tensor
    ) -> tuple[Tensor, ...]:
        """Whether to go on, the next token, the cache, and the token and its log-probability once more, to keep."""
        memory = Memory(heard_keys, heard_values, None)
        logits, cache = self.network.step(memory, token, place, Cache(keys, values))
        best = torch.log_softmax(logits, dim=-1).max(dim=-1)
        go_on = (best.indices != END).reshape(())
        return go_on, best.indices[:, None], cache.keys, cache.values, best.indices[0], best.values[0]


def newest_checkpoint(runs: Path = Path("runs")) -> Path:
    """The transcriber in ``runs/*/`` that was written last.

    Raises:
        TrainError: there is none.
    """
    found = sorted(runs.glob(f"*/{CHECKPOINT}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise TrainError(
            f"no transcriber under {runs}/ (looked for {runs}/*/{CHECKPOINT}); train one with 'stream-ser train "
            "transcriber' or give --checkpoint"
        )
    return found[-1]


def make_card(state: dict[str, Any], network: Transcriber) -> TranscriberCard:
    """The card of a checkpoint. Results are those of its end; a run that was cut short has none."""
    config = TranscriberRun.from_dict(state["config"])
    vocabulary: Vocabulary = Vocabulary.from_dict(state["vocabulary"])
    stride = config.model.stride
    describe = {name: value for name, value in state["describe"].items() if name != "licences"}
    licences = "; ".join(f"trained on {name}: {terms}" for name, terms in sorted(state["describe"]["licences"].items()))
    return TranscriberCard(
        name="transcriber",
        features=config.features,
        mean=tuple(state["mean"]),
        std=tuple(state["std"]),
        vocabulary=("", *vocabulary.characters),
        stride=stride,
        max_frames=max(stride, min(MAX_FRAMES, int(describe["longest_frames"])) // stride * stride),
        max_tokens=config.model.max_tokens,
        parameters=sum(p.numel() for p in network.parameters()),
        training={
            **describe,
            "epochs": len(state["history"]),
            "model": state["config"]["model"],
            "recipe": state["config"]["train"],
            "augment": without_folders(state["config"]["augment"]),
            "licences": dict(state["describe"]["licences"]),
        },
        results={
            f"{part}_{corpus}": {
                "protocol": f"{describe['split']}; whole clips, greedy",
                **{name: rates[name] for name in ("wer", "cer", "words")},
            }
            for part, scores in state["results"].items()
            for corpus, rates in scores.get("greedy", {}).items()
        },
        licence=f"The corpora's licences bind these weights: {licences}." if licences else "",
    )


def write_onnx(network: Transcriber, card: TranscriberCard, path: Path) -> None:
    """Write the network with its card as one file: a clip in, its tokens and their log-probabilities out."""
    network = network.eval()
    config, steps, room = network.config, 5, 6
    width = config.dim // config.heads
    heard = torch.zeros(config.decoder_layers, 1, config.heads, steps, width)
    cache = torch.zeros(config.decoder_layers, 1, config.heads, room, width)
    listen = _traced(
        _Listen(network),
        (torch.zeros(1, config.n_mels, steps * config.stride),),
        {FEATURES: {2: "frames"}},
        [_BODY + "heard_keys", _BODY + "heard_values"],
        path,
    )
    write = _traced(
        _Write(network),
        (torch.tensor(1), torch.zeros(1, 1, dtype=torch.long), cache, cache, heard, heard),
        {
            "place": {},
            "token": {},
            "keys": {3: "room"},
            "values": {3: "room"},
            "heard_keys": {3: "steps"},
            "heard_values": {3: "steps"},
        },
        ["go_on", "next_token", "next_keys", "next_values", "written", "score"],
        path,
    )
    model = helper.make_model(
        _joined(listen.graph, write.graph, config), opset_imports=listen.opset_import, ir_version=listen.ir_version
    )
    model.producer_name = "stream-ser"
    model.metadata_props.add(key=CARD_KEY, value=card.to_json())
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(path), save_as_external_data=False)


def _traced(
    module: nn.Module, example: tuple[Tensor, ...], inputs: dict[str, dict[int, str]], outputs: list[str], path: Path
) -> onnx.ModelProto:
    """One part as a graph; ``inputs`` names the axes of each that may change."""
    with warnings.catch_warnings():
        # The exporter that torch recommends writes shapes that the body of a loop must not have (torch 2.11).
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            example,
            str(path),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes={name: axes for name, axes in inputs.items() if axes},
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load(str(path))


def _joined(listen: onnx.GraphProto, write: onnx.GraphProto, config: TranscriberConfig) -> onnx.GraphProto:
    """The encoder's graph, an empty cache and the loop over the decoder's step."""
    body = _body(write, config)
    width = config.dim // config.heads
    node = helper.make_node
    # An empty cache, with room for a character a step, but not more than there are positions for, and the end.
    nodes = [
        node("Shape", [_BODY + "heard_keys"], ["steps"], start=3, end=4),
        node("Min", ["steps", "max_tokens"], ["most"]),
        node("Add", ["most", "one"], ["room"]),
        node("Concat", ["before_room", "room", "behind_room"], ["cache_shape"], axis=0),
        node("ConstantOfShape", ["cache_shape"], ["empty"], value=numpy_helper.from_array(np.zeros(1, np.float32))),
        node("Squeeze", ["room"], ["trips"]),
        node(
            "Loop",
            ["trips", "", "begin", "empty", "empty"],
            ["last_token", "last_keys", "last_values", TOKENS, SCORES],
            body=body,
        ),
    ]

    def whole(name: str, values: Any) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(values, np.int64), name)

    constants = [
        whole("max_tokens", [config.max_tokens]),
        whole("one", [1]),
        whole("before_room", [config.decoder_layers, 1, config.heads]),
        whole("behind_room", [width]),
        whole("begin", [[config.vocabulary]]),
    ]
    info = helper.make_tensor_value_info
    return helper.make_graph(
        [*listen.node, *nodes],
        "transcriber",
        [info(FEATURES, TensorProto.FLOAT, [1, config.n_mels, "frames"])],
        [info(TOKENS, TensorProto.INT64, ["length"]), info(SCORES, TensorProto.FLOAT, ["length"])],
        [*listen.initializer, *constants],
    )


def _body(write: onnx.GraphProto, config: TranscriberConfig) -> onnx.GraphProto:
    """The step as a loop wants it: trip, condition and what is carried in; condition, that, and what is kept out."""
    graph = add_prefix_graph(write, _BODY)
    width = config.dim // config.heads
    info = helper.make_tensor_value_info
    cache = [config.decoder_layers, 1, config.heads, "room", width]
    inputs = [
        info(_BODY + "place", TensorProto.INT64, []),
        info(_BODY + "before", TensorProto.BOOL, []),
        info(_BODY + "token", TensorProto.INT64, [1, 1]),
        *(info(_BODY + name, TensorProto.FLOAT, cache) for name in ("keys", "values")),
    ]
    outputs = [
        info(_BODY + "go_on", TensorProto.BOOL, []),
        info(_BODY + "next_token", TensorProto.INT64, [1, 1]),
        *(info(_BODY + name, TensorProto.FLOAT, cache) for name in ("next_keys", "next_values")),
        info(_BODY + "written", TensorProto.INT64, []),
        info(_BODY + "score", TensorProto.FLOAT, []),
    ]
    return helper.make_graph(list(graph.node), "step", inputs, outputs, list(graph.initializer))


Answer = tuple[NDArray[np.int64], NDArray[np.float32]]


def differences(path: Path, network: Transcriber, clips: Sequence[NDArray[np.float32]]) -> tuple[float, int, float]:
    """How far the file is from torch, and its time.

    Args:
        path: ONNX file.
        network: in evaluation mode, float32.
        clips: normalised ``(mel, frames)``, whole steps.

    Returns:
        largest difference of a token's log-probability, infinite where tokens differ or anything is not finite; the
        number of tokens; seconds a frame.
    """
    session = open_session(path, [CPU], 1)
    largest, tokens, frames, took_s = 0.0, 0, 0, 0.0
    for clip in clips:
        features = np.ascontiguousarray(clip[None])
        ((expected, wanted),) = network.greedy(torch.from_numpy(features))
        start = time.perf_counter()
        found, scores = session.run([TOKENS, SCORES], {FEATURES: features})
        took_s += time.perf_counter() - start
        tokens, frames = tokens + len(expected), frames + clip.shape[1]
        if found.tolist() != expected.tolist() or not (np.isfinite(scores).all() and torch.isfinite(wanted).all()):
            return float("inf"), tokens, took_s / frames
        largest = max(largest, float(np.abs(scores - wanted.numpy()).max()))
    return largest, tokens, took_s / frames


def _clips(card: TranscriberCard) -> list[NDArray[np.float32]]:
    """Parts of the bundled voice, and of noise, as the network hears them: ``(mel, frames)``, whole steps."""
    features: FeatureConfig = card.features
    path = Path(str(resources.files("stream_ser.assets") / "demo.flac"))
    voice = np.concatenate(list(read_blocks(path, features.sample_rate)))
    noise = 0.1 * np.random.default_rng(0).standard_normal(len(voice)).astype(np.float32)
    mean, std = np.asarray(card.mean, np.float32), np.asarray(card.std, np.float32)
    found = []
    for sound in (voice, noise):
        columns = log_mel(sound, features)
        first = 0
        for seconds in _VERIFIED_S:
            wanted = min(card.max_frames, round(seconds * features.sample_rate / features.hop_length))
            part = columns[:, first : first + max(card.stride, wanted // card.stride * card.stride)]
            found.append(normalize(torch.from_numpy(part.copy()), features, mean, std).numpy())
            first += part.shape[1]
    return found


def export_transcriber(checkpoint: Path, out: Path, *, tolerance: float = TOLERANCE) -> ExportedTranscriber:
    """Write the averaged network of ``checkpoint`` to ``out``, after proving that it writes what torch writes.

    Raises:
        TrainError: an unreadable checkpoint, another token or a difference above ``tolerance`` (nothing is written
            then).
        OutputError: ``out`` cannot be written, or is the checkpoint.
    """
    keep_checkpoint(out, checkpoint)
    state = read_checkpoint(checkpoint)
    network = trained_network(state)
    card = make_card(state, network)
    clips = _clips(card)
    with temporary_beside(out) as temporary:
        write_onnx(network, card, temporary)
        difference, tokens, seconds = differences(temporary, network, clips)
        if not difference <= tolerance:
            what = "other tokens" if difference == float("inf") else f"log-probabilities {difference:.2e} off"
            raise TrainError(
                f"the ONNX file gives {what} than torch on {len(clips)} clips, tolerance {tolerance:.0e}; nothing was "
                "written"
            )
        os.replace(temporary, out)
    rtf = seconds * card.features.sample_rate / card.features.hop_length
    return ExportedTranscriber(out, card, difference, len(clips), tokens, rtf)
