"""Export of networks other than SepTr, and of checkpoints from before there were any."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from stream_ser import cli  # noqa: E402
from stream_ser.errors import TrainError  # noqa: E402
from stream_ser.export import checkpoints  # noqa: E402
from stream_ser.models import registry  # noqa: E402
from stream_ser.models.lenet import LeNet5  # noqa: E402
from stream_ser.runtime import engine  # noqa: E402
from stream_ser.train import presets  # noqa: E402
from stream_ser.train.checkpoint import CHECKPOINT, read_checkpoint, trained_network  # noqa: E402
from stream_ser.train.data import corpora, splits  # noqa: E402
from stream_ser.train.trainer import Trainer  # noqa: E402


@pytest.fixture(scope="module")
def run(tiny_crema_d: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a LeNet-5 after one epoch, in a folder of runs."""
    out = tmp_path_factory.mktemp("runs") / "lenet"
    out.mkdir()
    changes = ["train.epochs=1", "train.batch_size=8", "augment.speeds=1.0", "window.frames=100", "window.minimum=50"]
    config = presets.apply(presets.preset("lenet5-2d"), changes)
    corpus = corpora.load("crema-d", tiny_crema_d)
    trainer = Trainer(config, splits.fixed([corpus]), [corpus], out, torch.device("cpu"))
    trainer.prepare()
    trainer.fit()
    return out


def test_from_training_to_the_runtime(run: Path, tmp_path: Path) -> None:
    state = read_checkpoint(run / CHECKPOINT)
    assert state["network"] == state["config"]["network"] == "lenet5-2d"
    network = trained_network(state)
    assert isinstance(network, LeNet5)
    assert not network.training
    made = checkpoints.export_checkpoint(run / CHECKPOINT, tmp_path / "lenet.onnx")
    assert made.difference <= 1e-4
    card = engine.load(str(made.path), "cpu").card
    assert (card.name, card.parameters) == ("lenet5-2d", 61_706 - 4 * 85)
    assert card.training["macs"] == 416_520 - 4 * 84


def test_a_file_does_not_tell_where_it_was_made(run: Path, tmp_path: Path) -> None:
    content = checkpoints.export_checkpoint(run / CHECKPOINT, tmp_path / "a.onnx").path.read_bytes()
    assert not [word for word in (b"stack_trace", b"site-packages", b'.py"') if word in content]


def test_the_newest_of_its_kind_is_found(run: Path) -> None:
    assert checkpoints.newest_checkpoint("lenet5-2d", run.parent) == run / CHECKPOINT
    with pytest.raises(TrainError, match="no ast run under"):
        checkpoints.newest_checkpoint("ast", run.parent)


@pytest.mark.parametrize("name", [CHECKPOINT, "link.onnx"])
def test_an_export_never_overwrites_what_it_reads(run: Path, name: str, capsys) -> None:
    (run / "link.onnx").unlink(missing_ok=True)
    (run / "link.onnx").hardlink_to(run / CHECKPOINT)
    before = (run / CHECKPOINT).read_bytes()
    checkpoint, out = str(run / CHECKPOINT), str(run / name)
    with pytest.raises(SystemExit) as stop:
        cli.main(["export", "--model", "lenet5-2d", "--checkpoint", checkpoint, "--out", out])
    assert stop.value.code == 2
    assert "is the run's own checkpoint.pt" in capsys.readouterr().err
    assert (run / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize(
    ("name", "message"),
    [("septr", "holds a lenet5-2d, not a septr"), ("resnet", "'resnet' is not one of 'septr', 'vit'")],
)
def test_another_network_is_refused(run: Path, name: str, message: str, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["export", "--model", name, "--checkpoint", str(run / CHECKPOINT)])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_weights_of_another_size_are_refused(run: Path) -> None:
    state = read_checkpoint(run / CHECKPOINT)
    state["config"]["model"]["hidden"] = [120, 80]
    with pytest.raises(TrainError, match="does not fit its own configuration"):
        trained_network(state)


def test_a_checkpoint_from_before_the_registry_is_a_septr() -> None:
    config = presets.apply(presets.preset("septr"), ["model.dim=16", "model.stem_channels=4,4,4,4", "model.depth=1"])
    network = registry.build("septr", config.model)
    content = config.as_dict()
    del content["network"], content["model"]["pool"]
    average = {f"module.network.{name}": value for name, value in network.state_dict().items()}
    loaded = trained_network({"config": content, "average": average})
    x = torch.randn(2, config.model.n_mels, config.model.n_frames)
    torch.testing.assert_close(loaded(x), network.eval()(x))
