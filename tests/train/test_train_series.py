"""Folds and seeds: several runs as one experiment."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training import options  # noqa: E402

from stream_ser import cli  # noqa: E402
from stream_ser.errors import TrainError  # noqa: E402
from stream_ser.train.evaluation import series  # noqa: E402


def call(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


def test_members() -> None:
    assert [m.name for m in series.members([1, 2], [0])] == ["fold-1", "fold-2"]
    assert [m.name for m in series.members([None], [0, 3])] == ["seed-0", "seed-3"]
    assert [m.name for m in series.members([1, 2], [0, 3])] == [
        *("fold-1-seed-0", "fold-1-seed-3", "fold-2-seed-0", "fold-2-seed-3"),
    ]
    assert series.members([2], [5]) == [series.Member(5, 2, "")]


@pytest.mark.parametrize("text", ["", "a", "0,0", "-1", "0,,1"])
def test_seeds_that_make_no_sense(text: str) -> None:
    with pytest.raises(TrainError, match="--seeds"):
        series.parse_seeds(text)


@pytest.fixture(scope="module")
def folds(tiny_crema_d, tmp_path_factory) -> Path:
    """Five folds of one actor each, trained through the command line."""
    out = tmp_path_factory.mktemp("runs") / "folds"
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments(tiny_crema_d, out))
    assert not stop.value.code
    return out


def arguments(corpus: Path, out: Path, *more: str) -> list[str]:
    return [
        *("train", "septr", "--data", f"crema-d={corpus}", "--out", str(out), "--split", "folds", "--fold", "all"),
        *options("train.epochs=1"),
        *more,
    ]


@pytest.mark.slow
def test_every_clip_is_held_out_once(folds) -> None:
    summary = json.loads((folds / "summary.json").read_text())
    assert [run["name"] for run in summary["runs"]] == [f"fold-{k}" for k in range(1, 6)]
    stems: list[str] = []
    right = []
    for run in summary["runs"]:
        with np.load(folds / run["name"] / "predictions.npz") as arrays:
            stems.extend(arrays["stems"])
            right.extend(arrays["probabilities"].argmax(axis=1) == arrays["truth"])
    assert len(stems) == len(set(stems)) == summary["pooled"]["clips"] == 60
    assert summary["pooled"]["wa"] == pytest.approx(np.mean(right))
    uars = [run["uar"] for run in summary["runs"]]
    assert summary["mean"]["uar"] == pytest.approx(np.mean(uars))
    assert summary["std"]["uar"] == pytest.approx(np.std(uars, ddof=1))
    assert summary["part"] == "validation"
    assert (summary["folds"], summary["seeds"]) == (5, [0])


def test_a_series_goes_on_where_it_was(folds, tiny_crema_d, tmp_path, capsys) -> None:
    out = tmp_path / "again"
    shutil.copytree(folds, out)
    before = (folds / "summary.json").read_bytes()
    (out / "summary.json").unlink()
    shutil.rmtree(out / "fold-4")
    code, _, err = call(capsys, *arguments(tiny_crema_d, out))
    assert code == 2
    assert "holds fold-1 already" in err
    code, said, err = call(capsys, *arguments(tiny_crema_d, out, "--resume"))
    assert code == 0, err
    assert err.count("finished before") == 4
    assert len([line for line in said.splitlines() if line.lstrip(" │").startswith(("mean", "± std", "pooled"))]) == 3
    ours, theirs = json.loads((out / "summary.json").read_text()), json.loads(before)
    for content in (ours, theirs):
        content["train_seconds"] = 0
        for run in content["runs"]:
            run["train_seconds"] = 0
    assert ours == theirs
    code, _, err = call(capsys, *arguments(tiny_crema_d, out, "--resume", "--lr", "0.5"))
    assert code == 2
    assert "fold-1: made with other settings" in err


def test_broken_members_are_named(folds, tmp_path) -> None:
    shutil.copytree(folds / "fold-1", tmp_path / "fold-1")
    (tmp_path / "fold-1" / "predictions.npz").write_bytes(b"junk")
    runs = series.members([1, 2], [0])
    with pytest.raises(TrainError, match="predictions"):
        series.summarize(tmp_path, runs[:1])
    with pytest.raises(TrainError, match="fold-2: not readable as a run"):
        series.summarize(tmp_path, runs[1:])


def test_seeds_share_a_split(tiny_crema_d, tmp_path, capsys) -> None:
    pytest.importorskip("matplotlib")
    code, out, err = call(
        capsys,
        *("train", "septr", "--data", f"crema-d={tiny_crema_d}", "--out", tmp_path / "s", "--split", "speaker"),
        *("--seeds", "0,7", "--split-seed", "3", *options("train.epochs=1")),
    )
    assert code == 0, err
    summary = json.loads((tmp_path / "s" / "summary.json").read_text())
    assert [run["seed"] for run in summary["runs"]] == [0, 7]
    assert {run["split"].partition(" (")[0] for run in summary["runs"]} == {"by speaker, seed 3"}
    assert "pooled" not in out
    stems = [np.load(tmp_path / "s" / name / "predictions.npz")["stems"].tolist() for name in ("seed-0", "seed-7")]
    assert stems[0] == stems[1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--fold", "all"], "has no folds"),
        (["--split", "folds"], "which fold"),
        (["--split", "folds", "--fold", "9"], "expected 1 to 5"),
        (["--seed", "1", "--seeds", "0,1"], "give one of them"),
        (["--seeds", "x"], "different whole numbers"),
        (["--precision", "fp16", "--device", "cpu"], "fp16 trains on CUDA only"),
        (["--init", "nowhere"], "nowhere: no such checkpoint"),
        (["--teacher", "nowhere"], "nowhere: no such checkpoint"),
    ],
)
def test_mistakes_are_one_line(more: list[str], message: str, tiny_crema_d, tmp_path, capsys) -> None:
    code, out, err = call(
        capsys, "train", "septr", "--data", f"crema-d={tiny_crema_d}", "--out", tmp_path / "r", *options(), *more
    )
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert not (tmp_path / "r" / "checkpoint.pt").exists()
