"""Training of the multitask network, on a generated tree of LibriSpeech's layout and clips with emotions alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_fakes import call, one_line  # noqa: F401 - fixtures

pytest.importorskip("torch")

import torch
from spoken_runs import CPU, emotions, librispeech, material, spoken  # noqa: F401

from stream_ser.errors import DataError, TrainError
from stream_ser.models.multitask import MultitaskConfig
from stream_ser.train.augment import AugmentConfig
from stream_ser.train.data.corpora import EMOTIONS
from stream_ser.train.losses.ctc import ENGLISH
from stream_ser.train.presets import apply_sections
from stream_ser.train.tasks.multitask import config as recipe
from stream_ser.train.tasks.multitask import data, report, scores, task
from stream_ser.train.tasks.multitask.config import LoopConfig, MultitaskRun
from stream_ser.train.tasks.multitask.task import MultitaskTrainer

MODEL = MultitaskConfig(channels=(4, 4), width=16, layers=1, heads=2, dropout=0.0)


def config(**train) -> MultitaskRun:
    plain = AugmentConfig(cut_p=0.0, trail_s=0.1, speeds=(1.0,), reverb_p=0.0, noise_p=0.5, time_mask_frames=5)
    loop_config = LoopConfig(**{"epochs": 2, "batch_size": 6, "copies": 2, "precision": "fp32", **train})
    return MultitaskRun(MODEL, loop_config, plain)


def trainer(out: Path, given: data.Material, **train) -> MultitaskTrainer:
    out.mkdir(exist_ok=True)
    made = MultitaskTrainer(config(**train), given, out, CPU)
    made.prepare()
    return made


@pytest.fixture
def both(librispeech, emotions) -> data.Material:
    return material(f"librispeech={librispeech}", f"csv={emotions}")


def test_every_clip_keeps_the_label_that_it_has(both):
    parts = {name: getattr(both, name) for name in ("train", "validation", "test")}
    speakers = {name: {item.clip.speaker for item in items} for name, items in parts.items()}
    assert [len(found) for found in speakers.values()] == [5, 3, 1]
    assert not speakers["train"] & (speakers["validation"] | speakers["test"])
    assert not speakers["validation"] & speakers["test"]
    for item in both.train:
        emotional = not item.text
        assert emotional == (item.corpus == "csv")
        surprised = item.clip.label in ("surprise", "none")
        assert item.emotion == (data.NO_EMOTION if surprised else EMOTIONS.index(item.clip.label))


def test_a_missing_label_adds_no_loss(both, tmp_path):
    run = trainer(tmp_path / "a", both)
    batch = next(run.train.ordered())
    logits = torch.randn(6, 24, 6, requires_grad=True)
    log_probs = torch.randn(6, 24, 29).log_softmax(-1).requires_grad_()
    emotions = torch.tensor([0, -1, 2, -1, -1, 5])
    lengths = torch.tensor([0, 3, 0, 2, 0, 0])
    made = batch._replace(
        steps=torch.full((6,), 24), emotions=emotions, targets=torch.tensor([1, 2, 3, 4, 4]), target_lengths=lengths
    )
    found = run.losses(logits, log_probs, made)
    found.total.backward()
    felt, spelt = logits.grad.abs().sum((1, 2)) > 0, log_probs.grad.abs().sum((1, 2)) > 0
    assert felt.tolist() == (emotions >= 0).tolist()
    assert spelt.tolist() == (lengths > 0).tolist()
    none = made._replace(emotions=torch.full((6,), -1), target_lengths=torch.zeros(6, dtype=torch.long))
    assert run.losses(logits, log_probs, none._replace(targets=none.targets[:0])).total == 0.0


def test_the_ctc_weight_weighs(both, tmp_path):
    with torch.no_grad():
        totals = []
        for weight in (0.0, 0.5):
            run = trainer(tmp_path / str(weight), both, ctc_weight=weight, early=0.0)
            batch = next(run.train.epoch((0,), run.config.augment, 1))
            network = run.network.eval()
            found = run.losses(*network.steps(batch.features)[:2], batch)
            totals.append(found)
        assert totals[0].ctc == 0.0 < totals[1].ctc
        share = (batch.target_lengths > 0).sum() / len(batch.steps)
        torch.testing.assert_close(totals[1].total - totals[0].total, 0.5 * share * totals[1].ctc)


def test_it_learns_to_spell_and_to_feel(both, tmp_path):
    run = trainer(tmp_path / "a", both, epochs=15, lr=2e-2, ema_decay=0.5)
    run.fit()
    first, last = run.history[0], run.history[-1]
    assert last.ctc_loss < 0.7 * first.ctc_loss
    assert last.emotion_loss < 0.95 * first.emotion_loss
    assert last.uar is not None
    assert set(last.wer) == {"librispeech"}


def test_a_resumed_run_equals_an_unbroken_one(both, tmp_path):
    whole = trainer(tmp_path / "a", both, epochs=3)
    whole.fit()
    broken = trainer(tmp_path / "b", both, epochs=3)

    def stop(epoch):
        if epoch.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.fit(on_epoch=stop)
    again = trainer(tmp_path / "b", both, epochs=3)
    again.resume()
    assert len(again.history) == 1
    again.fit()
    for a, b in zip(whole.averaged.parameters(), again.averaged.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(TrainError, match="other settings or data"):
        trainer(tmp_path / "b", both, epochs=3, lr=1e-3).resume()
    ended = trainer(tmp_path / "b", both, epochs=3)
    ended.resume()
    assert [len(run.train.heard.copies) for run in (again, ended)] == [2, 1]
    assert report.finish(ended)["results"]["test"]["greedy"]["librispeech"]["words"] == 6


def test_held_out_sentences_are_measured_and_not_learnt(librispeech, tmp_path):
    given = material(f"librispeech={librispeech}", held_out=("Stop it!",))
    run = trainer(tmp_path / "a", given, held_out=("Stop it!",))
    for batch in run.train.epoch((0,), run.config.augment, 2):
        for row, index in enumerate(batch.places):
            assert (batch.target_lengths[row] == 0) == run.train.heard.items[index].held_out
    found = run.evaluate(run.validation)
    assert {name: len(rows) for name, rows in found.spoken().items()} == {
        "librispeech": 3,
        "librispeech, held-out sentences": 1,
    }
    assert "STOP" not in scores.language_model(given.train).units
    with pytest.raises(DataError, match="no clip says 'STEP IT'"):
        material(f"librispeech={librispeech}", held_out=("step it",))


def test_an_epoch_holds_each_clip_as_often_as_asked(both, tmp_path):
    run = trainer(tmp_path / "a", both)
    index = np.concatenate([batch.places for batch in run.train.epoch((0,), run.config.augment, 3)])
    times = np.bincount(index)
    wanted = [3 if item.emotion == data.NO_EMOTION else 1 for item in run.train.heard.items]
    assert times.tolist() == wanted
    again = np.concatenate([batch.places for batch in run.train.epoch((0,), run.config.augment, 3)])
    other = np.concatenate([batch.places for batch in run.train.epoch((1,), run.config.augment, 3)])
    assert index.tolist() == again.tolist() != other.tolist()


def test_long_clips_come_in_smaller_batches():
    item = data.Item(None, "x", 0, "")
    features = recipe.MultitaskRun().features
    lengths = (100, 100, 100, 4_000, 4_000)
    heard = data.Heard((item,) * 5, ([np.zeros((64, n), np.float16) for n in lengths],))
    constants = np.zeros(64, np.float32), np.ones(64, np.float32)
    made = data.Batches(heard, features, *constants, ENGLISH, 4, 8)
    assert [len(batch.steps) for batch in made.ordered()] == [3, 1, 1]


def test_gain_is_that_of_the_wave():
    features = recipe.MultitaskRun().features
    wave = spoken(3)
    quiet, loud = (data._plain([(g * wave * 32768).astype(np.int16)], features)[0] for g in (0.5, 1.0))
    item = data.Item(None, "x", 0, "")
    constants = np.zeros(64, np.float32), np.ones(64, np.float32)
    made = data.Batches(data.Heard((item,), ([quiet],)), features, *constants, ENGLISH, 4, 1)
    raised = made._amplified(torch.from_numpy(quiet.astype(np.float32)), 20.0 * np.log10(2.0))
    clear = loud > -6.0
    np.testing.assert_allclose(raised.numpy()[clear], loud.astype(np.float32)[clear], atol=0.1)


def test_the_delay_is_that_of_the_first_character():
    """Sound begins in frame 40; the first characters are spelt in steps 12 and 14, of 4 frames each."""
    sound = np.full((8, 120), -11.0, np.float16)
    sound[:, 40:100] = 2.0
    sound[:, 10] = 5.0  # a click
    assert scores.onset(sound) == 40
    log_probs = np.full((2, 30, len(ENGLISH)), -9.0, np.float32)
    log_probs[:, :, 0] = -0.1
    for row, step in enumerate((12, 14)):
        log_probs[row, step, 5] = 0.0
    items = tuple(data.Item(None, "x", data.NO_EMOTION, "A") for _ in range(2))
    found = scores.Outputs(items, np.zeros((2, 6)), tuple(log_probs), (sound, sound))
    assert scores.delay_frames(found, 4) == 12
    early = scores.Outputs(items, np.zeros((2, 6)), tuple(np.roll(log_probs, -10, axis=1)), (sound, sound))
    assert scores.delay_frames(early, 4) == 0


def test_configuration_survives_json():
    there = replace(config(), train=LoopConfig(held_out=("a b", "c")))
    assert MultitaskRun.from_dict(json.loads(json.dumps(there.as_dict()))) == there


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.lr=0", "lr must be a positive number"),
        ("train.ctc_weight=-1", "ctc_weight must not be negative"),
        ("train.precision=fp8", "'fp8' is not one of"),
        ("model.depth=2", "unknown field 'depth'"),
        ("model.width=250", "multiple of heads"),
        ("features.n_mels=32", "model.n_mels 64 is not features.n_mels 32"),
        ("features.normalization=level", "take corpus"),
        ("augment.cut_p=0.2", "part a clip from its text"),
    ],
)
def test_impossible_changes_are_named(change, said):
    with pytest.raises(TrainError, match=said):
        apply_sections(recipe.MultitaskRun(), [change])


@pytest.mark.parametrize("content", [b"", b"no", None])
def test_a_broken_checkpoint_is_named(tmp_path, content):
    path = tmp_path / task.CHECKPOINT
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainError, match=r"multitask\.pt: "):
        task.read_checkpoint(path)
    torch.save({"format": 1}, path)
    with pytest.raises(TrainError, match="not a multitask checkpoint"):
        task.read_checkpoint(path)
    torch.save({"format": task.FORMAT}, path)
    with pytest.raises(TrainError, match="damaged"):
        task.read_checkpoint(path)


def test_the_command_leaves_everything_behind(call, librispeech, emotions, tmp_path):
    out = tmp_path / "run"
    small = ["model.channels=4,4", "model.width=16", "model.layers=1", "model.heads=2", "train.copies=1"]
    arguments = ["train", "multitask", "--data", f"librispeech={librispeech}", "--data", f"csv={emotions}"]
    arguments += ["--out", out, "--epochs", 1, "--ctc-weight", 0.3, "--held-out", "go on"]
    arguments += [part for change in (*small, "train.validation_share=0.2") for part in ("--set", change)]
    code, said, err = call(*arguments)
    assert code == 0, err
    assert "WER+LM %" in said
    assert "librispeech, held-out sentences" in said
    assert "emotion UAR" in said
    content = json.loads((out / "multitask.json").read_text())
    assert set(content["results"]) == {"language_model", "validation", "test", "delay_frames"}
    assert content["results"]["test"]["greedy"]["librispeech"]["words"] == 4
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "lm.arpa").read_text().startswith("\\data\\")
    assert json.loads((out / "multitask-config.json").read_text())["train"]["held_out"] == ["go on"]
    assert "holds a run already" in one_line(call(*arguments)[2])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing option '--data'"),
        (["--data", "librispeech=nope"], "no such folder"),
        (["--data", "dreams=a"], "unknown corpus 'dreams'"),
        (["--data", "librispeech=nope", "--resume"], "to resume"),
        (["--data", "librispeech=nope", "--ctc-weight", "-1"], "ctc_weight must not be negative"),
    ],
)
def test_mistakes_are_one_line(call, tmp_path, arguments, said):
    code, out, err = call("train", "multitask", "--out", tmp_path / "r", *arguments)
    assert (code, out) == (2, "")
    assert said in one_line(err)


def test_help_is_its_own(call):
    assert "--ctc-weight" in call("train", "multitask", "--help")[1]
    assert "multitask" in call("train", "--help")[1]


def test_a_batch_without_a_label_that_counts_changes_nothing(librispeech, emotions, tmp_path):
    """Transcripts alone, and no weight for them."""
    run = trainer(tmp_path, material(f"librispeech={librispeech}", f"csv={emotions}"), ctc_weight=0.0, epochs=1)
    spoken_only = [batch for batch in run.train.ordered() if (batch.emotions == data.NO_EMOTION).all()]
    assert spoken_only
    before = [parameter.clone() for parameter in run.network.parameters()]
    run.train.epoch = lambda *_: iter(spoken_only)
    run.fit()
    assert all(map(torch.equal, before, run.network.parameters()))


def test_nothing_is_spelt_before_enough_was_heard():
    """Sound begins in frame 40 of 120; the text needs 3 of the 30 steps."""
    sound = np.full((64, 120), -11.0, np.float16)
    sound[:, 40:] = 2.0
    items = (data.Item(None, "x", 0, "AA"), data.Item(None, "x", 0, "B" * 14), data.Item(None, "x", 0, ""))
    constants = np.zeros(64, np.float32), np.ones(64, np.float32)
    heard = data.Heard(items, ([sound] * 3,))
    quiet = {}
    for hear_first in (0, 20):
        made = data.Batches(heard, recipe.MultitaskRun().features, *constants, ENGLISH, 4, 8, hear_first)
        (batch,) = made.ordered()
        quiet[hear_first] = batch.quiet[batch.places.argsort()].tolist()
    # A text of 14 equal letters needs 27 steps, so only 3 are left; without a text there is nothing to wait for.
    assert quiet == {0: [0, 0, 0], 20: [15, 3, 0]}


def test_the_quiet_beginning_is_blank_in_every_path(both, tmp_path):
    """Against the loss of the clip without its beginning, and of the blank alone there."""
    run = MultitaskTrainer(config(), both, tmp_path, CPU)
    log_probs = torch.randn(1, 12, len(ENGLISH), dtype=torch.float64).log_softmax(-1)
    lengths = torch.tensor([3])
    batch = data.Batch(
        torch.zeros(1), torch.tensor([12]), torch.tensor([0]), torch.tensor([1, 2, 2]), lengths, torch.tensor([5]), None
    )
    loss = run._ctc(log_probs, batch, torch.tensor([0]))
    rest = torch.nn.functional.ctc_loss(log_probs[0, 5:, None], batch.targets[None], (7,), (3,))
    wanted = rest - log_probs[0, :5, 0].sum() / 3
    assert float(loss) == pytest.approx(float(wanted), rel=1e-9)
