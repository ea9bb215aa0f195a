"""Learning from a teacher's file and from plain speech, on the generated corpus."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from generate import voice, write_wav  # noqa: E402
from teacher_files import clips, write_file  # noqa: E402, F401
from training import make, strip, tiny_config  # noqa: E402

from stream_ser.errors import DataError, TrainError  # noqa: E402
from stream_ser.train.checkpoint import CHECKPOINT, read_checkpoint  # noqa: E402
from stream_ser.train.data import corpora, labels  # noqa: E402
from stream_ser.train.data.corpora import EMOTIONS  # noqa: E402
from stream_ser.train.data.teacher_scores import Taught, feature_loss, hold_out_speakers, ordinary_targets  # noqa: E402


@pytest.fixture
def plain(tmp_path: Path) -> corpora.Corpus:
    """LibriSpeech's layout, twelve speakers."""
    for speaker in range(30, 42):
        (tmp_path / f"plain/{speaker}").mkdir(parents=True)
        write_wav(tmp_path / f"plain/{speaker}/{speaker}-1-0000.wav", voice(1.0, speaker))
    return corpora.load("librispeech", tmp_path / "plain")


def test_the_posterior_is_mixed_into_the_targets(tmp_path: Path, clips) -> None:
    file = Taught.read(write_file(tmp_path / "t.npz", clips[:3]))
    assert file.name.startswith("t.npz: a teacher [")
    targets = np.eye(6, dtype=np.float32)[[0, 1, 2, 3]]
    file.soften(targets, clips[:4], EMOTIONS, 0.25)
    np.testing.assert_allclose(targets[1], 0.75 * np.eye(6)[1] + 0.25 * file.posterior[1], atol=1e-6)
    assert targets[3].tolist() == [0, 0, 0, 1, 0, 0]  # the teacher has not heard it
    np.testing.assert_allclose(targets.sum(axis=1), 1.0, atol=1e-6)
    assert not file.features_of(clips[3:4]).any()
    with pytest.raises(TrainError, match="the network has sad, anger"):
        file.soften(targets, clips, ("sad", "anger"), 0.5)


def test_a_teacher_that_says_nothing_changes_no_target(tmp_path: Path, clips) -> None:
    silent = np.zeros((3, 6), np.float32)
    file = Taught.read(write_file(tmp_path / "t.npz", clips[:3], posterior=silent))
    targets = np.eye(6, dtype=np.float32)[[0, 1, 2]]
    file.soften(targets, clips[:3], EMOTIONS, 0.5)
    assert np.array_equal(targets, np.eye(6)[[0, 1, 2]])


@pytest.mark.parametrize("wrong", [{"posterior": np.zeros((1, 6))}, {"features": np.zeros(9)}])
def test_a_file_that_does_not_fit_itself_is_refused(tmp_path: Path, clips, wrong) -> None:
    with pytest.raises(TrainError, match="for 3 clips"):
        Taught.read(write_file(tmp_path / "t.npz", clips[:3], **wrong))
    (tmp_path / "u.npz").write_bytes(b"PK junk")
    with pytest.raises(TrainError, match="not a teacher's file"):
        Taught.read(tmp_path / "u.npz")


def test_clips_without_features_add_no_loss() -> None:
    features = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
    said = torch.tensor([[0.0, 0.0], [7.0, 7.0]], requires_grad=True)
    loss = feature_loss(said, features)
    assert loss.item() == 1.0
    loss.backward()
    assert said.grad is not None
    assert not said.grad[1].any()
    assert feature_loss(said, torch.zeros(2, 2)).item() == 0.0


def test_plain_speech_is_weakly_neutral() -> None:
    targets = ordinary_targets(2, EMOTIONS, 0.6)
    assert targets[0].tolist() == pytest.approx([0.08, 0.08, 0.08, 0.08, 0.6, 0.08])
    with pytest.raises(TrainError, match="needs the label neutral"):
        ordinary_targets(1, ("anger", "sad"), 0.6)


def test_held_out_speakers_do_not_depend_on_the_others(plain) -> None:
    trained, held = hold_out_speakers(plain.clips, 0.3)
    assert trained
    assert held
    assert {*trained, *held} == set(plain.clips)
    assert hold_out_speakers(held, 0.3)[1] == held
    official = replace(trained[0], part="test")
    assert hold_out_speakers([official], 0.0)[1] == (official,)


