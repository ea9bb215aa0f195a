"""Variants of a model in other precisions: what changes, what does not, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from onnx import numpy_helper  # noqa: E402
from tiny_models import LABELS  # noqa: E402

from stream_ser.config import FeatureConfig, WindowConfig  # noqa: E402
from stream_ser.errors import ModelError, OutputError, TrainError  # noqa: E402
from stream_ser.export import quantize as quantization  # noqa: E402
from stream_ser.export.checkpoints import write_onnx  # noqa: E402
from stream_ser.export.quantize import converted, fuse_gelu, quantize  # noqa: E402
from stream_ser.models.septr import SepTr, SepTrConfig  # noqa: E402
from stream_ser.runtime import engine  # noqa: E402
from stream_ser.runtime.card.recognition import Card  # noqa: E402
from stream_ser.train.data import corpora, splits  # noqa: E402

CONFIG = SepTrConfig(
    num_classes=6, n_mels=64, n_frames=96, patch=(16, 16), stem="conv", stem_channels=(8, 8, 8, 8), dim=16, depth=1,
    heads=2, dim_head=8, mlp_dim=32,
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SepTr with weights drawn at random, as an export wrote it before GELU was one operator."""
    torch.manual_seed(0)
    card = Card(
        "septr",
        LABELS,
        FeatureConfig(),
        (-6.0,) * 64,
        (3.0,) * 64,
        WindowConfig(frames=96, hop=24, minimum=48, shortest=24),
        results={"old": {"uar": 1.0}},
    )
    path = tmp_path_factory.mktemp("quantize") / "septr.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stream_ser.export.graph.OPSET", 18)
        write_onnx(SepTr(CONFIG), card, path)
    return path


@pytest.fixture(scope="module")
def split(tiny_crema_d: Path) -> splits.Split:
    """A few clips: what is measured of a network drawn at random means nothing."""
    whole = splits.fixed([corpora.load("crema-d", tiny_crema_d)])
    return replace(whole, train=whole.train[:4], validation=whole.validation[:3])


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(str(path)).graph.node}


def logits(path: Path) -> np.ndarray:
    loaded = engine.load(path, "cpu")
    windows = np.random.default_rng(1).normal(-6.0, 3.0, (8, 96, 64)).astype(np.float32)
    return np.stack([loaded.logits(window) for window in windows])


def test_gelus_become_one_operator_and_nothing_else_changes(model: Path, tmp_path: Path) -> None:
    graph = onnx.load(str(model))
    erfs = sum(node.op_type == "Erf" for node in graph.graph.node)
    assert fuse_gelu(graph) == erfs > 0
    assert not {"Erf", "Div"} & {node.op_type for node in graph.graph.node}
    assert fuse_gelu(graph) == 0
    made = quantize(model, tmp_path / "out.onnx", "fp32")
    assert made.after.uar is None
    np.testing.assert_allclose(logits(made.path), logits(model), atol=1e-5)


