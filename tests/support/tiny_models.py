"""Tiny ONNX models with their cards, and the real corpora where they lie beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stream_ser.config import FeatureConfig, WindowConfig
from stream_ser.runtime.card.base import State
from stream_ser.runtime.card.recognition import CARD_KEY, Card

ROOT = Path(__file__).resolve().parents[2]
LABELS = ("anger", "disgust", "fear", "happy", "neutral", "sad")
#: Of :func:`write_streaming_onnx`: hops of 240 ms, steps of 40 ms.
STREAMING_CARD = Card(
    "speller",
    LABELS,
    FeatureConfig(n_mels=24, f_min=300.0, f_max=7_000.0),
    (-6.0,) * 24,
    (3.0,) * 24,
    WindowConfig(frames=288, hop=24, minimum=48, shortest=24),
    kind="multitask",
    states=(State("heard", "next_heard", (1, 24)), State("late", "next_late", (1, 1, 8))),
    vocabulary=("", " ", "A", "B", "C", "D", "E", "F"),
    stride=4,
    delay_frames=4,
    licence="MIT",
)


def shared_data(name: str) -> Path | None:
    """Folder of a real corpus next to the clone, if there is one."""
    folder = ROOT.parent / "shared" / "data" / name
    return folder if folder.is_dir() else None


def write_tiny_onnx(
    path: Path,
    *,
    labels: Sequence[str] = LABELS,
    features: FeatureConfig | None = None,
    window: WindowConfig | None = None,
    seed: int = 0,
    card: Card | str | None = None,
    with_card: bool = True,
    mels: int | None = None,
    outputs: int | None = None,
) -> Path:
    """Write an emotion model: the mean over time, then a matrix drawn with ``seed``.

    Args:
        path: of the ``.onnx`` file.
        labels: of the card.
        features: of the card.
        window: of the card.
        seed: of the weights.
        card: instead of the one that fits; text is written as it is.
        with_card: without it the file has no card at all.
        mels: bands of the graph's input, where they shall differ from the card.
        outputs: of the graph, where they shall differ from the card.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    features, window = features or FeatureConfig(), window or WindowConfig()
    mels, outputs = mels or features.n_mels, outputs or len(labels)
    weights = np.random.default_rng(seed).standard_normal((mels, outputs)).astype(np.float32) / np.sqrt(mels) * 4
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["log_mel", "time"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("log_mel", TensorProto.FLOAT, ["batch", mels, window.frames])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", outputs])],
        [
            numpy_helper.from_array(np.array([2], dtype=np.int64), "time"),
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
        ],
    )
    # Not onnx's newest: onnxruntime reads a new version of the format only some releases later.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    if with_card:
        if card is None:
            bands = features.n_mels
            card = Card("tiny", tuple(labels), features, (-6.0,) * bands, (3.0,) * bands, window, licence="MIT")
        text = card if isinstance(card, str) else card.to_json()
        helper.set_model_props(model, {CARD_KEY: text})
    onnx.save(model, path)
    return path


def write_streaming_onnx(
    path: Path,
    *,
    card: Card | None = None,
    delay_steps: int = 1,
    **changes: Any,
) -> Path:
    """Write a multitask model with a state: a leaky sum of all frames for the emotion, and a speller.

    The speller names the loudest of the first ``len(vocabulary)`` bands a step, ``delay_steps`` later; where a step is
    quiet, all bands alike, it says the blank. ``tones`` in ``test_transcript`` plays on it.

    Args:
        path: of the ``.onnx`` file.
        card: default: one of six labels and the classes blank, space and A to F.
        delay_steps: between what is heard and what is spelt.
        changes: to the default card.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    card = replace(card or STREAMING_CARD, **changes)
    hop, stride, mels, classes = card.window.hop, card.stride, card.features.n_mels, len(card.vocabulary)
    steps = hop // stride
    rng = np.random.default_rng(0)
    weights = (rng.standard_normal((mels, len(card.labels))) / np.sqrt(mels) * 4).astype(np.float32)
    node = helper.make_node
    nodes = [
        # Emotion: an exponentially forgetting sum over hops.
        node("ReduceMean", ["features", "axis2"], ["mean"], keepdims=0),
        node("Mul", ["heard", "keep"], ["kept"]),
        node("Add", ["kept", "mean"], ["next_heard"]),
        node("MatMul", ["next_heard", "weights"], ["logits"]),
        # Speech: (1, mels, hop) -> (1, steps, classes), the blank first.
        node("Slice", ["features", "from0", "to_classes", "axis1"], ["bands"]),
        node("Reshape", ["bands", "in_steps"], ["split"]),
        node("ReduceMean", ["split", "axis3"], ["pooled"], keepdims=0),
        node("Transpose", ["pooled"], ["scores0"], perm=[0, 2, 1]),
        node("Concat", ["late", "scores0"], ["queue"], axis=1),
        node("Slice", ["queue", "from0", "to_steps", "axis1"], ["scores"]),
        node("Slice", ["queue", "to_steps", "to_end", "axis1"], ["next_late"]),
        node("Mul", ["scores", "sharp"], ["sharpened"]),
        node("Add", ["sharpened", "bias"], ["biased"]),
        node("LogSoftmax", ["biased"], ["log_probs"], axis=2),
    ]

    def whole(name: str, *values: int) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(values, np.int64), name)

    def real(name: str, values: Any) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(values, np.float32), name)

    bias = np.zeros(classes)
    bias[card.blank] = 2.0
    constants = [
        *(whole(f"axis{axis}", axis) for axis in (1, 2, 3)),
        whole("from0", 0),
        whole("to_classes", classes),
        whole("to_steps", steps),
        whole("to_end", steps + delay_steps),
        whole("in_steps", 1, classes, steps, stride),
        real("keep", 0.9),
        real("weights", weights),
        real("sharp", 4.0),
        real("bias", bias),
    ]
    shapes = {"features": [1, mels, hop], "heard": [1, mels], "late": [1, delay_steps, classes]}
    outs = {
        "logits": [1, len(card.labels)],
        "log_probs": [1, steps, classes],
        "next_heard": shapes["heard"],
        "next_late": shapes["late"],
    }
    if not card.vocabulary:
        raise ValueError("the graph spells; give a vocabulary")
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "speller",
        [info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [info(name, TensorProto.FLOAT, shape) for name, shape in outs.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    states = (State("heard", "next_heard", (1, mels)), State("late", "next_late", (1, delay_steps, classes)))
    card = replace(card, states=states, delay_frames=delay_steps * stride)
    helper.set_model_props(model, {CARD_KEY: card.to_json()})
    onnx.save(model, path)
    return path
