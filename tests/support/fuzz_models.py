"""Damaged cards and models by number, as in ``fuzz_audio``.

``python tests/support/fuzz_models.py model 123 FILE`` writes case 123 into a file; so does ``card``.
"""

from __future__ import annotations

import copy
import json
import random
import struct
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_audio import blank, flip_bits, insert, remove, repeat, truncate

from stream_ser.config import FeatureConfig, WindowConfig
from stream_ser.runtime.card.base import State
from stream_ser.runtime.card.recognition import CARD_KEY, Card

# --- cards --------------------------------------------------------------------------------------------------

_WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    10**400,
    1e308,
    1e-320,
    -0.0,
    float("nan"),
    float("inf"),
    "",
    "x",
    "1",
    "\x1b[2J",
    "\ud800",
    "x" * 100_000,
    [],
    [1],
    ["a", "a"],
    [[]],
    {},
    {"a": 1},
    {"": {"\0": []}},
)
_STREAMING: dict[str, Any] = {
    "kind": "multitask",
    "states": (State("heard", "next_heard", (1, 1, 5)),),
    "vocabulary": ("", " ", "A", "B", "C"),
    "stride": 2,
    "delay_frames": 3,
}


def card_text(streaming: bool = False) -> str:
    """An intact card."""
    features = FeatureConfig(n_mels=4)
    window = WindowConfig(frames=40, hop=10, minimum=20, shortest=10)
    more = {"window": window, **_STREAMING} if streaming else {}
    return Card("tiny", ("a", "b"), features, (0.0,) * 4, (1.0,) * 4, training={"corpora": {"x": 1}}, **more).to_json()


def card_case(number: int) -> str:
    """Text of a card with another value somewhere, or with damaged characters."""
    rng = random.Random(number)
    text = card_text(streaming=rng.random() < 0.5)
    if rng.random() < 0.2:
        return flip_bits(rng, truncate(rng, text.encode()) if rng.random() < 0.5 else text.encode()).decode("latin-1")
    content = json.loads(text)
    for _ in range(rng.choice((1, 1, 2))):
        here: Any = content
        while True:
            keys = list(here) if isinstance(here, dict) else list(range(len(here)))
            key = rng.choice(keys)
            if isinstance(here[key], dict | list) and here[key] and rng.random() < 0.7:
                here = here[key]
                continue
            break
        act = rng.random()
        if act < 0.1:
            del here[key]
        elif act < 0.2 and isinstance(here, dict):
            here[rng.choice(("surprise", "\x07", "__class__", ""))] = copy.deepcopy(rng.choice(_WRONG))
        elif act < 0.3 and isinstance(here, list):
            here.extend([copy.deepcopy(rng.choice(_WRONG))] * rng.choice((1, 300)))
        else:
            here[key] = copy.deepcopy(rng.choice(_WRONG))
        if not content:
            break
    return json.dumps(content)


# --- models -------------------------------------------------------------------------------------------------


