"""The multitask network's ONNX file: torch whole, torch hop by hop and ONNX agree; the runtime hears with it."""

from __future__ import annotations

import numpy as np
import pytest
from cli_fakes import call, one_line  # noqa: F401 - fixtures

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch

from stream_ser.errors import OutputError, TrainError
from stream_ser.export.kinds import multitask as export
from stream_ser.features.log_mel import log_mel
from stream_ser.models.multitask import Multitask, MultitaskConfig
from stream_ser.runtime.engine import Engine
from stream_ser.train.losses.ctc import ENGLISH
from stream_ser.train.metrics import softmax
from stream_ser.train.tasks.multitask.config import MultitaskRun
from stream_ser.train.tasks.multitask.task import CHECKPOINT, FORMAT

MODEL = MultitaskConfig(channels=(3, 4), width=12, layers=2, heads=2)
EMOTION = {"uar": 0.5, "wa": 0.5, "f1": 0.5, "clips": 9, "nll": 1.0}
RATES = {"an4": {"wer": 0.1, "cer": 0.05, "words": 70, "characters": 300, "wrong_texts": 0.2}}


def checkpoint(folder, **changes) -> tuple[Multitask, str]:
    torch.manual_seed(1)
    network = Multitask(MODEL).eval()
    state = {
        "format": FORMAT,
        "config": MultitaskRun(MODEL).as_dict(),
        "labels": ["anger", "disgust", "fear", "happy", "neutral", "sad"],
        "vocabulary": ENGLISH.as_dict(),
        "mean": [-5.0] * 64,
        "std": [2.5] * 64,
        "describe": {"split": "by speaker", "licences": {"x": "MIT"}, "commit": ""},
        "weights": network.state_dict(),
        "average": network.state_dict(),
        "optimizer": {},
        "history": [],
        "results": {
            "validation": {"emotion": EMOTION, "temperature": 1.3, "greedy": RATES},
            "delay_frames": 12,
        },
        **changes,
    }
    torch.save(state, folder / CHECKPOINT)
    return network, folder / CHECKPOINT


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network and its export."""
    folder = tmp_path_factory.mktemp("exported")
    network, path = checkpoint(folder)
    return network, export.export_multitask(path, folder / "m.onnx")


def test_whole_streamed_and_onnx_agree(exported):
    _, done = exported
    assert max(done.torch_streaming, done.onnx_streaming) < 1e-5
    card = done.card
    assert (card.kind, card.stride, card.window.hop, card.delay_frames) == ("multitask", 4, 24, 12)
    assert card.vocabulary == ("", *" 'ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert card.results["validation_greedy_an4"]["wer"] == 0.1
    assert card.results["training_validation"]["uar"] == 0.5
    assert card.temperature == 1.3
    assert "trained on x: MIT" in card.licence


def test_the_runtime_hears_what_torch_hears(exported):
    """From raw log-mel through the engine, over more hops than the export compared."""
    network, done = exported
    engine = Engine(done.path, "cpu")
    card = engine.card
    samples = 0.1 * np.random.default_rng(0).standard_normal(160 * 24 * 20 + 512 - 160).astype(np.float32)
    raw = log_mel(samples, card.features)
    with torch.no_grad():
        felt, spelt, _ = network.steps((torch.from_numpy(raw.copy())[None] + 5.0) / 2.5)
    state = engine.initial_state()
    for hop in range(20):
        step = engine.step(np.ascontiguousarray(raw[:, 24 * hop : 24 * hop + 24].T), state)
        state = step.state
        np.testing.assert_allclose(step.log_probs, spelt[0, 6 * hop : 6 * hop + 6], atol=1e-4)
        expected = softmax(felt[0, 6 * hop + 5].double().numpy(), 1.3)
        np.testing.assert_allclose(step.probabilities, expected, atol=1e-4)


def test_a_run_that_was_cut_short_has_no_results(tmp_path):
    _, path = checkpoint(tmp_path, results={})
    card = export.export_multitask(path, tmp_path / "m.onnx").card
    assert (card.results, card.temperature, card.delay_frames) == ({}, 1.0, 0)


def test_a_file_that_differs_is_not_written(tmp_path):
    _, path = checkpoint(tmp_path)
    with pytest.raises(TrainError, match="nothing was written"):
        export.export_multitask(path, tmp_path / "m.onnx", tolerance=-1.0)
    assert {p.name for p in tmp_path.iterdir()} == {CHECKPOINT}
    with pytest.raises(OutputError, match="is the checkpoint"):
        export.export_multitask(path, path)


def test_the_command_exports(call, tmp_path, monkeypatch):
    (tmp_path / "runs" / "one").mkdir(parents=True)
    checkpoint(tmp_path / "runs" / "one")
    monkeypatch.chdir(tmp_path)
    code, out, err = call("export", "--model", "multitask")
    assert code == 0, err
    assert "a hop of 240 ms" in out
    assert (tmp_path / "runs" / "one" / "multitask.onnx").is_file()
    assert "no such checkpoint" in one_line(call("export", "--model", "multitask", "--checkpoint", "nope")[2])
    monkeypatch.chdir(tmp_path / "runs" / "one")
    assert "no multitask network under runs" in one_line(call("export", "--model", "multitask")[2])
