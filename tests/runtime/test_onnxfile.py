"""What an ONNX file may refer to; the files are made with onnx, the bytes of odd ones by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_ser.errors import ModelError
from stream_ser.runtime import engine, onnx_scan
from stream_ser.runtime.card.recognition import CARD_KEY
from stream_ser.runtime.onnx_scan import read_metadata, scan
from stream_ser.separation.separator import bundled_separators

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


@pytest.fixture
def changed(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Path]:
    """``changed(edit)`` writes the tiny model after ``edit(model)``; onnxruntime must not see it."""

    def never(*_: object) -> None:
        raise AssertionError("onnxruntime saw the file")

    monkeypatch.setattr(engine, "open_session", never)

    def write(edit: Callable[[Any], object]) -> Path:
        model = onnx.load(tiny_model)
        edit(model)
        path = tmp_path / "changed.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


def external(name: str = "w") -> Any:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[64, 6], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def subgraph(node: Any = None, tensor: Any = None) -> Any:
    nodes = [node or helper.make_node("Identity", ["log_mel"], ["x"])]
    return helper.make_graph(nodes, "sub", [], [], [tensor] if tensor else [])


def nested(graph: Any, levels: int) -> Any:
    """An If whose branch holds an If, and so on, around ``graph``."""
    node = None
    for _ in range(levels):
        node = helper.make_node("If", ["x"], ["y"])
        node.attribute.append(helper.make_attribute("then_branch", graph))
        graph = subgraph(node)
    return node


def test_the_metadata_of_a_good_file(tiny_model: Path) -> None:
    assert set(read_metadata(tiny_model)) == {CARD_KEY}


def test_the_bundled_models_pass() -> None:
    for path in (*engine.bundled(), *bundled_separators()):
        assert CARD_KEY in read_metadata(path)


def test_weights_saved_beside_the_file_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    """As onnx itself writes them."""
    path = tmp_path / "beside.onnx"
    onnx.save(onnx.load(tiny_model), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").exists()
    with pytest.raises(ModelError, match=r"beside\.onnx: keeps weights in another file .*save_as_external_data=False"):
        engine.load(path, "cpu")


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m.graph.initializer.append(external()),
        lambda m: m.graph.sparse_initializer.add(values=external()),
        lambda m: m.graph.sparse_initializer.add(indices=external()),
        lambda m: m.graph.node[0].attribute.append(helper.make_attribute("value", external())),
        lambda m: m.graph.node[0].attribute.append(helper.make_attribute("values", [external()])),
        lambda m: m.graph.node.append(nested(subgraph(tensor=external()), 1)),
        lambda m: m.graph.node.append(nested(subgraph(tensor=external()), 8)),
        lambda m: m.graph.node[0].attribute.append(helper.make_attribute("bodies", [subgraph(tensor=external())])),
        lambda m: m.training_info.add(algorithm=subgraph(tensor=external())),
        lambda m: m.functions.add(
            name="f", domain="own", node=[helper.make_node("Constant", [], ["x"], value=external())]
        ),
        lambda m: m.functions.add(name="f", domain="own", attribute_proto=[helper.make_attribute("a", external())]),
        # The location alone, and the list alone.
        lambda m: m.graph.initializer.add(name="w", data_location=TensorProto.EXTERNAL),
        lambda m: m.graph.initializer.add(name="w").external_data.add(key="location", value="x"),
    ],
)
def test_external_data_is_refused_wherever_it_hides(changed: Any, edit: Any) -> None:
    with pytest.raises(ModelError, match="keeps weights in another file"):
        engine.load(changed(edit), "cpu")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda m: m.graph.node.add(op_type="Run", domain="evil.corp"),
            "uses a custom operator, 'Run' of the domain 'evil.corp', expected standard ONNX operators only",
        ),
        (lambda m: m.graph.node.append(nested(subgraph(helper.make_node("Run", [], [], domain="x")), 3)), "'Run' of"),
        (lambda m: m.training_info.add(initialization=subgraph(helper.make_node("Run", [], [], domain="x"))), "'Run'"),
        (lambda m: m.functions.add(name="f", domain="own", node=[helper.make_node("g", [], [], domain="x")]), "'g' of"),
        # A function that calls itself, or another: no end, or none that is worth finding.
        (lambda m: m.functions.add(name="f", domain="own", node=[helper.make_node("f", [], [], domain="own")]), "'f'"),
        (lambda m: m.functions.add(name="Add", domain=""), "redefines operators of the domain 'ai.onnx'"),
        (lambda m: m.graph.node.add(op_type="EPContext", domain="com.microsoft"), "reaches outside the file, 'EPC"),
        (lambda m: m.graph.node.add(op_type="Run", domain="a\x1b[2Jb"), r"'a\\x1b\[2Jb'"),
    ],
)
def test_foreign_operators_are_refused(changed: Any, edit: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        engine.load(changed(edit), "cpu")
    assert str(caught.value).isprintable()


def test_operators_of_quantised_networks_and_own_functions_pass(changed: Any) -> None:
    def edit(model: Any) -> None:
        model.graph.node.add(op_type="QGemm", domain="com.microsoft")
        model.graph.node.add(op_type="Scaler", domain="ai.onnx.ml")
        model.graph.node.add(op_type="Twice", domain="own")
        model.functions.add(name="Twice", domain="own", node=[helper.make_node("Add", ["x", "x"], ["y"])])

    read_metadata(changed(edit))


def test_subgraphs_nest_only_so_deep(changed: Any) -> None:
    with pytest.raises(ModelError, match="nested deeper than 40 levels"):
        read_metadata(changed(lambda m: m.graph.node.append(nested(subgraph(), 14))))


def test_two_cards_are_refused(changed: Any) -> None:
    with pytest.raises(ModelError, match="names a key twice"):
        engine.load(changed(lambda m: m.metadata_props.add(key=CARD_KEY, value="{}")), "cpu")


def test_what_kills_onnxruntime_does_not_reach_it(changed: Any) -> None:
    """Found by the fuzz test: an optional input that is written as empty, which ONNX allows."""
    with pytest.raises(ModelError, match="LayerNormalization with an input that is left empty"):
        engine.load(
            changed(lambda m: m.graph.node.append(helper.make_node("LayerNormalization", ["a", "b", ""], ["c"]))), "cpu"
        )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no graph in it"),
        (b"\x08\x07", "no graph in it"),
        (b"\x3a", "cut off inside a number"),
        (b"\x3a\xff\xff\xff\xff\x0f", "cut off: 4294967295 bytes announced, 0 there"),
        (b"\x08" + b"\xff" * 11, "a number of more than 64 bits"),
        (b"\x3b\x00", "a field of wire type 3"),
        (b"\x02\x00", "a field of number 0"),
        (b"\x3a\x04\x0a\x02\x22\x7f", "cut off: 127 bytes announced"),
        (b"\x3a\x06\x0a\x04\x22\x02\xff\xfe", "text that is not UTF-8"),
        (b"ORTM" + bytes(60), "not a readable ONNX model"),
    ],
)
def test_what_is_no_onnx_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        scan(data, "x.onnx")


def test_onnxruntimes_own_format_is_not_read_by_its_suffix(tiny_model: Path, tmp_path: Path) -> None:
    """A file .ort would be read as a flatbuffer, of which nothing was checked."""
    import shutil

    path = Path(shutil.copy(tiny_model, tmp_path / "tiny.ort"))
    assert engine.load(path, "cpu").provider == engine.CPU


def test_huge_metadata_and_files_are_refused(changed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = changed(lambda m: m.metadata_props.add(key="x", value="y" * (onnx_scan.MAX_METADATA_BYTES + 1)))
    with pytest.raises(ModelError, match="bytes of metadata"):
        read_metadata(path)
    monkeypatch.setattr(onnx_scan, "MAX_BYTES", 1_000)
    with pytest.raises(ModelError, match="at most 2 GiB"):
        read_metadata(path)


def test_no_permission_is_one_line(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ModelError, match="cannot be read \\(Permission denied\\); check its permissions"):
        engine.load(tiny_model, "cpu")


def test_an_output_of_another_length_than_declared_is_no_score(tiny_model: Path, tmp_path: Path) -> None:
    """The graph declares six values and computes twelve."""
    model = onnx.load(tiny_model)
    weights = model.graph.initializer[1]
    twice = np.tile(numpy_helper.to_array(weights), (1, 2))
    weights.CopyFrom(numpy_helper.from_array(twice, weights.name))
    path = tmp_path / "long.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"long\.onnx"):
        engine.load(path, "cpu")