@cache
def model_seeds() -> tuple[bytes, ...]:
    """Serialised networks of different operators, all of which load and run."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    features, window = FeatureConfig(n_mels=8), WindowConfig(frames=40, hop=10, minimum=20, shortest=10)
    card = Card("tiny", ("a", "b"), features, (0.0,) * 8, (1.0,) * 8, window)
    speaking = replace(card, **_STREAMING)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)

    def whole(name: str, *values: int) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(values, np.int64), name)

    def model(nodes: list[Any], constants: list[Any], functions: tuple[Any, ...] = ()) -> bytes:
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("log_mel", TensorProto.FLOAT, ["batch", 8, 40])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
            constants,
        )
        opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid("own", 1)] if functions else [])]
        return finished(helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=functions), card)

    def finished(made: Any, about: Card) -> bytes:
        onnx.checker.check_model(made)
        helper.set_model_props(made, {CARD_KEY: about.to_json()})
        return bytes(made.SerializeToString())

    def tensors(**shapes: list[int]) -> list[Any]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

    node = helper.make_node
    flat = [node("ReduceMean", ["log_mel", "time"], ["mean"], keepdims=0), node("MatMul", ["mean", "w"], ["logits"])]
    shrink = [node("Gemm", ["flat", "g"], ["logits"], transB=1)]
    branch = helper.make_graph(
        [node("Identity", ["logits0"], ["out"])],
        "branch",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    halve = helper.make_function(
        "own", "Halve", ["x"], ["y"], [node("Add", ["x", "x"], ["y"])], [helper.make_opsetid("", 18)]
    )
    streaming = helper.make_graph(
        [
            node("Transpose", ["features"], ["t"], perm=[2, 0, 1]),
            node("GRU", ["t", "W", "R", "B", "", "heard"], ["all", "next_heard"], hidden_size=5),
            node("Squeeze", ["next_heard", "zero"], ["flat"]),
            node("Gemm", ["flat", "g"], ["logits"], transB=1),
            node("Squeeze", ["all", "one"], ["frames"]),
            node("Transpose", ["frames"], ["turned"], perm=[1, 0, 2]),
            node("Slice", ["turned", "zero", "ten", "one", "two"], ["steps"]),
            node("LogSoftmax", ["steps"], ["log_probs"], axis=2),
        ],
        "streaming",
        tensors(features=[1, 8, 10], heard=[1, 1, 5]),
        tensors(logits=[1, 2], log_probs=[1, 5, 5], next_heard=[1, 1, 5]),
        [
            *(whole(name, value) for name, value in (("zero", 0), ("one", 1), ("two", 2), ("ten", 10))),
            *(weight(name, 1, 15, size) for name, size in (("W", 8), ("R", 5))),
            weight("B", 1, 30),
            weight("g", 2, 5),
        ],
    )
    return (
        finished(
            helper.make_model(streaming, opset_imports=[helper.make_opsetid("", 18)], ir_version=9),
            speaking,
        ),
        model(flat, [whole("time", 2), weight("w", 8, 2)]),
        model(
            [
                node("Unsqueeze", ["log_mel", "one"], ["image"]),
                node("Conv", ["image", "k", "b"], ["c"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, group=1),
                node("Relu", ["c"], ["r"]),
                node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
                node("Reshape", ["p", "shape"], ["flat"]),
                *shrink,
            ],
            [whole("one", 1), weight("k", 4, 1, 3, 3), weight("b", 4), whole("shape", 0, 80), weight("g", 2, 80)],
        ),
        model(
            [
                node("Transpose", ["log_mel"], ["t"], perm=[2, 0, 1]),
                node("LSTM", ["t", "W", "R", "B"], ["", "last"], hidden_size=5),
                node("Squeeze", ["last", "zero"], ["flat"]),
                *shrink,
            ],
            [whole("zero", 0), weight("W", 1, 20, 8), weight("R", 1, 20, 5), weight("B", 1, 40), weight("g", 2, 5)],
        ),
        model(
            [
                node("ReduceMean", ["log_mel", "time"], ["mean"], keepdims=0),
                node("MatMul", ["mean", "w"], ["logits0"]),
                node("Greater", ["pick", "none"], ["yes"]),
                node("If", ["yes"], ["logits"], then_branch=branch, else_branch=branch),
            ],
            [
                whole("time", 2),
                weight("w", 8, 2),
                numpy_helper.from_array(np.array(1.0, np.float32), "pick"),
                numpy_helper.from_array(np.array(0.0, np.float32), "none"),
            ],
        ),
        model(
            [
                node("Slice", ["log_mel", "from", "to", "axes", "steps"], ["s"]),
                node("LayerNormalization", ["s", "scale"], ["n"], axis=-1),
                node("Softmax", ["n"], ["m"], axis=1),
                node("Split", ["m", "parts"], ["first", "second"], axis=1),
                node("Concat", ["second", "first"], ["j"], axis=1),
                node("Gather", ["j", "index"], ["h"], axis=2),
                node("Pad", ["h", "pads"], ["q"]),
                node("Reshape", ["q", "shape"], ["flat"]),
                *shrink,
            ],
            [
                whole("from", 0),
                whole("to", 20),
                whole("axes", 2),
                whole("steps", 2),
                weight("scale", 10),
                whole("parts", 3, 5),
                whole("index", 0, 3, 9),
                whole("pads", 0, 0, 1, 0, 0, 1),
                whole("shape", 0, 40),
                weight("g", 2, 40),
            ],
        ),
        model(
            [flat[0], node("MatMul", ["mean", "w"], ["l"]), node("Halve", ["l"], ["logits"], domain="own")],
            [whole("time", 2), weight("w", 8, 2)],
            (halve,),
        ),
    )


def model_case(number: int) -> bytes:
    """A serialised network with damaged bytes, a damaged card, or another number or name in its graph."""
    rng = random.Random(number)
    data = rng.choice(model_seeds())
    act = rng.random()
    if act < 0.35:
        for _ in range(rng.choice((1, 1, 2, 5))):
            if rng.random() < 0.3:
                data = rng.choice((truncate, remove, insert, repeat, blank))(rng, data)
            elif data:  # anywhere: a graph is header throughout
                changed = bytearray(data)
                changed[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
                data = bytes(changed)
        return data
    import onnx

    model = onnx.ModelProto.FromString(data)
    if act < 0.45:
        model.metadata_props[0].value = card_case(number).encode("utf-8", "replace").decode()
        return bytes(model.SerializeToString())
    for _ in range(rng.choice((1, 1, 2))):
        _change_graph(rng, model)
    return bytes(model.SerializeToString())


_WHOLE_NUMBERS = (-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 7, 100, 65_537, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1)
_OPERATORS = (
    "Conv",
    "LSTM",
    "Add",
    "Reshape",
    "Gather",
    "Loop",
    "Scan",
    "MatMul",
    "ConvTranspose",
    "Resize",
    "TopK",
    "Einsum",
    "QLinearConv",
    "NonMaxSuppression",
    "Tile",
    "Expand",
    "Unique",
    "GRU",
    "Nothing",
    "",
)


def _change_graph(rng: random.Random, model: Any) -> None:
    graph = model.graph
    node = rng.choice(graph.node)
    act = rng.randrange(9)
    if act == 0 and node.attribute:
        attribute = rng.choice(node.attribute)
        if attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(_WHOLE_NUMBERS)
        else:
            attribute.i = rng.choice(_WHOLE_NUMBERS)
    elif act == 1:
        tensor = rng.choice(graph.initializer)
        if tensor.dims and rng.random() < 0.7:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_WHOLE_NUMBERS)
        else:
            tensor.dims.append(rng.choice(_WHOLE_NUMBERS))
    elif act == 2:
        wholes = [t for t in graph.initializer if t.data_type == 7 and t.raw_data]
        if wholes:
            tensor = rng.choice(wholes)
            tensor.raw_data = b"".join(
                struct.pack("<q", rng.choice(_WHOLE_NUMBERS)) for _ in range(len(tensor.raw_data) // 8)
            )
    elif act == 3:
        rng.choice(graph.initializer).data_type = rng.randrange(0, 26)
    elif act == 4:
        node.op_type = rng.choice(_OPERATORS)
    elif act == 5 and node.input:
        others = [name for other in graph.node for name in (*other.input, *other.output)]
        node.input[rng.randrange(len(node.input))] = rng.choice([*others, "", "nowhere"])
    elif act == 6:
        rng.choice((node.input, node.output)).append(rng.choice(("", "logits", "log_mel", "x")))
    elif act == 7:
        name = rng.choice(
            ("group", "axis", "dilations", "auto_pad", "direction", "ceil_mode", "storage_order", "count")
        )
        attribute = node.attribute.add()
        attribute.name, attribute.type = name, rng.choice((2, 7, 3))
        if attribute.type == 2:
            attribute.i = rng.choice(_WHOLE_NUMBERS)
        elif attribute.type == 7:
            attribute.ints.extend(rng.choice(_WHOLE_NUMBERS) for _ in range(rng.choice((0, 1, 2, 4))))
        else:
            attribute.s = rng.choice((b"", b"SAME_UPPER", b"bidirectional", b"\xff"))
    else:
        parts = (graph.node, graph.initializer, graph.input, graph.output, model.opset_import)
        del rng.choice([part for part in parts if len(part) > (part is graph.node)] or [graph.node])[0]


if __name__ == "__main__":
    made = model_case if sys.argv[1] == "model" else card_case
    data = made(int(sys.argv[2]))
    Path(sys.argv[3]).write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
