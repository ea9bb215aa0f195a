"""The training loop, export and evaluation on a generated corpus: small, but the real thing from end to end."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from training import make, strip, tiny_config  # noqa: E402

from stream_ser.audio.decode import read_blocks  # noqa: E402
from stream_ser.config import WindowConfig  # noqa: E402
from stream_ser.errors import DataError, ModelError, OutputError, TrainError  # noqa: E402
from stream_ser.events import Prediction  # noqa: E402
from stream_ser.export import checkpoints  # noqa: E402
from stream_ser.recognition.recognizer import Recognizer  # noqa: E402
from stream_ser.runtime import engine  # noqa: E402
from stream_ser.train import presets  # noqa: E402
from stream_ser.train.checkpoint import BEST, CHECKPOINT, read_checkpoint, trained_network  # noqa: E402
from stream_ser.train.config import RunConfig  # noqa: E402
from stream_ser.train.data import corpora  # noqa: E402
from stream_ser.train.data.normalization import normalize  # noqa: E402
from stream_ser.train.evaluation import evaluate, report  # noqa: E402


@pytest.fixture(scope="module")
def run(septr_run):
    """A finished run of two epochs, with its report."""
    report.write_report(septr_run.history, septr_run.labels, septr_run.out)
    return septr_run


@pytest.fixture(scope="module")
def exported(septr_export):
    return septr_export


def test_the_run_folder_is_complete(run) -> None:
    metrics = json.loads((run.out / "metrics.json").read_text())
    assert len(metrics["history"]) == 2
    assert metrics["parameters"] == run.parameters() > 1_000
    assert (metrics["train_clips"], metrics["validation_clips"]) == (36, 24)
    assert "speaker-disjoint" in metrics["split"]
    for name in ("curves.png", "confusion.png"):
        assert (run.out / name).read_bytes().startswith(b"\x89PNG")
    assert not list(run.out.glob("*.part"))


def test_the_same_seed_gives_the_same_numbers(run, tiny_crema_d, tmp_path) -> None:
    again = make(tiny_crema_d, tmp_path / "again")
    again.fit()
    assert strip(again.history) == strip(run.history)
    other = make(tiny_crema_d, tmp_path / "other", "train.seed=1")
    other.fit()
    assert strip(other.history) != strip(run.history)


def test_resume_refuses_other_settings(run, tiny_crema_d) -> None:
    with pytest.raises(TrainError, match="other settings"):
        make(tiny_crema_d, run.out, "train.lr=0.5").resume()


def test_resume_refuses_other_clips(run, tiny_crema_d, tmp_path) -> None:
    import shutil

    shutil.copytree(tiny_crema_d, tmp_path / "c")
    (tmp_path / "c" / "AudioWAV" / "1001_DFA_ANG_XX.wav").unlink()
    (tmp_path / "run").mkdir()
    shutil.copy(run.out / CHECKPOINT, tmp_path / "run" / CHECKPOINT)
    with pytest.raises(TrainError, match="training clips are not those"):
        make(tmp_path / "c", tmp_path / "run").resume()


def test_foreign_windows_are_refused(run, tmp_path) -> None:
    import shutil

    shutil.copy(run.out / CHECKPOINT, tmp_path / CHECKPOINT)
    for content in (b"", b"PK junk"):
        (tmp_path / "windows.npz").write_bytes(content)
        with pytest.raises(TrainError, match="not readable"):
            checkpoints.export_checkpoint(tmp_path / CHECKPOINT, tmp_path / "septr.onnx")
    np.savez(tmp_path / "windows.npz", windows=np.zeros((2, 64, 99), np.float32))
    with pytest.raises(TrainError, match="not of this checkpoint"):
        checkpoints.export_checkpoint(tmp_path / CHECKPOINT, tmp_path / "septr.onnx")


def test_the_best_epoch_is_labelled(run, exported, tmp_path, monkeypatch) -> None:
    import shutil

    for name in (BEST, "windows.npz"):
        shutil.copy(run.out / name, tmp_path / name)
    # Only the card matters here: the file is that of the last epoch, which need not be the best one.
    monkeypatch.setattr(checkpoints, "write_onnx", lambda _network, _card, out, _voice: shutil.copy(exported.path, out))
    card = checkpoints.export_checkpoint(tmp_path / BEST, tmp_path / "septr.onnx", tolerance=float("inf")).card
    assert "no longer unseen" in card.results["training_validation"]["protocol"]


def test_nothing_to_resume(tiny_crema_d, tmp_path) -> None:
    assert make(tiny_crema_d, tmp_path / "new").resume() is False


@pytest.mark.slow
def test_it_learns(tiny_crema_d, tmp_path) -> None:
    trainer = make(tiny_crema_d, tmp_path / "long", "train.epochs=30", "train.precision=fp32", "augment.mixup_alpha=0")
    trainer.fit()
    assert trainer.history[-1].scores.uar > 0.6
    assert trainer.history[-1].train_loss < trainer.history[0].train_loss


def test_a_loss_that_is_not_finite_stops_the_run(tiny_crema_d, tmp_path) -> None:
    trainer = make(tiny_crema_d, tmp_path / "nan")
    with torch.no_grad():
        trainer.model.network.head.bias.fill_(float("nan"))
    with pytest.raises(TrainError, match="loss became nan"):
        trainer.fit()


def test_statistics_come_from_the_training_part_alone(run, tiny_crema_d) -> None:
    from stream_ser.train.data.windows import band_statistics, read_waves

    waves = read_waves(run.split.train, run.config.features)
    mean, std = band_statistics(waves, run.config.features)
    np.testing.assert_array_equal(run.mean, mean)
    every = read_waves([*run.split.train, *run.split.validation], run.config.features)
    assert not np.array_equal(band_statistics(every, run.config.features)[0], mean)
    assert (std > 0).all()


def test_export_is_one_verified_file(run, exported) -> None:
    assert exported.difference <= 1e-4
    assert exported.windows > 0
    assert exported.source == "validation windows of the run"
    assert [p.name for p in run.out.glob("*.onnx*")] == ["septr.onnx"]
    loaded = engine.load(exported.path, "cpu")
    assert loaded.card == exported.card
    assert loaded.card.window == WindowConfig(frames=100, minimum=50)
    assert loaded.card.training["seed"] == 0
    assert "ODbL" in loaded.card.licence
    # The runtime, fed with raw log-mel, gives the torch network's answer.
    network = trained_network(read_checkpoint(run.out / CHECKPOINT))
    window = run.validation.windows[0].numpy()
    with torch.no_grad():
        normalised = normalize(torch.from_numpy(window)[None], loaded.card.features, run.mean, run.std)
        expected = network(normalised)[0].numpy()
    np.testing.assert_allclose(loaded.logits(window.T), expected, atol=1e-4)


def test_the_batch_axis_is_dynamic(exported) -> None:
    import onnxruntime as ort

    session = ort.InferenceSession(str(exported.path), providers=["CPUExecutionProvider"])
    for batch in (1, 3, 7):
        logits = session.run(None, {"log_mel": np.zeros((batch, 64, 100), np.float32)})[0]
        assert logits.shape == (batch, 6)


def test_a_difference_above_the_tolerance_writes_nothing(run, exported, tmp_path, monkeypatch) -> None:
    import shutil

    out = tmp_path / "septr.onnx"
    # What an export of this run gives.
    monkeypatch.setattr(checkpoints, "write_onnx", lambda _network, _card, out, _voice: shutil.copy(exported.path, out))
    with pytest.raises(TrainError, match="differs from torch"):
        checkpoints.export_checkpoint(run.out / CHECKPOINT, out, tolerance=-1.0)
    assert list(tmp_path.iterdir()) == []


def test_export_to_an_impossible_place(run, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        checkpoints.export_checkpoint(run.out / CHECKPOINT, tmp_path / "file" / "septr.onnx")
    with pytest.raises(OutputError, match="is a folder"):
        checkpoints.export_checkpoint(run.out / CHECKPOINT, tmp_path)


def test_the_newest_run_is_found(run, tmp_path) -> None:
    import os
    import shutil

    for age, name in ((100, "old"), (0, "new")):
        (tmp_path / name).mkdir()
        for file in (CHECKPOINT, BEST):
            shutil.copy(run.out / file, tmp_path / name / file)
            stamp = (tmp_path / name / file).stat().st_mtime - age
            os.utime(tmp_path / name / file, (stamp, stamp))
    assert checkpoints.newest_checkpoint("septr", tmp_path) == tmp_path / "new" / CHECKPOINT
    assert checkpoints.newest_checkpoint("septr", tmp_path, "best") == tmp_path / "new" / BEST
    with pytest.raises(TrainError, match="no septr run"):
        checkpoints.newest_checkpoint("septr", tmp_path / "nothing")


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04broken"])
def test_a_broken_checkpoint_is_refused(tmp_path, content: bytes) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(TrainError, match="not a readable checkpoint"):
        read_checkpoint(tmp_path / CHECKPOINT)


def test_a_checkpoint_is_data_and_never_code(tmp_path) -> None:
    class Evil:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",))

    torch.save({"format": 1, "average": Evil()}, tmp_path / CHECKPOINT)
    with pytest.raises(TrainError, match="not a readable checkpoint"):
        read_checkpoint(tmp_path / CHECKPOINT)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_without_its_parts_is_refused(run, tmp_path) -> None:
    state = read_checkpoint(run.out / CHECKPOINT)
    for name in ("network", "config", "labels", "mean", "std", "describe"):
        for broken in ({**state, name: 3}, {key: value for key, value in state.items() if key != name}):
            torch.save(broken, tmp_path / CHECKPOINT)
            with pytest.raises(TrainError, match=f"a damaged checkpoint .'{name}' is not a"):
                read_checkpoint(tmp_path / CHECKPOINT)


def test_another_pickle_is_not_a_checkpoint(tmp_path) -> None:
    torch.save({"weights": 1}, tmp_path / CHECKPOINT)
    with pytest.raises(TrainError, match="not a checkpoint of stream-ser"):
        read_checkpoint(tmp_path / CHECKPOINT)
    with pytest.raises(TrainError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "nothing.pt")


def window_means(engine: Any, clip: Any) -> NDArray[np.float64]:
    """Mean probabilities of a clip's fullest windows, as the runtime predicts them: what training validates on."""
    recognizer = Recognizer(engine, vad=None)
    events = [event for block in read_blocks(clip.path, 16_000) for event in recognizer.push(block)]
    asked = [e for e in [*events, *recognizer.flush()] if isinstance(e, Prediction) and e.probabilities]
    fullest = max(e.end - e.start for e in asked)
    return np.mean([e.probabilities for e in asked if e.end - e.start == fullest], axis=0)


