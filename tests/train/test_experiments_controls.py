"""The classical controls: features are cached, nothing of the measured part reaches the choice or the scaling."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from generate import write_crema_d, write_wav

from stream_ser.errors import DataError, OutputError, TrainError
from stream_ser.train.data import corpora
from stream_ser.train.data.corpora import Clip
from stream_ser.train.experiments import controls, functionals

SPEAKERS = 6
CLASSES = 3


@pytest.fixture
def blobs() -> tuple[controls.Features, list[Clip]]:
    """Three classes that an SVM can tell apart, by six speakers, with some missing values and a constant."""
    rng = np.random.default_rng(0)
    clips = [
        Clip(Path(f"{speaker}_{label}_{take}.wav"), str(label), f"s{speaker}")
        for speaker in range(SPEAKERS)
        for label in range(CLASSES)
        for take in range(6)
    ]
    centres = 3.0 * np.eye(CLASSES, 8)
    features = np.stack([centres[int(clip.label)] + rng.standard_normal(8) for clip in clips]) * 100.0
    features[::17, 3] = np.nan
    features[:, 7] = 5.0
    return features.astype(np.float32), clips


def test_separable_classes_are_separated(blobs: tuple[controls.Features, list[Clip]], tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    features, clips = blobs
    train = 5 * len(clips) // SPEAKERS
    control = controls.fit(features, clips, train, ("0", "1", "2"))
    assert control.scores.uar > 0.75
    assert control.cost in controls.GRID
    assert control.searched[control.cost] == max(control.searched.values())
    control.save(tmp_path / "predictions.npz")
    right = controls.right_of(tmp_path / "predictions.npz", control.clips)
    assert control.against(right) == {"control_only_right": 0, "run_only_right": 0, "p": 1.0}
    backwards = controls.right_of(tmp_path / "predictions.npz", control.clips[::-1])
    assert backwards.tolist() == right[::-1].tolist()
    with pytest.raises(DataError, match="one split"):
        controls.right_of(tmp_path / "predictions.npz", clips[:2])


def test_measured_clips_do_not_change_the_fit(blobs: tuple[controls.Features, list[Clip]]) -> None:
    pytest.importorskip("sklearn")
    features, clips = blobs
    train = 5 * len(clips) // SPEAKERS
    first = controls.fit(features, clips, train, ("0", "1", "2"))
    changed = features.copy()
    changed[train + 1 :] *= 1e3
    second = controls.fit(changed, clips, train, ("0", "1", "2"))
    assert (first.cost, first.searched, first.predicted[0]) == (second.cost, second.searched, second.predicted[0])


def test_kernel_is_the_formula_and_scaled_on_the_training_clips() -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(1)
    train = rng.normal(7.0, 30.0, (40, 5)).astype(np.float32)
    gram, cross = controls.kernels(train, train[:3] + 60.0)
    scaled = (train - train.mean(0)) / train.std(0)
    asked = (train[:3] + 60.0 - train.mean(0)) / train.std(0)
    squared = ((asked[:, None] - scaled[None]) ** 2).sum(-1)
    np.testing.assert_allclose(cross, np.exp(-squared / 5.0), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(np.diag(gram), 1.0, atol=1e-5)


def test_folds_of_the_search_share_no_speaker(
    blobs: tuple[controls.Features, list[Clip]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    features, clips = blobs
    # Let the first feature name the speaker: the folds can then be read off it.
    features[:, 0] = [int(clip.speaker[1:]) for clip in clips]
    seen = []
    whole = controls.kernels

    def spy(train: controls.Features, other: controls.Features) -> tuple[controls.Floats, controls.Floats]:
        seen.append((set(train[:, 0]), set(other[:, 0])))
        return whole(train, other)

    monkeypatch.setattr(controls, "kernels", spy)
    targets = np.asarray([int(clip.label) for clip in clips])
    controls.choose_cost(features, targets, [clip.speaker for clip in clips], CLASSES, (1.0,), folds=3)
    assert len(seen) == 3
    assert all(not inside & outside for inside, outside in seen)
    assert set.union(*(outside for _, outside in seen)) == set(range(SPEAKERS))
    with pytest.raises(DataError, match="6 training speakers do not make 7 folds"):
        controls.choose_cost(features, targets, [clip.speaker for clip in clips], CLASSES, folds=7)


def test_functionals_are_cached_by_content(tiny_crema_d: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opensmile")
    clips = corpora.load("crema-d", tiny_crema_d).clips[:2]
    seen: list[None] = []
    first = functionals.functionals(clips, "eGeMAPSv02", tmp_path, advance=lambda: seen.append(None))
    assert (first.shape, len(seen)) == ((2, 88), 2)
    assert np.isfinite(first).all()
    assert not np.array_equal(first[0], first[1])

    def forbidden(feature_set: str) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(functionals, "_smile", forbidden)
    again = functionals.functionals(clips[::-1], "eGeMAPSv02", tmp_path)
    np.testing.assert_array_equal(again, first[::-1])


def test_functionals_refuse_what_they_cannot_measure(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="eGeMAPSv02, ComParE_2016"):
        functionals.functionals([], "GeMAPS", tmp_path)
    empty = Clip(write_wav(tmp_path / "empty.wav", np.zeros(0, np.float32)), "anger", "s")
    with pytest.raises(Exception, match=r"empty\.wav"):
        functionals.functionals([empty], "eGeMAPSv02", tmp_path)


def test_command_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("opensmile")
    actors = ("1001", "1002", "1003", "1004", "1005", "1009")
    data = write_crema_d(tmp_path / "crema-d", actors, sentences=("DFA",), seconds=0.6)
    out = tmp_path / "results" / "controls.json"
    args = ["--data", f"crema-d={data}", "--features", "eGeMAPSv02", "--cache", str(tmp_path), "--jobs", "1"]
    done = CliRunner().invoke(controls.main, [*args, "--out", str(out)])
    assert done.exit_code == 0, done.output
    content = json.loads(out.read_text())
    assert content["protocol"].startswith("crema-d, fixed list, speaker-disjoint (5 train / 1 validation")
    control = content["controls"]["eGeMAPSv02"]
    assert control["clips"] == 6
    with np.load(out.with_name("controls-eGeMAPSv02.npz")) as saved:
        assert float((saved["truth"] == saved["predicted"]).mean()) == control["wa"]
    assert "eGeMAPSv02" in done.stdout


def test_a_missing_corpus_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    args = ["--data", "crema-d=/no/such/folder", "--cache", str(tmp_path), "--out", str(tmp_path / "c.json")]
    done = CliRunner().invoke(controls.main, args)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "/no/such/folder: no such folder" in done.stderr


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 and no more", b"\x93NUMPY"])
def test_what_is_no_predictions_is_said_before_any_work(
    tmp_path: Path, tiny_crema_d: Path, content: bytes | None
) -> None:
    pytest.importorskip("sklearn")
    wrong = tmp_path / "predictions.npz"
    if content is not None:
        wrong.write_bytes(content)
    args = ["--data", f"crema-d={tiny_crema_d}", "--cache", str(tmp_path / "cache"), "--against", str(wrong)]
    done = CliRunner().invoke(controls.main, [*args, "--out", str(tmp_path / "c.json")])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "not the predictions of a run" in done.stderr
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="choose another --cache"):
        functionals.functionals([], "eGeMAPSv02", tmp_path / "file")
