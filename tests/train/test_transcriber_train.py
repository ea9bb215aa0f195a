"""Training of the transcriber, on a generated tree of LibriSpeech's layout."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cli_fakes import call, one_line  # noqa: F401 - fixtures

pytest.importorskip("torch")

import torch
from spoken_runs import CPU, emotions, librispeech, material  # noqa: F401 - fixtures

from stream_ser.config import FeatureConfig
from stream_ser.errors import DataError, TrainError
from stream_ser.models.transcriber import Transcriber, TranscriberConfig
from stream_ser.train.augment import AugmentConfig
from stream_ser.train.losses.ctc import ENGLISH, ctc_alignment, ctc_loss
from stream_ser.train.presets import apply_sections
from stream_ser.train.tasks.multitask.data import Batches, Heard, Item
from stream_ser.train.tasks.transcriber import config as recipe
from stream_ser.train.tasks.transcriber import task
from stream_ser.train.tasks.transcriber.config import LoopConfig, TranscriberRun
from stream_ser.train.tasks.transcriber.report import METRICS, finish
from stream_ser.train.tasks.transcriber.scores import Written
from stream_ser.train.tasks.transcriber.task import TranscriberTrainer, with_texts

MODEL = TranscriberConfig(dim=16, heads=2, encoder_layers=1, decoder_layers=1, max_tokens=12, dropout=0.0)


def config(**train) -> TranscriberRun:
    plain = AugmentConfig(cut_p=0.0, trail_s=0.1, speeds=(1.0,), reverb_p=0.0, noise_p=0.0, time_mask_frames=5)
    settings = {"epochs": 2, "batch_size": 6, "copies": 1, "precision": "fp32", "repeat": 1, **train}
    return TranscriberRun(MODEL, LoopConfig(**settings), plain)


@pytest.fixture
def made(librispeech, tmp_path):
    given = with_texts(material(f"librispeech={librispeech}", held_out=("Stop it!",)), 12)

    def make(name: str = "a", **train) -> TranscriberTrainer:
        (tmp_path / name).mkdir(exist_ok=True)
        trainer = TranscriberTrainer(config(held_out=("Stop it!",), **train), given, tmp_path / name, CPU)
        trainer.prepare()
        return trainer

    return make


def test_only_clips_with_a_text_are_used(librispeech, emotions):
    given = material(f"librispeech={librispeech}", f"csv={emotions}", held_out=("Stop it!",))
    found = with_texts(given, 4)
    assert {item.text for item in found.train} == {"YES", "NO"}  # STOP IT is held out, GO ON longer
    assert {item.text for item in found.validation} == {"YES", "NO", "STOP IT", "GO ON"}
    with pytest.raises(DataError, match="no training clip has a transcript of up to 1 characters"):
        with_texts(given, 1)
    with pytest.raises(DataError, match="no training clip"):
        with_texts(material(f"csv={emotions}"), 12)


def test_the_losses_are_those_of_each_clip_alone(made):
    run = made(ctc_weight=0.25, guide_weight=0.5, label_smoothing=0.0)
    batch = next(run.train.ordered())
    network = run.network.eval()
    total, attention, ctc, guide = run.batch_losses(batch)
    texts = batch.targets.split(batch.target_lengths.tolist())
    nats, characters, by_ctc, looked = 0.0, 0, [], []
    for features, steps, text in zip(batch.features, batch.steps, texts, strict=True):
        encoded, _ = network.encode(features[None, :, : steps * 4])
        told = torch.cat([torch.tensor([network.begin]), text])[None]
        expected = torch.cat([text, torch.tensor([0])])
        looks = []
        log_probs = network(network.remember(encoded), told, looks)[0].log_softmax(-1)
        (heard,) = ctc_alignment(network.ctc(encoded).transpose(0, 1).detach(), text, [int(steps)], [len(text)])
        for place, (start, end) in enumerate(zip(heard.starts, heard.ends, strict=True)):
            looked.append(-looks[0][0, place, max(0, start - 2) : end + 2].exp().sum().log())
        nats -= float(log_probs.gather(1, expected[:, None]).sum().detach())
        characters += len(expected)
        by_ctc.append(ctc_loss(network.ctc(encoded).transpose(0, 1), text, [int(steps)], [len(text)]).detach())
    assert float(attention.detach()) == pytest.approx(nats / characters, rel=1e-4)
    assert float(ctc.detach()) == pytest.approx(float(torch.stack(by_ctc).mean()), rel=1e-4)
    torch.testing.assert_close(guide, torch.stack(looked).mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(total, 0.75 * attention + 0.25 * ctc + 0.5 * guide)


def test_a_batch_without_texts_changes_nothing(made):
    run = made()
    batch = next(run.train.ordered())
    silent = batch._replace(targets=batch.targets[:0], target_lengths=torch.zeros_like(batch.target_lengths))
    losses = run.batch_losses(silent)
    losses.total.backward()
    assert [float(loss.detach()) for loss in losses] == [0.0, 0.0, 0.0, 0.0]
    assert not any(p.grad is not None and p.grad.any() for p in run.network.parameters())


def test_it_learns(made):
    run = made(epochs=12, lr=1e-2, ema_decay=0.5)
    run.fit()
    first, last = run.history[0], run.history[-1]
    assert last.attention_loss < 0.7 * first.attention_loss
    assert last.ctc_loss < 0.7 * first.ctc_loss
    assert last.guide_loss < first.guide_loss
    assert set(last.wer) == {"librispeech", "librispeech, held-out sentences"}


def test_without_ctc_there_is_none(made):
    run = made(ctc_weight=0.0, guide_weight=0.0, epochs=1)
    run.fit()
    assert run.history[0].ctc_loss == 0.0 < run.history[0].attention_loss


def test_a_resumed_run_equals_an_unbroken_one(made):
    whole, broken = made("a"), made("b")
    whole.fit()

    def stop(epoch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.fit(on_epoch=stop)
    again = made("b")
    again.resume()
    assert [epoch.epoch for epoch in again.history] == [1]
    again.fit()
    for a, b in zip(whole.averaged.parameters(), again.averaged.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(TrainError, match="other settings or data"):
        made("b", lr=1e-4).resume()
    results = finish(again)["results"]
    assert results["test"]["greedy"]["librispeech, held-out sentences"]["words"] == 2
    state = task.read_checkpoint(again.out / task.CHECKPOINT)
    assert state["results"] == results
    assert state["describe"]["longest_frames"] == 97
    assert isinstance(task.trained_network(state), Transcriber)


def test_error_rates_are_apart_by_corpus():
    items = tuple(
        Item(None, corpus, 0, text, held)
        for corpus, text, held in (("x", "A B", False), ("x", "C", True), ("y", "D", False))
    )
    rates = Written(items, ("A B", "D", "")).rates()
    assert {name: rate.wer for name, rate in rates.items()} == {"x": 0.0, "x, held-out sentences": 1.0, "y": 1.0}


def test_configuration_survives_json():
    there = config(held_out=("a b",))
    assert TranscriberRun.from_dict(json.loads(json.dumps(there.as_dict()))) == there


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.ctc_weight=1", r"ctc_weight must be in \[0, 1\)"),
        ("train.ctc_weight=0", "guide_weight needs CTC"),
        ("train.guide_weight=-1", "guide_weight must not be negative"),
        ("train.told_wrong=1", r"told_wrong must be in \[0, 1\)"),
        ("train.joined=1", r"joined must be in \[0, 1\)"),
        ("train.emotion_weight=1", "unknown field 'emotion_weight'"),
        ("model.dim=100", "multiple of twice the heads"),
        ("features.n_mels=80", "model.n_mels 64 is not features.n_mels 80"),
    ],
)
def test_impossible_changes_are_named(change, said):
    with pytest.raises(TrainError, match=said):
        apply_sections(recipe.TranscriberRun(), [change])


def test_a_checkpoint_of_another_network_is_named(tmp_path):
    path = tmp_path / task.CHECKPOINT
    torch.save({"format": "multitask-1"}, path)
    with pytest.raises(
        TrainError, match=r"not a transcriber checkpoint; train one with 'stream-ser train transcriber'"
    ):
        task.read_checkpoint(path)


def test_the_command_leaves_everything_behind(call, librispeech, tmp_path):
    out = tmp_path / "run"
    arguments = ["train", "transcriber", "--data", f"librispeech={librispeech}", "--out", out, "--epochs", 1]
    small = ("model.dim=16", "model.heads=2", "train.copies=1", "train.repeat=1", "train.validation_share=0.2")
    arguments += ["--held-out", "go on", *(part for change in small for part in ("--set", change))]
    code, said, err = call(*arguments)
    assert code == 0, err
    assert "3 training clips have none that is to be learnt" in err
    assert "next: stream-ser export --model transcriber" in err
    assert "librispeech, held-out sentences" in said
    assert "WER+LM" not in said
    content = json.loads((out / METRICS).read_text())
    assert set(content["results"]) == {"validation", "test"}
    assert len(content["epochs"]) == 1
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "transcriber-config.json").read_text())["train"]["held_out"] == ["go on"]
    assert "holds a run already" in one_line(call(*arguments)[2])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing option '--data'"),
        (["--data", "librispeech=nope"], "no such folder"),
        (["--data", "librispeech=nope", "--resume"], "to resume"),
        (["--data", "librispeech=nope", "--ctc-weight", "1"], "ctc_weight must be in"),
    ],
)
def test_mistakes_are_one_line(call, tmp_path, arguments, said):
    code, out, err = call("train", "transcriber", "--out", tmp_path / "r", *arguments)
    assert (code, out) == (2, "")
    assert said in one_line(err)


def test_help_is_its_own(call):
    assert "--ctc-weight" in call("train", "transcriber", "--help")[1]
    assert "transcriber" in call("train", "--help")[1]


def test_a_share_of_what_the_decoder_is_told_is_wrong():
    torch.manual_seed(0)
    told = torch.full((200, 50), 5)
    told[:, 0] = 29
    wrong = task.mislead(told, 0.2, 29)
    assert bool((wrong[:, 0] == 29).all())
    changed = wrong[:, 1:][wrong[:, 1:] != 5]
    assert 0.18 < changed.numel() / (200 * 49) < 0.21  # one draw in 28 is the character that was there
    assert set(changed.tolist()) == set(range(1, 29)) - {5}
    assert torch.equal(task.mislead(told, 0.0, 29), told)


def test_only_training_is_told_wrong(made, monkeypatch):
    run = made(told_wrong=0.9)
    batch = next(run.train.ordered())
    heard = []
    monkeypatch.setattr(task, "mislead", lambda told, share, begin: heard.append(share) or told)
    run.network.eval()
    run.batch_losses(batch)
    assert not heard
    run.network.train()
    run.batch_losses(batch)
    assert heard == [0.9]


def batches(texts: tuple[str, ...], frames: tuple[int, ...], longest_text: int = 99) -> Batches:
    """Clips whose features are the number of the clip, each with an emotion."""
    items = tuple(Item(None, "x", 3, text, text == "STOP IT") for text in texts)
    sounds = [np.full((64, n), place, np.float16) for place, n in enumerate(frames)]
    zeros, ones = np.zeros(64, np.float32), np.ones(64, np.float32)
    return Batches(Heard(items, (sounds,)), FeatureConfig(), zeros, ones, ENGLISH, 4, 8, 0, longest_text)


SILENT = AugmentConfig(cut_p=0.0, gain_db=0.0, time_masks=0, mel_masks=0)


def test_joined_clips_are_one_behind_the_other() -> None:
    texts, frames = ("A", "BE", "SEE", "DODO", "EEE"), (48, 40, 52, 60, 44)
    made = list(batches(texts, frames).epoch((0,), SILENT, 1, joined=1.0 - 2**-53))
    found = set()
    for batch in made:
        assert bool((batch.emotions == -1).all())
        for row, text in enumerate(batch.targets.split(batch.target_lengths.tolist())):
            sound = batch.features[row, 0, : batch.steps[row] * 4].round().long()
            order = [int(place) for place in dict.fromkeys(sound.tolist())]
            assert torch.equal(sound, torch.cat([torch.full((frames[place],), place) for place in order]))
            assert ENGLISH.decode(text.tolist()) == " ".join(texts[place] for place in order)
            assert batch.places[row] == order[0]
            found.update(order)
    assert found == set(range(5))
    assert sorted(len(batch.places) for batch in made) == [3]  # two pairs and an odd one


@pytest.mark.parametrize(
    ("texts", "longest", "why"),
    [
        (("A", "", "SEE", "DODO"), 99, "no text"),
        (("A", "STOP IT", "SEE", "DODO"), 99, "held out"),
        (("A", "BE", "SEE", "DODO"), 5, "too long"),
        (("A", "BE", "SEE", "DODODODODODODODO"), 99, "too fast"),
    ],
)
def test_a_batch_that_cannot_be_joined_stays_as_it_is(texts: tuple[str, ...], longest: int, why: str) -> None:
    (batch,) = batches(texts, (48, 40, 52, 60), longest).epoch((0,), SILENT, 1, joined=1.0 - 2**-53)
    assert batch.emotions.tolist() == [3] * 4, why
    assert sorted(batch.steps.tolist()) == [10, 12, 13, 15]


def test_an_older_run_is_refused_by_its_format(made) -> None:
    run = made(epochs=1)
    run.fit()
    path = run.out / task.CHECKPOINT
    state = torch.load(path, weights_only=True)
    torch.save({**state, "format": "transcriber-1"}, path)
    with pytest.raises(TrainError):
        task.read_checkpoint(path)