def test_an_export_of_today_has_nothing_to_fuse(model: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    write_onnx(SepTr(CONFIG), engine.load(model, "cpu").card, tmp_path / "today.onnx")
    graph = onnx.load(str(tmp_path / "today.onnx"))
    assert fuse_gelu(graph) == 0
    assert "Gelu" in operators(tmp_path / "today.onnx")
    np.testing.assert_allclose(logits(tmp_path / "today.onnx"), logits(model), atol=1e-5)


def test_what_only_looks_like_a_gelu_is_left_alone(model: Path) -> None:
    graph = onnx.load(str(model))
    for constant in graph.graph.initializer:
        value = numpy_helper.to_array(constant)
        if value.size == 1 and np.isclose(value.item(), 0.5):
            constant.CopyFrom(numpy_helper.from_array(np.full_like(value, 0.6), constant.name))
    nodes = len(graph.graph.node)
    assert fuse_gelu(graph) == 0
    assert len(graph.graph.node) == nodes


@pytest.mark.parametrize(
    ("precision", "operator", "apart"),
    [("int8", "QuantizeLinear", 0.1), ("int8-dynamic", "MatMulInteger", 0.1), ("fp16", "Cast", 0.01)],
)
def test_a_variant_is_a_model_that_says_what_it_is(
    model: Path, split: splits.Split, tmp_path: Path, precision: str, operator: str, apart: float
) -> None:
    made = quantize(model, tmp_path / "out.onnx", precision, split, most_loss=1.0)  # type: ignore[arg-type]
    assert operator in operators(made.path)
    assert made.after.size < made.before.size
    assert made.clips == len(split.validation)
    assert made.after.uar == pytest.approx(made.card.results["quantization"]["uar"])
    card = engine.load(made.path, "cpu").card
    assert card.training["precision"] == precision
    assert set(card.results) == {"quantization"}
    difference = np.abs(logits(made.path) - logits(model)).max()
    assert 0.0 < difference < apart * np.abs(logits(model)).max()
    with pytest.raises(ModelError, match=f"is {precision} already, expected fp32"):
        quantize(made.path, tmp_path / "twice.onnx", precision, split)  # type: ignore[arg-type]


def test_weights_are_quantized_for_each_channel_and_attention_is_not(
    model: Path, split: splits.Split, tmp_path: Path
) -> None:
    made = quantize(model, tmp_path / "out.onnx", "int8", split, most_loss=1.0)
    graph = onnx.load(str(made.path)).graph
    constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    scales = [constants[node.input[1]] for node in graph.node if node.op_type == "DequantizeLinear"]
    assert sum(scale.size > 1 for scale in scales) > 10
    outputs = {output: node for node in graph.node for output in node.output}
    softmaxed = [node for node in graph.node if node.op_type == "MatMul" and node.input[0] in outputs]
    assert any(outputs[node.input[0]].op_type == "Softmax" for node in softmaxed)


def test_ranges_come_from_training_clips_alone(
    model: Path, split: splits.Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Path] = []
    real = quantization.read_blocks
    monkeypatch.setattr(quantization, "read_blocks", lambda path, rate: (heard.append(path), real(path, rate))[1])
    quantize(model, tmp_path / "out.onnx", "int8", split, most_loss=1.0)
    assert heard
    assert set(heard) <= {clip.path for clip in split.train}


def test_too_great_a_loss_writes_nothing(
    model: Path, split: splits.Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.onnx"
    with pytest.raises(TrainError, match=r"fp16 loses .* points of UAR on .* more than -200\.0; nothing was written"):
        quantize(model, out, "fp16", split, most_loss=-2.0)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_is_refused(model: Path, speller: Path, split: splits.Split, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="give --data, or use int8-dynamic"):
        quantize(model, tmp_path / "out.onnx", "int8")
    with pytest.raises(OutputError, match="is the model itself"):
        quantize(model, model, "fp16")
    with pytest.raises(ModelError, match="is of kind 'multitask', expected 'emotion'"):
        quantize(speller, tmp_path / "out.onnx", "fp16")
    with pytest.raises(ModelError, match="cannot be converted to int8"):
        converted(onnx.ModelProto(), "int8", [])


def test_the_command_prints_size_and_speed_and_warns_of_what_is_unknown(
    model: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    out = tmp_path / "small.onnx"
    common = ("export", "--model", "septr", "--from", model)
    code, said, warned = call(*common, "--precision", "int8-dynamic", "--out", out)
    assert code == 0
    assert f"{out}: int8-dynamic, " in said
    assert "times as fast" in said
    assert "what it loses was not measured; give --data" in warned
    for arguments, expected in (
        ((*common, "--precision", "int8"), "give --data"),
        ((*common, "--checkpoint", "x.pt"), "give one"),
        (("export", "--model", "vit", "--from", model, "--precision", "fp16"), "holds a septr, not a vit"),
        (("export", "--model", "separator", "--precision", "fp16"), "for networks of emotion, not for separator"),
    ):
        code, said, warned = call(*arguments)
        assert (code, said) == (2, "")
        assert expected in warned
