"""Tiny separators for tests: each source is the mixture times a factor, late as a real network's frames are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stream_ser.runtime.card.recognition import CARD_KEY
from stream_ser.runtime.card.separation import SeparatorCard

FACTORS = (0.5, -0.25)


def write_tiny_separator(
    path: Path,
    *,
    sample_rate: int = 16_000,
    hop: int = 64,
    window: int = 256,
    factors: Sequence[float] = FACTORS,
    card: SeparatorCard | None = None,
) -> Path:
    """Write a separator whose aligned output is the mixture times each factor; its state is the newest input.

    Args:
        path: of the ``.onnx`` file.
        sample_rate: of the card, Hz.
        hop: of the card.
        window: of the card.
        factors: one a source.
        card: instead of the one that fits.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    delay = window - hop
    nodes = [
        helper.make_node("Concat", ["history", "mixture"], ["joined"], axis=1),
        helper.make_node("Slice", ["joined", "zero", "minus_delay", "axis"], ["late"]),
        helper.make_node("Slice", ["joined", "minus_delay", "end", "axis"], ["history_out"]),
        helper.make_node("Unsqueeze", ["late", "axis"], ["row"]),
        helper.make_node("Mul", ["row", "factors"], ["sources"]),
    ]
    constants = {"zero": [0], "minus_delay": [-delay], "end": [2**31 - 1], "axis": [1]}
    initial = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()]
    initial.append(numpy_helper.from_array(np.array(factors, np.float32)[None, :, None], "factors"))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("mixture", TensorProto.FLOAT, [1, "time"]),
            helper.make_tensor_value_info("history", TensorProto.FLOAT, [1, delay]),
        ],
        [
            helper.make_tensor_value_info("sources", TensorProto.FLOAT, [1, len(factors), "time"]),
            helper.make_tensor_value_info("history_out", TensorProto.FLOAT, [1, delay]),
        ],
        initial,
    )
    # Not onnx's newest: onnxruntime reads a new version of the format only some releases later.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    names = ("speech",) if len(factors) == 1 else tuple(f"source_{n}" for n in range(1, len(factors) + 1))
    card = card or SeparatorCard("tiny", names, sample_rate, hop, window, (("history", (1, delay)),))
    model.metadata_props.add(key=CARD_KEY, value=card.to_json())
    onnx.save(model, str(path))
    return path
