"""Training that starts from, or learns from, networks that were trained before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from generate import voice, write_wav  # noqa: E402
from training import PATCHES, make, strip, tiny_config  # noqa: E402

from stream_ser import cli  # noqa: E402
from stream_ser.errors import TrainError  # noqa: E402
from stream_ser.export.checkpoints import make_card  # noqa: E402
from stream_ser.models import registry  # noqa: E402
from stream_ser.train.checkpoint import CHECKPOINT, read_checkpoint, trained_network  # noqa: E402
from stream_ser.train.losses import distillation  # noqa: E402
from stream_ser.train.transfer import finetune  # noqa: E402

LABELS = ("anger", "disgust", "fear", "happy", "neutral", "sad")


@pytest.fixture(scope="module")
def first(tiny_crema_d, tmp_path_factory):
    """A finished run."""
    run = make(tiny_crema_d, tmp_path_factory.mktemp("runs") / "first", "augment.mixup_alpha=0.3")
    run.fit()
    return run


@pytest.fixture(scope="module")
def state(first):
    return read_checkpoint(first.out / CHECKPOINT)


def test_the_same_labels_take_everything_over(state) -> None:
    network = registry.build("septr", tiny_config().model)
    taken = finetune.take_over(network, state, LABELS)
    assert taken.fresh == ()
    for name, value in trained_network(state).state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    assert "classifier with them" in taken.describe()
    assert set(taken.speakers) == {"crema-d/1001", "crema-d/1002", "crema-d/1003"}


@pytest.mark.parametrize("labels", [("calm", "loud"), ("disgust", "anger", *LABELS[2:])])
def test_other_labels_get_a_new_classifier(state, labels: tuple[str, ...]) -> None:
    config = tiny_config()
    torch.manual_seed(3)
    network = registry.build("septr", replace(config.model, num_classes=len(labels)))
    before = network.head.weight.clone()
    taken = finetune.take_over(network, state, labels)
    assert taken.fresh == ("head.weight", "head.bias")
    assert torch.equal(network.head.weight, before)
    assert torch.equal(network.cls_token, trained_network(state).cls_token)
    assert "new: head.weight, head.bias" in taken.describe()


def test_another_network_is_refused(state) -> None:
    wider = registry.build("septr", tiny_config("model.dim=32").model)
    with pytest.raises(TrainError, match=r"\(16,\).* this network \(32,\)"):
        finetune.take_over(wider, state, LABELS)
    deeper = registry.build("septr", tiny_config("model.depth=2").model)
    with pytest.raises(TrainError, match="nothing for layers"):
        finetune.take_over(deeper, state, LABELS)


def test_the_recipe_follows_the_start(state) -> None:
    from stream_ser.train import presets

    config = finetune.adapt(presets.preset("septr", "default"), state)
    assert (config.model, config.window) == (tiny_config().model, tiny_config().window)
    assert config.train == presets.preset("septr", "default").train
    with pytest.raises(TrainError, match="is a vit, not a septr"):
        finetune.adapt(presets.preset("septr", "default"), {"config": _as("vit", state)})


def _as(network: str, state: dict) -> dict:
    """The recipe of another kind of network, where the registry has it."""
    from stream_ser.train import presets

    if network not in registry.NETWORKS:
        pytest.skip(f"there is no {network}")
    return presets.preset(network, "default").as_dict()


def test_a_run_is_found_by_its_folder(first, tmp_path) -> None:
    assert finetune.read_run(first.out)["labels"] == list(LABELS)
    with pytest.raises(TrainError, match="no such checkpoint"):
        finetune.read_run(tmp_path)


def test_a_frozen_body_stays_as_it_was(first, state, tiny_crema_d, tmp_path) -> None:
    run = make(tiny_crema_d, tmp_path, "train.body_lr=0", "train.epochs=1", start=state)
    run.fit()
    before = trained_network(state).state_dict()
    for name, value in run.model.network.state_dict().items():
        same = torch.equal(value, before[name])
        assert same != name.startswith("head."), name  # statistics of batch norm included
    np.testing.assert_array_equal(run.mean, first.mean)
    assert run.describe()["start"].startswith("started from septr of 2 epochs on crema-d, seed 0")


def write_folder(folder: Path) -> Path:
    """Somebody's own recordings: two labels, a sub-folder each."""
    for label, pitch_hz in (("calm", 100.0), ("excited", 300.0)):
        (folder / label).mkdir(parents=True)
        for number in range(16):
            clip = voice(1.2, number, pitch_hz=pitch_hz, syllables_hz=pitch_hz / 40)
            write_wav(folder / label / f"{number}.wav", clip)
    return folder


