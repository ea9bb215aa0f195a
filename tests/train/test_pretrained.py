"""Networks back from their ONNX files."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from training import make  # noqa: E402

from stream_ser.errors import ModelError, TrainError  # noqa: E402
from stream_ser.models import registry  # noqa: E402
from stream_ser.runtime import engine  # noqa: E402
from stream_ser.train.checkpoint import CHECKPOINT, read_checkpoint, trained_network  # noqa: E402
from stream_ser.train.transfer import finetune, onnx_weights  # noqa: E402

LABELS = ("anger", "disgust", "fear", "happy", "neutral", "sad")


@pytest.fixture(scope="module")
def run(septr_run):
    return septr_run


@pytest.fixture(scope="module")
def exported(septr_export):
    return septr_export.path


def test_what_comes_back_is_what_went_out(run, exported) -> None:
    state = finetune.read_run(exported)
    came = trained_network(state)
    went = trained_network(read_checkpoint(run.out / CHECKPOINT))
    x = torch.randn(3, run.config.features.n_mels, run.config.window.frames)
    with torch.no_grad():
        torch.testing.assert_close(came(x), went(x), atol=1e-5, rtol=1e-4)
    assert state["labels"] == list(LABELS)
    assert state["describe"]["train_speakers"] == ["crema-d/1001", "crema-d/1002", "crema-d/1003"]
    assert state["licences"] == run.licences()


def test_it_starts_a_run(exported, tiny_crema_d, tmp_path) -> None:
    state = finetune.read_run(exported)
    run = make(tiny_crema_d, tmp_path / "next", "train.epochs=1", start=state)
    assert run.taken_over is not None
    assert run.taken_over.fresh == ()
    run.fit()
    assert run.history


def test_a_file_that_does_not_name_its_weights_is_refused(exported, tmp_path) -> None:
    import onnx

    model = onnx.load(str(exported))
    noted = next(entry for entry in model.metadata_props if entry.key == onnx_weights.WEIGHTS_KEY)
    model.metadata_props.remove(noted)
    onnx.save(model, str(tmp_path / "other.onnx"))
    engine.load(tmp_path / "other.onnx", "cpu")  # the runtime does not mind
    with pytest.raises(TrainError, match="cannot be trained on"):
        finetune.read_run(tmp_path / "other.onnx")


def test_a_file_whose_weights_are_others_is_refused(exported, tmp_path) -> None:
    import onnx

    model = onnx.load(str(exported))
    head = next(c for c in model.graph.initializer if c.name == "head.bias")
    for node in model.graph.node:
        node.input[:] = ["used" if name == "head.bias" else name for name in node.input]
    model.graph.initializer.append(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(head) + 1.0, "used"))
    onnx.save(model, str(tmp_path / "other.onnx"))
    with pytest.raises(TrainError, match="other logits"):
        finetune.read_run(tmp_path / "other.onnx")


def test_a_file_that_is_none_of_ours_is_refused(tiny_onnx, tmp_path) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"noise")
    with pytest.raises(ModelError):
        finetune.read_run(tmp_path / "noise.onnx")
    with pytest.raises(TrainError, match="cannot be trained on"):
        finetune.read_run(tiny_onnx())


def test_the_bundled_model_can_be_trained_on(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = finetune.read_run(Path("septr"))
    network = registry.build(state["network"], trained_network(state).config)
    taken = finetune.take_over(network, state, ("calm", "excited"))
    assert taken.fresh == ("head.weight", "head.bias")