@pytest.fixture
def lesson(tmp_path: Path, clips, plain) -> Taught:
    return Taught.read(write_file(tmp_path / "t.npz", (*clips, *plain.clips)))


def test_training_with_both_resumes_to_the_same_numbers(tmp_path: Path, tiny_crema_d: Path, lesson, plain) -> None:
    whole = make(tiny_crema_d, tmp_path / "whole", taught=lesson, ordinary=[plain])
    assert whole.data.batches == (36 + len(whole.ordinary)) // 8
    whole.fit()
    assert whole.features_head is not None
    about = read_checkpoint(tmp_path / "whole" / CHECKPOINT)["describe"]
    assert about["taught"] == lesson.name
    assert about["ordinary"] == {"librispeech": len(whole.ordinary)}
    assert {clip.speaker for clip in whole.ordinary} < {clip.speaker for clip in plain.clips}
    assert {s for s in about["train_speakers"] if s.startswith("libri")} == {c.speaker for c in whole.ordinary}

    first = make(tiny_crema_d, tmp_path / "parts", taught=lesson, ordinary=[plain])
    stop = RuntimeError("the machine stopped")

    def kill(_: object) -> None:
        raise stop

    with pytest.raises(RuntimeError, match="stopped"):
        first.fit(on_epoch=kill)
    again = make(tiny_crema_d, tmp_path / "parts", taught=lesson, ordinary=[plain])
    assert again.resume()
    again.fit()
    assert strip(again.history) == strip(whole.history)


def test_plain_speech_changes_what_is_learnt_and_a_resumed_run_must_have_it(
    tmp_path: Path, tiny_crema_d: Path, lesson, plain
) -> None:
    alone = make(tiny_crema_d, tmp_path / "a", "train.epochs=1")
    alone.fit()
    joined = make(tiny_crema_d, tmp_path / "b", "train.epochs=1", ordinary=[plain])
    joined.fit()
    assert strip(alone.history) != strip(joined.history)
    with pytest.raises(TrainError, match="repeat --taught and --ordinary"):
        make(tiny_crema_d, tmp_path / "b", "train.epochs=1").resume()
    with pytest.raises(TrainError, match="repeat --taught and --ordinary"):
        make(tiny_crema_d, tmp_path / "a", "train.epochs=1", taught=lesson).resume()


def test_plain_speech_trains_the_classifier_alone(tmp_path: Path, tiny_crema_d: Path, plain) -> None:
    """A batch of nothing else leaves the network below the classifier without a gradient."""
    run = make(tiny_crema_d, tmp_path / "a", "train.sentences=0", ordinary=[plain])
    flag = len(run.labels)
    for waves, targets in run.data.epoch((0, 0, 0)):
        assert targets.shape[1] == flag + 1
        assert set(targets[:, flag].tolist()) <= {0.0, 1.0}
        for value, moved in ((1.0, False), (0.0, True)):
            targets[:, flag] = value
            run.learner.zero_grad()
            x, both, _ = run._inputs(waves, targets, np.random.default_rng(0))
            run._step(x, both, None)
            body = [p for name, p in run.model.network.named_parameters() if not name.startswith("head.")]
            assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in body) == moved
            assert bool(run.model.network.head.weight.grad.abs().sum() > 0)
        break


def test_networks_do_not_teach_plain_speech(tmp_path: Path, tiny_crema_d: Path, plain) -> None:
    with pytest.raises(TrainError, match="--taught"):
        make(tiny_crema_d, tmp_path / "a", ordinary=[plain], teachers=[tmp_path / "septr"])


def test_plain_speech_must_be_a_corpus(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        labels.load_plain([f"librispeech={tmp_path / 'nowhere'}"])


def test_another_microphone_colours_and_keeps_the_power() -> None:
    from stream_ser.train.augment.filters import channel

    wave = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    out = channel(wave, 16_000, 6.0, np.random.default_rng(1))
    assert out.shape == wave.shape
    assert out.dtype == np.float32
    assert np.square(out).sum() == pytest.approx(np.square(wave).sum(), rel=1e-4)
    bands = np.abs(np.fft.rfft(out)) / np.abs(np.fft.rfft(wave))
    assert np.median(bands[3_900:4_100]) != pytest.approx(np.median(bands[450:550]), rel=0.2)
    assert not channel(np.zeros(100, np.float32), 16_000, 6.0, np.random.default_rng(1)).any()
    tiny_config("augment.channel_p=0.5", "augment.channel_db=3")