def call(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


def test_own_recordings_from_training_to_recognition(first, tmp_path, monkeypatch, capsys) -> None:
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    folder = write_folder(tmp_path / "mine")
    code, out, err = call(
        capsys,
        *("train", "septr", "--data", f"folder={folder}", "--split", "random", "--init", first.out, "--out", "runs/a"),
        *("--epochs", 3, "--batch-size", 4, "--set", "train.body_lr=0.5"),
    )
    assert code == 0, err
    assert "new: head.weight, head.bias (other labels)" in err
    assert "test UAR" in out
    assert "speakers overlap" in out
    metrics = json.loads(Path("runs/a/metrics.json").read_text())
    assert metrics["labels"] == ["calm", "excited"]
    assert "crema-d/1001" in metrics["train_speakers"]
    code, out, err = call(capsys, "export", "--model", "septr")
    assert code == 0, err
    code, out, err = call(
        capsys, "file", folder / "calm" / "1.wav", "--model", "runs/a/septr.onnx", "--format", "jsonl"
    )
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["label"] in ("calm", "excited")


def test_teachers_draw_what_the_pupil_draws(first) -> None:
    """A pupil with the teachers' own weights has nothing to learn from them."""
    teachers = distillation.Teachers([first.out, first.out], LABELS, first.config, torch.device("cpu"))
    pupil = trained_network(read_checkpoint(first.out / CHECKPOINT))
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    log_mel = torch.randn(8, 64, 100, generator=torch.Generator().manual_seed(0))

    def augment(x: torch.Tensor, draws: np.random.Generator) -> torch.Tensor:
        return x + torch.from_numpy(draws.standard_normal(x.shape, dtype=np.float32))

    config = replace(first.config, train=replace(first.config.train, precision="fp32"))
    teachers.config = config.train
    said = teachers.probabilities(log_mel, augment, rng)
    assert rng.bit_generator.state == state
    with torch.no_grad():
        logits = pupil(augment(first.model.normalize(log_mel), rng))
    torch.testing.assert_close(said, torch.softmax(logits / 2.0, dim=-1), atol=1e-5, rtol=1e-4)
    assert distillation.distillation_loss(logits, said, 2.0).item() == pytest.approx(0.0, abs=1e-5)
    assert distillation.distillation_loss(logits + torch.randn(6), said, 2.0).item() > 0.0


def test_the_distillation_loss_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0]], requires_grad=True)
    taught = torch.tensor([[0.5, 0.5]])
    loss = distillation.distillation_loss(logits, taught, 2.0)
    p = 1.0 / (1.0 + np.exp(-1.0))
    assert loss.item() == pytest.approx(4.0 * 0.5 * (np.log(0.5 / p) + np.log(0.5 / (1 - p))), rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 0].item() == pytest.approx(2.0 * (p - 0.5), rel=1e-5)


def test_a_pupil_comes_closer_to_its_teacher(first, tiny_crema_d, tmp_path) -> None:
    """Another network, with another normalisation, learns from the teacher alone."""
    changes = (*PATCHES, "features.normalization=sample", "train.epochs=6", "train.warmup_epochs=0", "train.lr=3e-3")
    pupil = make(tiny_crema_d, tmp_path / "pupil", *changes, "train.distill=1", teachers=[first.out])
    assert pupil.teachers is not None
    assert pupil.teachers.speakers == {"crema-d/1001", "crema-d/1002", "crema-d/1003"}
    pupil.fit()
    losses = [epoch.train_loss for epoch in pupil.history]
    assert losses[-1] < 0.9 * losses[0]
    teachers = pupil.describe()["teachers"]
    assert len(teachers) == 1
    assert teachers[0].startswith("septr of 2 epochs on crema-d, seed 0, ")
    again = make(tiny_crema_d, tmp_path / "again", *changes, "train.distill=1", teachers=[first.out])
    again.fit()
    assert strip(again.history) == strip(pupil.history)


def test_teachers_must_fit(first, tmp_path) -> None:
    device = torch.device("cpu")
    with pytest.raises(TrainError, match="teaches the labels anger"):
        distillation.Teachers([first.out], ("calm", "loud"), first.config, device)
    other = tiny_config("features.log_floor=1e-6")
    with pytest.raises(TrainError, match="hears another log-mel"):
        distillation.Teachers([first.out], LABELS, other, device)
    with pytest.raises(TrainError, match="no such checkpoint"):
        distillation.Teachers([tmp_path], LABELS, first.config, device)


def test_voices_that_were_heard_before_are_told(first, tiny_crema_d, tmp_path) -> None:
    from stream_ser.train.data import corpora, splits
    from stream_ser.train.trainer import Trainer

    corpus = corpora.load("crema-d", tiny_crema_d)
    split = splits.fixed([corpus])
    swapped = replace(split, train=split.validation, validation=split.train)
    plain = Trainer(first.config, swapped, [corpus], tmp_path, torch.device("cpu"))
    taught = Trainer(first.config, swapped, [corpus], tmp_path, torch.device("cpu"), teachers=[first.out])
    assert (plain.heard_before(), taught.heard_before()) == (0, 3)
    assert "crema-d/1001" in taught.describe()["train_speakers"]


def test_licences_are_inherited(first, state, tiny_crema_d, tmp_path) -> None:
    bound = {**state, "licences": {"other": "not for sale"}}
    run = make(tiny_crema_d, tmp_path / "started", "train.epochs=1", start=bound)
    assert run.licences() == {"crema-d": "ODbL 1.0 + DbCL 1.0", "other": "not for sale"}
    torch.save(bound, tmp_path / "teacher.pt")
    run = make(tiny_crema_d, tmp_path / "taught", "train.epochs=1", teachers=[tmp_path / "teacher.pt"])
    run.fit()
    licence = make_card(read_checkpoint(tmp_path / "taught" / CHECKPOINT), run.model.network).licence
    assert "trained on crema-d: ODbL" in licence
    assert "trained on other: not for sale" in licence
