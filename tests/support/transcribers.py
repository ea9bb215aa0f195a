"""Tiny transcribers for tests: the letter of the loudest of the first bands of a whole clip, then the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stream_ser.config import FeatureConfig
from stream_ser.runtime.card.recognition import CARD_KEY
from stream_ser.runtime.card.transcription import TranscriberCard

LETTERS = ("", " ", "A", "B", "C", "D", "E", "F")
SCORES = (-0.1, -0.3)


def tiny_card(**changes: Any) -> TranscriberCard:
    """Of :func:`write_tiny_transcriber`: clips of up to a second and a half."""
    content = {
        "name": "tiny",
        "features": FeatureConfig(n_mels=24, f_min=300.0, f_max=7_000.0),
        "mean": (-6.0,) * 24,
        "std": (3.0,) * 24,
        "vocabulary": LETTERS,
        "stride": 4,
        "max_frames": 148,
        "max_tokens": 8,
        "licence": "MIT",
    }
    return TranscriberCard(**{**content, **changes})


def write_tiny_transcriber(
    path: Path,
    *,
    card: TranscriberCard | str | None = None,
    scores: tuple[float, ...] = SCORES,
    more: int = 0,
    names: tuple[str, str, str] = ("features", "tokens", "log_probs"),
) -> Path:
    """Write a transcriber.

    Args:
        path: of the ``.onnx`` file.
        card: instead of the one that fits; a text is written as it is.
        scores: of its two tokens.
        more: is added to the letter's class.
        names: of input and outputs.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    shape = tiny_card()
    features, tokens, log_probs = names
    node = helper.make_node
    nodes = [
        node("ReduceMean", [features, "time"], ["mean"], keepdims=0),
        node("Slice", ["mean", "first", "behind", "bands"], ["letters"]),
        node("ArgMax", ["letters"], ["loudest"], axis=1, keepdims=0),
        node("Add", ["loudest", "more"], ["letter"]),
        node("Concat", ["letter", "end"], [tokens], axis=0),
        node("Identity", ["scores"], [log_probs]),
    ]
    whole = {"time": [2], "first": [2], "behind": [len(shape.vocabulary)], "bands": [1], "more": [2 + more], "end": [0]}
    constants = [numpy_helper.from_array(np.array(values, np.int64), name) for name, values in whole.items()]
    constants.append(numpy_helper.from_array(np.array(scores, np.float32), "scores"))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [info(features, TensorProto.FLOAT, [1, shape.features.n_mels, "frames"])],
        [info(tokens, TensorProto.INT64, ["length"]), info(log_probs, TensorProto.FLOAT, ["length"])],
        constants,
    )
    # Not onnx's newest: onnxruntime reads a new version of the format only some releases later.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    text = card if isinstance(card, str) else (card or shape).to_json()
    if text:
        model.metadata_props.add(key=CARD_KEY, value=text)
    onnx.save(model, str(path))
    return path


def tone(letter: str, seconds: float, sample_rate: int = 16_000) -> np.ndarray:
    """A tone in the middle of the band of a letter, ``(time,)`` float32."""
    from stream_ser.features.log_mel import hz_to_mel, mel_to_hz

    features = tiny_card().features
    edges = np.linspace(hz_to_mel(features.f_min), hz_to_mel(features.f_max), features.n_mels + 2)
    hz = float(mel_to_hz(edges[LETTERS.index(letter) + 1]))
    time_s = np.arange(round(seconds * sample_rate)) / sample_rate
    return (0.3 * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)
