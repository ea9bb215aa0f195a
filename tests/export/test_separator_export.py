"""A separator's ONNX file: torch, offline and streamed agree; its card is read back and refused where it is wrong."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from cli_fakes import call, one_line  # noqa: F401 - fixtures

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch

from stream_ser.errors import ModelError, TrainError
from stream_ser.export.kinds import separator as export
from stream_ser.models import separator
from stream_ser.models.separator import LSTMMaskConfig, LSTMTasNetConfig, Separator
from stream_ser.runtime import engine
from stream_ser.runtime.card.recognition import Card
from stream_ser.runtime.card.separation import SeparatorCard
from stream_ser.separation.separator import Separator as ProductSeparator
from stream_ser.separation.separator import SeparatorStream
from stream_ser.train.tasks.separation.config import SeparationConfig
from stream_ser.train.tasks.separation.task import FORMAT, SEPARATOR

CONFIGS = {
    "lstm-mask": LSTMMaskConfig(sample_rate=2_000, window=64, hop=16, hidden=5, layers=2),
    "lstm-tasnet": LSTMTasNetConfig(
        sample_rate=2_000, window=32, hop=16, hidden=6, bottleneck=5, basis="learned", channels=9, mask="relu"
    ),
}
CARD = SeparatorCard("two", ("a", "b"), 8_000, 64, 256, (("history", (1, 192)), ("hidden", (1, 1, 8))), licence="MIT")


def checkpoint(folder, name: str, **changes) -> tuple[Separator, str]:
    torch.manual_seed(1)
    config = replace(CONFIGS[name], **changes)
    network = separator.build(name, config).eval()
    state = {
        "format": FORMAT,
        "network": name,
        "config": SeparationConfig(config, network=name).as_dict(),
        "describe": {"data": "x", "split": "y", "held_out": ["z"], "licences": {"x": "MIT"}, "commit": ""},
        "weights": network.state_dict(),
        "average": network.state_dict(),
        "optimizer": {},
        "history": [],
    }
    torch.save(state, folder / SEPARATOR)
    return network, folder / SEPARATOR


@pytest.mark.parametrize("name", CONFIGS)
def test_torch_offline_and_streamed_agree(name, tmp_path):
    network, path = checkpoint(tmp_path, name)
    done = export.export_separator(path, tmp_path / "s.onnx")
    assert max(done.offline, done.streaming) < 1e-5
    assert done.seconds > 1
    file = export.OnnxSeparator(done.path)
    samples = np.random.default_rng(0).standard_normal(30 * 16).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(samples)[None])[0][0].numpy()
    for chunks in ([30], [1], [2, 5, 1]):
        np.testing.assert_allclose(export.stream(file, samples, chunks), expected, atol=1e-5)
    assert file.card.delay == network.config.delay
    assert file.card.sources == ("source_1", "source_2")
    assert [name for name, _ in file.card.state] == ["history", "hidden", "cell", "tail"]
    assert "trained on x: MIT" in file.card.licence
    assert (file.card.name, file.card.training["network"]) == ("separator", name)


def test_the_product_gives_what_torch_gives(tmp_path):
    network, path = checkpoint(tmp_path, "lstm-tasnet")
    export.export_separator(path, tmp_path / "s.onnx")
    separator_ = ProductSeparator(tmp_path / "s.onnx")
    samples = np.random.default_rng(0).standard_normal(1_003).astype(np.float32)
    with torch.no_grad():
        expected = network.separate(torch.from_numpy(samples)[None])[0].numpy()
    for hops, size in ((1, 1_003), (1, 7), (4, 100)):
        stream = SeparatorStream(separator_, hops=hops)
        parts = [stream.push(samples[first : first + size]) for first in range(0, 1_003, size)]
        np.testing.assert_allclose(np.concatenate([*parts, stream.flush()], axis=1), expected, atol=1e-5)


def test_each_kind_finds_its_own_newest_run(tmp_path):
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
    checkpoint(tmp_path / "two", "lstm-mask")
    with pytest.raises(TrainError, match="no enhancer under"):
        export.newest_checkpoint("enhancer", tmp_path)
    checkpoint(tmp_path / "one", "lstm-mask", sources=1)
    assert export.newest_checkpoint("enhancer", tmp_path).parent.name == "one"
    assert export.newest_checkpoint("separator", tmp_path).parent.name == "two"


def test_a_file_that_differs_is_not_written(tmp_path):
    _, path = checkpoint(tmp_path, "lstm-mask")
    with pytest.raises(TrainError, match="nothing was written"):
        export.export_separator(path, tmp_path / "s.onnx", tolerance=-1.0)
    assert {p.name for p in tmp_path.iterdir()} == {SEPARATOR}


def test_the_command_exports(call, tmp_path, monkeypatch):
    (tmp_path / "runs" / "one").mkdir(parents=True)
    checkpoint(tmp_path / "runs" / "one", "lstm-mask")
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("export", "--model", "separator")
    assert code == 0
    assert "latency 32 ms" in out
    assert (tmp_path / "runs" / "one" / "separator.onnx").is_file()
    assert "no such checkpoint" in one_line(call("export", "--model", "separator", "--checkpoint", "nope")[2])
    monkeypatch.chdir(tmp_path / "runs" / "one")
    assert "no separator under runs" in one_line(call("export", "--model", "separator")[2])


def test_no_emotion_is_read_from_a_separator(tmp_path):
    _, path = checkpoint(tmp_path, "lstm-mask")
    export.export_separator(path, tmp_path / "s.onnx")
    with pytest.raises(ModelError, match="network that separates sources, expected one that recognises emotion"):
        engine.Engine(tmp_path / "s.onnx", "cpu")


def test_a_card_survives_json():
    assert SeparatorCard.from_json(CARD.to_json()) == CARD
    with pytest.raises(ModelError, match="expected one that recognises emotion"):
        Card.from_json(CARD.to_json())
    assert asdict(replace(CARD, parameters=3))["parameters"] == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "emotion"}, "kind is 'emotion', expected 'separator'"),
        ({"schema": 99}, "schema 99 is newer"),
        ({"schema": True}, "schema is True"),
        ({"schema": 0}, "expected a whole number from 1 on"),
        ({"sources": []}, "1 to 8 different sources"),
        ({"sources": ["a", "a"]}, "1 to 8 different sources"),
        ({"sources": [1]}, "sources holds 1"),
        ({"sources": ["a\x1b[2J"]}, "control characters"),
        ({"name": ""}, "name '' is not"),
        ({"sample_rate": 8000.5}, "expected int"),
        ({"sample_rate": 1}, "sample_rate is 1, expected 1000 to 192000"),
        ({"window": 100}, "not a larger multiple"),
        ({"window": 64}, "not a larger multiple"),
        ({"state": []}, "1 to 16 states"),
        ({"state": [["mixture", [1]]]}, "different names"),
        ({"state": [["x_out", [1]]]}, "no name of a state"),
        ({"state": [["a b", [1]]]}, "no name of a state"),
        ({"state": [["x", [0]]]}, "positive sizes"),
        ({"state": [["x", [1.5]]]}, "expected a name and its shape"),
        ({"state": [["x", "long"]]}, "expected a name and its shape"),
        ({"state": [["x", [100_000, 100_000]]]}, "holds more than"),
        ({"state": [["x"]]}, "expected a name and its shape"),
        ({"state": "x"}, "state is 'x', expected list"),
        ({"surprise": 1}, "unknown field 'surprise'"),
        ({"licence": None}, "licence is None"),
    ],
)
def test_a_wrong_card_is_refused(change, said):
    with pytest.raises(ModelError, match=said):
        SeparatorCard.from_json(json.dumps({**json.loads(CARD.to_json()), **change}))


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"kind": "separator"}'])
def test_what_is_no_card_is_refused(text):
    with pytest.raises(ModelError, match="card: "):
        SeparatorCard.from_json(text)


def test_each_field_is_needed():
    content = json.loads(CARD.to_json())
    for name in ("name", "sources", "sample_rate", "hop_length", "window", "state"):
        with pytest.raises(ModelError, match="card: "):
            SeparatorCard.from_json(json.dumps({k: v for k, v in content.items() if k != name}))
