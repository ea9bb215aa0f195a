"""The report of a run, from predictions drawn at random."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from matplotlib.figure import Figure
from matplotlib.image import imread

from stream_ser.errors import TrainError
from stream_ser.train.evaluation import plots
from stream_ser.train.evaluation.plots import plot_speakers
from stream_ser.train.evaluation.report import write_report
from stream_ser.train.metrics import SpeakerScore, clip_means, fit_temperature_windows, score, softmax
from stream_ser.train.run_folder import Epoch

SIX = ("anger", "disgust", "fear", "happy", "neutral", "sad")


def write_predictions(
    path: Path, classes: int = 6, speakers: int = 9, clips: int = 180, seed: int = 0
) -> dict[str, np.ndarray]:
    """Something like a network that is too sure: two windows a clip, better on some speakers than on others."""
    rng = np.random.default_rng(seed)
    truth = np.arange(clips) % classes
    speaker = rng.integers(0, speakers, clips)
    owners = np.repeat(np.arange(clips), 2)
    logits = rng.normal(size=(clips, classes))[owners] * 3.0 + rng.normal(size=(2 * clips, classes))
    logits[np.arange(2 * clips), truth[owners]] += rng.uniform(1.0, 7.0, speakers)[speaker[owners]]
    arrays = {
        "truth": truth,
        "speakers": np.array([f"corpus/{1001 + s}" for s in speaker]),
        "window_logits": logits.astype(np.float32),
        "owners": owners,
        "probabilities": clip_means(softmax(logits), owners),
    }
    np.savez(path, **arrays)
    return arrays


def history_of(arrays: dict[str, np.ndarray], epochs: int = 3) -> list[Epoch]:
    scores = score(arrays["probabilities"], arrays["truth"])
    return [Epoch(n + 1, 2.0 - 0.1 * n, 1.9 - 0.1 * n, 1e-3, 1.0, scores) for n in range(epochs)]


def test_every_picture_and_number(tmp_path: Path) -> None:
    arrays = write_predictions(tmp_path / "predictions.npz")
    tested = write_predictions(tmp_path / "predictions-test.npz", seed=1)
    (tmp_path / "metrics.json").write_text(
        json.dumps({"network": "septr", "split": "by speaker", "parameters": 1234, "corpora": {"crema-d": 5885}})
    )
    write_report(history_of(arrays), SIX, tmp_path)
    pictures = {"curves"} | {k + s for k in ("confusion", "recall", "speakers", "calibration") for s in ("", "-test")}
    assert {path.stem for path in tmp_path.glob("*.png")} == pictures
    for path in tmp_path.glob("*.png"):
        height, width = imread(path).shape[:2]
        assert 200 < height < 3_000
        assert 200 < width < 3_000

    report = json.loads((tmp_path / "report.json").read_text())
    logits, owners, truth = arrays["window_logits"].astype(np.float64), arrays["owners"], arrays["truth"]
    temperature = fit_temperature_windows(logits, owners, truth)
    validation = report["validation"]
    assert validation["temperature"] == pytest.approx(temperature)
    assert temperature > 1.3  # it is too sure
    assert validation["ece"] < validation["ece_as_trained"]
    assert validation["uar"] == pytest.approx(score(arrays["probabilities"], truth).uar)
    assert validation["recall"].keys() == set(SIX)
    assert sum(row["clips"] for row in validation["speakers"]) == 180
    # The test part is calibrated with what the validation part gave, never with its own.
    assert report["test"]["temperature"] == validation["temperature"]
    assert report["test"]["temperature_fitted_on"] == "validation"
    assert report["test"]["ece"] == report["test"]["ece_cross_fitted"]
    assert report["test"]["uar"] == pytest.approx(score(tested["probabilities"], tested["truth"]).uar)

    text = (tmp_path / "report.md").read_text()
    for said in ("# septr", "by speaker", "1,234", "crema-d (5885 clips)", "| corpus/1001 |", "calibration-test.png"):
        assert said in text
    for picture in pictures:
        assert f"({picture}.png)" in text


def test_one_epoch_without_predictions(tmp_path: Path) -> None:
    arrays = write_predictions(tmp_path / "elsewhere.npz")
    write_report(history_of(arrays, 1), SIX, tmp_path)
    assert {path.name for path in tmp_path.glob("*.*")} == {
        *("curves.png", "confusion.png", "recall.png", "elsewhere.npz"),
    }


def test_one_speaker_has_no_interval(tmp_path: Path) -> None:
    arrays = write_predictions(tmp_path / "predictions.npz", classes=3, speakers=1, clips=12)
    write_report(history_of(arrays), SIX[:3], tmp_path)
    validation = json.loads((tmp_path / "report.json").read_text())["validation"]
    assert (validation["uar_interval"], validation["ece_cross_fitted"]) == (None, None)


def test_many_classes_and_speakers_stay_on_a_page(tmp_path: Path) -> None:
    arrays = write_predictions(tmp_path / "predictions.npz", classes=50, speakers=400, clips=400)
    write_report(history_of(arrays), [f"class {n}" for n in range(50)], tmp_path)
    assert "The 24 speakers of 251 with the lowest UAR" in (tmp_path / "report.md").read_text()
    rows = [SpeakerScore(f"crema-d/{1001 + n}", 80, 0.6, 1.0 - n / 100) for n in range(91)]
    plot_speakers(rows, 0.55, (0.5, 0.6), tmp_path / "91.png", "UAR by speaker")
    for path in tmp_path.glob("*.png"):
        assert max(imread(path).shape[:2]) < 2_200, path


def test_broken_predictions_are_named(tmp_path: Path) -> None:
    arrays = write_predictions(tmp_path / "good.npz")
    (tmp_path / "predictions.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(TrainError, match=r"predictions\.npz: not readable"):
        write_report(history_of(arrays), SIX, tmp_path)


def test_one_epoch_is_ticked_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: drawn.append(figure))
    plots.plot_curves(history_of(write_predictions(tmp_path / "p.npz"), 1), tmp_path / "curves.png")
    for axes in drawn[0].axes:
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1.0]