def test_evaluation_of_the_onnx_file_agrees_with_training(run, exported) -> None:
    from stream_ser.train.metrics import clip_means, softmax

    loaded = engine.load(exported.path, "cpu")
    result = evaluate.evaluate(loaded, run.split.validation, vad=None)
    assert (result.scores.clips, result.silent) == (24, 0)
    network = trained_network(read_checkpoint(run.out / CHECKPOINT))
    with torch.no_grad():
        logits = network(run.model.normalize(run.validation.windows)).double().numpy()
    expected = clip_means(softmax(logits, exported.card.temperature), run.validation.owners)
    windows = np.stack([window_means(loaded, clip) for clip in run.split.validation])
    np.testing.assert_allclose(windows, expected, atol=1e-5)
    # An evaluation rests on the finished timeline, whose evidence is the same windows weighted by time.
    np.testing.assert_allclose(result.probabilities, expected, atol=0.01)


def test_evaluation_refuses_foreign_labels(exported, run) -> None:
    clips = [replace(run.split.validation[0], label="boredom")]
    with pytest.raises(DataError, match="'boredom' is not one of the model's"):
        evaluate.evaluate(engine.load(exported.path, "cpu"), clips)
    with pytest.raises(DataError, match="no clips"):
        evaluate.evaluate(engine.load(exported.path, "cpu"), [])


