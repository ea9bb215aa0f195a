"""A generated streaming network with a memory of the voice, written without torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from stream_ser.config import FeatureConfig, WindowConfig
from stream_ser.runtime.card.base import Memory, State
from stream_ser.runtime.card.recognition import CARD_KEY, Card

LABELS = ("anger", "disgust", "fear", "happy", "neutral", "sad")
MELS = 24
#: The number of utterances, then a sum of spectra.
SIZE = 1 + MELS
CARD = Card(
    "listener",
    LABELS,
    FeatureConfig(n_mels=MELS, f_min=300.0, f_max=7_000.0),
    (-6.0,) * MELS,
    (3.0,) * MELS,
    WindowConfig(frames=288, hop=24, minimum=48, shortest=24),
    states=(State("heard", "next_heard", (1, MELS)), State("session", "next_session", (1, SIZE))),
    memory=Memory("session", "voice", 2.0, "ab12"),
    licence="MIT",
)


def write_listener(path: Path, *, memory: bool = True, fingerprint: str = "ab12") -> Path:
    """Write an emotion model: a leaky sum of all frames, minus the mean of the session where it has a memory.

    ``logits = W (heard - total / (utterances + 2))``; what an utterance adds to a session is ``(1, heard)``.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    card = replace(CARD, memory=Memory("session", "voice", 2.0, fingerprint))
    if not memory:
        card = replace(CARD, states=CARD.states[:1], memory=None)
    weights = np.random.default_rng(0).standard_normal((MELS, len(LABELS))) / np.sqrt(MELS) * 2
    node, info = helper.make_node, helper.make_tensor_value_info
    constants = {
        "axis2": np.array([2], np.int64),
        "keep": np.array(0.9, np.float32),
        "tenth": np.array(0.1, np.float32),
        "weights": weights.astype(np.float32),
    }
    nodes = [
        node("ReduceMean", ["features", "axis2"], ["mean"], keepdims=0),
        node("Mul", ["mean", "tenth"], ["new"]),
        node("Mul", ["heard", "keep"], ["kept"]),
        node("Add", ["kept", "new"], ["next_heard"]),
    ]
    inputs = [
        info("features", TensorProto.FLOAT, ["batch", MELS, card.window.hop]),
        info("heard", TensorProto.FLOAT, ["batch", MELS]),
    ]
    outputs = [info("logits", TensorProto.FLOAT, ["batch", len(LABELS)])]
    if memory:
        constants |= {
            "from0": np.array([0], np.int64),
            "from1": np.array([1], np.int64),
            "to_end": np.array([SIZE], np.int64),
            "axis1": np.array([1], np.int64),
            "prior": np.array(2.0, np.float32),
            "zero": np.array(0.0, np.float32),
            "one": np.array(1.0, np.float32),
        }
        nodes += [
            node("Slice", ["session", "from0", "from1", "axis1"], ["count"]),
            node("Slice", ["session", "from1", "to_end", "axis1"], ["total"]),
            node("Add", ["count", "prior"], ["divisor"]),
            node("Div", ["total", "divisor"], ["centre"]),
            node("Sub", ["next_heard", "centre"], ["centred"]),
            node("MatMul", ["centred", "weights"], ["logits"]),
            node("Mul", ["count", "zero"], ["no_count"]),
            node("Add", ["no_count", "one"], ["once"]),
            node("Concat", ["once", "next_heard"], ["voice"], axis=1),
            node("Identity", ["session"], ["next_session"]),
        ]
        inputs.append(info("session", TensorProto.FLOAT, ["batch", SIZE]))
        outputs.append(info("voice", TensorProto.FLOAT, ["batch", SIZE]))
    else:
        nodes.append(node("MatMul", ["next_heard", "weights"], ["logits"]))
    outputs.append(info("next_heard", TensorProto.FLOAT, ["batch", MELS]))
    if memory:
        outputs.append(info("next_session", TensorProto.FLOAT, ["batch", SIZE]))
    made = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "listener", inputs, outputs, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    helper.set_model_props(model, {CARD_KEY: card.to_json()})
    onnx.save(model, path)
    return path
