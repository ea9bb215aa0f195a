"""``stream-ser train separator``: learning, split, resuming, what the run folder holds, mistakes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from cli_fakes import call, one_line  # noqa: F401 - fixtures

pytest.importorskip("torch")

import torch

from stream_ser.errors import TrainError
from stream_ser.models.separator import LSTMMaskConfig
from stream_ser.train.presets import apply_sections
from stream_ser.train.tasks.separation import config as recipe
from stream_ser.train.tasks.separation import mixture_folder, report, task
from stream_ser.train.tasks.separation.config import LoopConfig, SeparationConfig
from stream_ser.train.tasks.separation.sines import SineConfig, draw
from stream_ser.train.tasks.separation.task import SeparatorTrainer, SetMaterial

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sines(tmp_path_factory):
    """Ten sets of 0.1 s at 1 kHz."""
    out = tmp_path_factory.mktemp("sines") / "set"
    mixture_folder.prepare(out, 10, ("mixture", "source_1", "source_2"), force=False)
    mixture_folder.write(out, draw(SineConfig(10, 1_000, 0.1), seed=1), 1_000)
    return out


def config(**train) -> SeparationConfig:
    model = LSTMMaskConfig(sample_rate=1_000, window=32, hop=8, hidden=4)
    return SeparationConfig(model, LoopConfig(**{"epochs": 2, "batch_size": 4, "lr": 1e-2, **train}))


def trainer(sines, out, **train) -> SeparatorTrainer:
    out.mkdir(exist_ok=True)
    settings = config(**train)
    material = SetMaterial(mixture_folder.read(sines), 0.2, settings.train.batch_size, settings.train.seed)
    return SeparatorTrainer(settings, material, out, CPU)


def test_it_learns(sines, tmp_path):
    run = trainer(sines, tmp_path / "a", epochs=25, lr=3e-2)
    run.fit()
    first, last = run.history[0], run.history[-1]
    assert np.mean(last.losses) < 0.6 * np.mean(first.losses)
    assert last.held_out_si_snr_improvement_db > 5


@pytest.mark.parametrize("objective", ["l1", "si-snr", "snr"])
def test_each_objective_trains_with_free_order(sines, tmp_path, objective):
    run = trainer(sines, tmp_path / "a", objective=objective, permute=True, ema_decay=0.9, grad_clip=1.0)
    run.fit()
    assert np.isfinite(run.history[-1].held_out_loss)


def test_bf16_trains_weights_that_stay_float32(sines, tmp_path):
    run = trainer(sines, tmp_path / "a", precision="bf16", epochs=6, lr=3e-2)
    run.fit()
    assert {p.dtype for p in run.network.parameters()} == {torch.float32}
    assert np.mean(run.history[-1].losses) < np.mean(run.history[0].losses)
    with pytest.raises(TrainError, match="fp16 trains on CUDA only"):
        trainer(sines, tmp_path / "b", precision="fp16")


def test_the_split_hangs_on_the_seed_and_shares_nothing(sines):
    whole = mixture_folder.read(sines)
    first, same, other = (SetMaterial(whole, 0.2, 4, seed) for seed in (0, 0, 1))
    assert first.test.names == same.test.names != other.test.names
    trained = torch.cat([batch.mixtures for batch in first.epoch(1)])
    assert trained.shape == (8, 100)
    assert not {row.tobytes() for row in trained.numpy()} & {row.tobytes() for row in first.test.mixtures}
    shuffled = torch.cat([batch.mixtures for batch in first.epoch(2)])
    assert not torch.equal(trained, shuffled)
    assert sorted(row.tobytes() for row in trained.numpy()) == sorted(row.tobytes() for row in shuffled.numpy())


def test_a_resumed_run_equals_an_unbroken_one(sines, tmp_path):
    whole = trainer(sines, tmp_path / "a", epochs=4, ema_decay=0.9)
    whole.fit()
    broken = trainer(sines, tmp_path / "b", epochs=4, ema_decay=0.9)

    def stop(epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.fit(on_epoch=stop)
    again = trainer(sines, tmp_path / "b", epochs=4, ema_decay=0.9)
    again.resume()
    assert len(again.history) == 2
    again.fit()
    for a, b in zip(whole.averaged.parameters(), again.averaged.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [e.losses for e in whole.history] == [e.losses for e in again.history]


def test_other_settings_or_data_are_not_resumed(sines, tmp_path):
    trainer(sines, tmp_path / "a").fit()
    with pytest.raises(TrainError, match="other settings or data"):
        trainer(sines, tmp_path / "a", lr=1e-3).resume()


def test_a_run_starts_from_the_weights_of_another_and_says_so(sines, tmp_path):
    first = trainer(sines, tmp_path / "a", ema_decay=0.5)
    first.fit()
    path = tmp_path / "a" / "separator.pt"
    second = trainer(sines, tmp_path / "b", lr=1e-3, epochs=1)
    second.start_from(path)
    for a, b in zip(first.averaged.parameters(), second.averaged.parameters(), strict=True):
        assert torch.equal(a, b)
    second.fit()
    said = task.read_checkpoint(tmp_path / "b" / "separator.pt")["describe"]["started_from"]
    assert (said["data"], said["epochs"]) == (first.material.describe["data"], len(first.history))
    again = trainer(sines, tmp_path / "b", lr=1e-3, epochs=1)
    again.resume()
    again.save()
    assert task.read_checkpoint(tmp_path / "b" / "separator.pt")["describe"]["started_from"] == said


def test_a_run_does_not_start_where_its_test_data_was_trained_on(sines, tmp_path):
    trainer(sines, tmp_path / "a").fit()
    path = tmp_path / "a" / "separator.pt"
    with pytest.raises(TrainError, match=r"was trained on 1 of the speakers or mixtures .* such as"):
        trainer(sines, tmp_path / "b", seed=1).start_from(path)
    other = config()
    other = replace(other, model=replace(other.model, hidden=other.model.hidden + 1))
    whole = SetMaterial(mixture_folder.read(sines), 0.2, 4, 0)
    with pytest.raises(TrainError, match="another network"):
        SeparatorTrainer(other, whole, tmp_path, torch.device("cpu")).start_from(path)


def test_speakers_are_compared_within_a_corpus():
    then = {"data": "an4 + own", "held_out": ["an4/a", "own/b"]}
    assert task._trained_on({"data": "an4", "held_out": ["an4/a", "an4/c", "new/d"]}, then) == ["an4/c"]


@pytest.mark.parametrize("content", [b"", b"no", None])
def test_a_broken_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "separator.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainError, match=r"separator\.pt: "):
        task.read_checkpoint(path)
    torch.save({"format": 1}, path)
    with pytest.raises(TrainError, match="not a separator's checkpoint"):
        task.read_checkpoint(path)
    torch.save({"format": task.FORMAT}, path)
    with pytest.raises(TrainError, match="damaged"):
        task.read_checkpoint(path)


def test_a_loss_that_is_not_finite_ends_it(sines, tmp_path):
    run = trainer(sines, tmp_path / "a")
    with torch.no_grad():
        run.network.head.bias.fill_(float("nan"))
    with pytest.raises(TrainError, match="lower --lr"):
        run.fit()


def test_sources_must_fit(sines, tmp_path):
    settings = config()
    material = SetMaterial(mixture_folder.read(sines), 0.2, 4, 0)
    with pytest.raises(TrainError, match=r"model\.sources is 3"):
        SeparatorTrainer(replace(settings, model=replace(settings.model, sources=3)), material, tmp_path, CPU)


def test_configuration_survives_json():
    for make in recipe.PRESETS.values():
        there = make()
        assert SeparationConfig.from_dict(json.loads(json.dumps(there.as_dict()))) == there
    with pytest.raises(TrainError, match="KeyError"):
        SeparationConfig.from_dict({"network": "lstm-mask"})


def test_the_reference_is_as_described():
    reference = recipe.preset("sines")
    assert (reference.network, reference.model.hidden) == ("lstm-mask", 8)
    train = reference.train
    assert (train.objective, train.optimizer, train.lr, train.epochs) == ("l1", "adam", 3e-4, 10)


def test_frames_follow_the_rate():
    for rate, window in ((8_000, 256), (16_000, 512), (4_000, 128)):
        model = recipe.fit_rate(recipe.preset("sines"), rate).model
        assert (model.sample_rate, model.window, model.hop) == (rate, window, window // 4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.lr=0", "lr must be a positive number"),
        ("train.objective=l2", "'l2' is not one of l1, si-snr, snr"),
        ("model.window=1024", "expected 32 ms at most"),
        ("model.depth=2", "unknown field 'depth'"),
        ("features.n_mels=2", "unknown section 'features'"),
        ("train.epochs=many", "expected a value like 10"),
        ("mixtures.speakers=1", "no mixture; add noise"),
        ("mixtures.sample_rate=11025", "expected 8000 or 16000"),
    ],
)
def test_impossible_changes_are_named(change, said):
    with pytest.raises(TrainError, match=said):
        apply_sections(recipe.preset("sines"), [change])


def test_the_command_leaves_everything_behind(call, sines, tmp_path):
    out = tmp_path / "run"
    arguments = ("train", "separator", "--data", f"sines={sines}", "--out", out, "--epochs", 2, "--hidden", 3)
    code, said, err = call(*arguments)
    assert code == 0, err
    assert "2 epochs, 2 test mixtures" in said
    assert "below the closed form" in said
    assert "epoch   2  loss" in err
    content = json.loads((out / report.METRICS).read_text())
    assert set(content["test"]) == {"mixture", "separator", "closed form"}
    assert content["test"]["closed form"]["si_snr_db"] > 50 > content["test"]["separator"]["si_snr_db"]
    assert (
        [len(epoch["losses"]) for epoch in content["epochs"]]
        == [8, 8]
        == [len(epoch["si_snr_db"]) for epoch in content["epochs"]]
    )
    assert (out / report.CURVES).read_bytes().startswith(b"\x89PNG")
    for name in content["data"]["held_out"]:
        for source in (1, 2):
            wave, rate = soundfile.read(out / "separated" / f"{name}_source_{source}.wav")
            assert (wave.shape, rate) == ((100,), 1_000)
        assert (out / "separated" / f"{name}.png").is_file()
    assert json.loads((out / "separator.json").read_text())["model"]["hidden"] == 3
    assert "holds a run already" in one_line(call(*arguments)[2])
    assert call(*arguments, "--resume")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing option '--data'"),
        (["--data", "sines=nope"], "no such folder"),
        (["--data", "sines=a", "--data", "mixtures=b"], "stands alone"),
        (["--data", "dreams=a"], "unknown corpus 'dreams'"),
        (["--data", "sines=nope", "--resume"], "to resume"),
        (["--data", "sines=nope", "--preset", "best"], "unknown preset 'best'"),
    ],
)
def test_mistakes_are_one_line(call, tmp_path, arguments, said):
    code, out, err = call("train", "separator", "--out", tmp_path / "r", *arguments)
    assert (code, out) == (2, "")
    assert said in one_line(err)


def test_help_is_its_own(call):
    assert "--noise" in call("train", "separator", "--help")[1]
    assert "train separator --help" in " ".join(call("train", "--help")[1].split())