def test_a_card_can_be_rewritten(exported, tmp_path) -> None:
    import shutil

    copy = tmp_path / "copy.onnx"
    shutil.copy(exported.path, copy)
    card = replace(exported.card, results={"here": {"uar": 0.5}})
    checkpoints.rewrite_card(copy, card)
    assert engine.load(copy, "cpu").card == card
    with pytest.raises(ModelError, match="no such model file"):
        engine.load(tmp_path / "other.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.dim", "expected SECTION.FIELD=VALUE"),
        ("dim=3", "expected SECTION.FIELD=VALUE"),
        ("colour.dim=3", "unknown section"),
        ("model.colour=3", "unknown field"),
        ("model.dim=many", "expected a value like"),
        ("model.depth=0", "at least 1"),
        ("train.precision=fp8", "precision"),
        ("model.patch=99x1", "larger than the input"),
        ("model.patch=16", "height and a width"),
        ("model.dropout=2", "dropout"),
        ("features.n_mels=256", "holds no bin"),
        ("train.lr=nan", "lr a positive number"),
        ("train.label_smoothing=2", "label_smoothing"),
        ("train.threads=-1", "threads"),
        ("augment.speeds=", "speeds"),
        ("augment.mel_mask_bands=-1", "mel_mask_bands"),
        ("augment.noise_p=1.5", "noise_p"),
    ],
)
def test_changes_that_make_no_sense(change: str, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        presets.apply(presets.default(), [change])


def test_changes_are_typed_and_the_network_follows_the_features() -> None:
    config = presets.apply(
        presets.default(), ["model.patch=8x10", "model.stem=patch", "features.n_mels=40", "augment.speeds=0.95,1.05"]
    )
    assert config.model.patch == (8, 10)
    assert config.model.n_mels == 40
    assert config.augment.speeds == (0.95, 1.05)
    assert RunConfig.from_dict(config.as_dict()) == config


@pytest.mark.parametrize("name", list(presets.PRESETS["septr"]))
def test_presets_build(name: str) -> None:
    from stream_ser.features.log_mel import mel_filterbank
    from stream_ser.models.septr import SepTr

    config = presets.preset("septr", name)
    with torch.device("meta"):
        SepTr(config.model)
    assert mel_filterbank(config.features).shape[1] == config.model.n_mels
    assert config.model.n_frames == config.window.frames


def test_unknown_preset() -> None:
    with pytest.raises(TrainError, match="unknown preset"):
        presets.preset("septr", "miracle")


@pytest.mark.parametrize(
    ("stem", "order", "patch"),
    [
        ("patch", "frequency-time", "8x8"),
        pytest.param("conv", "time-frequency", "8x16", marks=pytest.mark.slow),
        pytest.param("patch", "frequency", "16x10", marks=pytest.mark.slow),
        ("conv", "time", "16x16"),
    ],
)
def test_every_septr_exports(stem: str, order: str, patch: str, tmp_path) -> None:
    from stream_ser.export.parity import largest_difference
    from stream_ser.models.septr import SepTr
    from stream_ser.runtime.card.recognition import Card

    torch.manual_seed(0)
    config = tiny_config(f"model.stem={stem}", f"model.order={order}", f"model.patch={patch}")
    network = SepTr(config.model).eval()
    card = Card("septr", corpora.EMOTIONS, config.features, (0.0,) * 64, (1.0,) * 64, config.window)
    checkpoints.write_onnx(network, card, tmp_path / "x.onnx")
    assert largest_difference(tmp_path / "x.onnx", network, torch.randn(5, 64, 100), batch=3) < 1e-4


def test_a_network_that_is_not_finite_does_not_pass(exported, run) -> None:
    from stream_ser.export.parity import largest_difference

    network = trained_network(read_checkpoint(run.out / CHECKPOINT))
    with torch.no_grad():
        network.head.bias.fill_(float("nan"))
    assert largest_difference(exported.path, network, run.validation.windows[:2]) == float("inf")
