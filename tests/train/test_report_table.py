"""``stream-ser report``: run folders as training leaves them, generated."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stream_ser.cli.commands.report import SORTS
from stream_ser.errors import TrainError
from stream_ser.train.evaluation import run_table

FIXED = "fixed list, speaker-disjoint (63 train / 9 validation)"
RANDOM = "random clips 70/15/15, seed 0, speakers overlap"


def scores(uar: float, clips: int = 732) -> dict[str, Any]:
    named = {"clips": clips, "wa": uar - 0.01, "uar": uar, "f1": uar - 0.02, "ece": 0.2, "nll": 1.0}
    return {**named, "recall": [uar], "confusion": [[1]]}


def write_run(folder: Path, uar: float, *, split: str = FIXED, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    metrics = {
        "network": "septr",
        "parameters": 2_400_000,
        "macs": 150_000_000,
        "corpora": {"crema-d": 5885},
        "split": split,
        "seed": 0,
        "epochs": 2,
        "train_seconds": 1800.0,
        "finished": True,
        # The best epoch is not the last one, and must not be taken for the result.
        "history": [{"epoch": 1, "scores": scores(0.99)}, {"epoch": 2, "scores": scores(uar)}],
        **changes,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def write_series(folder: Path, uars: tuple[float, ...]) -> Path:
    split = "fold {} of 5, official, held out for validation, speaker-disjoint (16 train / 4 validation)"
    members = []
    for number, uar in enumerate(uars, start=1):
        name = f"fold-{number}"
        write_run(folder / name, uar, split=split.format(number), corpora={"ravdess": 1199})
        (folder / name / "report.json").write_text(json.dumps({"validation": {"ece_cross_fitted": 0.01 * number}}))
        about = {"name": name, "fold": number, "seed": 0, "part": "validation", "split": split.format(number)}
        members.append({**about, "epochs": 2, "train_seconds": 60.0, **scores(uar, 240)})
    summary = {
        "network": "septr",
        "parameters": 2_400_000,
        "corpora": {"ravdess": 1199},
        "part": "validation",
        "folds": len(uars),
        "seeds": [0],
        "train_seconds": 300.0,
        "mean": scores(sum(uars) / len(uars)),
        "std": {"uar": 0.02},
        "pooled": scores(0.6, 1199),
        "runs": members,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs on one split, one on another, one series, one that has only begun."""
    root = tmp_path / "runs"
    write_run(root / "small", 0.55, parameters=100_000, macs=9_000_000)
    write_run(root / "large", 0.61, macs=None)
    write_run(root / "leaky", 0.70, split=RANDOM, test=scores(0.68, 883))
    write_series(root / "ravdess", (0.5, 0.6, 0.7))
    write_run(root / "begun", 0.5, history=[], finished=False)
    return root


def test_rows_of_runs_and_series(folder: Path) -> None:
    found = {path.name: run_table.read(path) for path in run_table.find([folder])}
    assert set(found) == {"small", "large", "leaky", "ravdess", "begun"}  # a series stands for its folds
    assert found["begun"] is None
    large, leaky, series = found["large"], found["leaky"], found["ravdess"]
    assert large is not None
    assert (large.uar, large.uar_std, large.runs, large.overlap) == (0.61, None, 1, False)
    assert large.protocol == f"crema-d, {FIXED}, validation part"
    assert leaky is not None
    assert (leaky.uar, leaky.clips, leaky.overlap) == (0.68, 883, True)
    assert leaky.protocol.endswith("test part")
    assert series is not None
    assert (series.uar, series.uar_std, series.runs, series.clips) == (pytest.approx(0.6), 0.02, 3, 1199)
    assert series.ece_calibrated == pytest.approx(0.02)
    assert series.protocol.startswith("ravdess, 3 folds, official, held out for validation, speaker-disjoint")


def test_takes_of_one_recording_in_two_folds_overlap(tmp_path: Path) -> None:
    split = "fold 1 of 5, official, held out for validation, 3 speakers or recordings in both (9 train / 4 validation)"
    row = run_table.read(write_run(tmp_path / "esc", 0.5, split=split))
    assert row is not None
    assert row.overlap


def test_protocols_are_never_mixed_and_unknown_comes_last(folder: Path) -> None:
    rows = [row for path in run_table.find([folder]) if (row := run_table.read(path)) is not None]
    groups = run_table.arrange(rows)
    assert [[Path(r.folder).name for r in g] for g in groups] == [["large", "small"], ["ravdess"], ["leaky"]]
    by_macs = run_table.arrange(rows, "macs")[0]
    assert [Path(r.folder).name for r in by_macs] == ["small", "large"]
    assert set(SORTS) == set(run_table.SORTS)
    for sort in SORTS:
        assert sum(map(len, run_table.arrange(rows, sort))) == len(rows)


def test_the_table(call, folder: Path) -> None:
    code, out, err = call("report", folder)
    assert (code, err) == (0, f"{folder / 'begun'}: no epoch is finished yet, left out\n")
    assert out.index("large") < out.index("small") < out.index("leaky")
    assert out.count("SPEAKERS OVERLAP") == 1
    assert out.index("SPEAKERS OVERLAP") > out.index("ravdess")
    for said in ("0.6100", "0.6000 ± 0.0200", "2.40 M", "9.00 M", "30 min", FIXED):
        assert said in out
    assert "0.9900" not in out
    assert "latency" not in out


def test_json_and_csv(call, folder: Path) -> None:
    code, out, _ = call("report", folder, "--json")
    assert code == 0
    rows = json.loads(out)
    code, out, _ = call("report", folder, "--csv", "--sort", "name")
    assert code == 0
    lines = list(csv.DictReader(io.StringIO(out)))
    assert {row["folder"] for row in rows} == {line["folder"] for line in lines}
    assert {float(line["uar"]) for line in lines} == {row["uar"] for row in rows}
    assert {line["overlap"] for line in lines} == {"True", "False"}


def test_png(call, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    code, _, err = call("report", folder, "--png", tmp_path / "table.png")
    assert code == 0
    assert err.endswith("table.png: written\n")
    height, width = imread(tmp_path / "table.png").shape[:2]
    assert 300 < height < 1_500
    assert 700 < width < 2_000
    code, _, err = call("report", folder, "--png", tmp_path / "nowhere" / "table.png")
    assert code == 2
    assert "table.png" in err.splitlines()[-1]


def test_latency_of_the_onnx_file(call, folder: Path, tiny_model: Path) -> None:
    pytest.importorskip("torch")
    (folder / "small" / "mine.onnx").write_bytes(tiny_model.read_bytes())
    code, out, _ = call("report", folder / "small", folder / "large", "--latency", "--json")
    assert code == 0
    large, small = json.loads(out)
    assert small["latency_by"] == "onnxruntime"
    assert 0.0 < small["latency_ms"] < 100.0
    assert large["latency_ms"] is None


def test_mistakes(call, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "metrics.json").write_text("{")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "metrics.json").write_text('{"loss": 3}')
    for path, message in (
        ("nowhere", "no such folder"),
        ("empty", "no run in it"),
        ("broken", "metrics.json: not readable"),
        ("foreign", "not as stream-ser writes a run (KeyError"),
    ):
        code, out, err = call("report", tmp_path / path)
        assert (code, out) == (2, "")
        assert message in err
        assert len(err.splitlines()) == 1
    (broken / "metrics.json").write_text("[]")
    with pytest.raises(TrainError, match="not a JSON object"):
        run_table.read(broken)


def test_short_numbers() -> None:
    counts = (None, 12, 999_400, 999_600, 2_418_726, 338_000_000, 2_228_000_000_000)
    assert [run_table.short(count) for count in counts] == [
        *("", "12", "999 k", "1.00 M", "2.42 M", "338 M", "2.23 T"),
    ]


def test_durations() -> None:
    assert [run_table.duration(s) for s in (42.0, 600.0, 36_000.0)] == ["42 s", "10 min", "10.0 h"]


def test_what_a_run_did_not_record_is_counted_and_timed(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from stream_ser.models import registry
    from stream_ser.train import presets
    from stream_ser.train.evaluation.complexity import complexity

    folder = write_run(tmp_path / "run", 0.5, macs=None)
    config = presets.apply(
        presets.preset("septr"),
        ["model.dim=16", "model.dim_head=8", "model.mlp_dim=16", "model.stem_channels=8,8,16,16"],
    )
    network = registry.build(config.network, config.model)
    (folder / "config.json").write_text(json.dumps(config.as_dict()))
    average = {f"module.network.{name}": value for name, value in network.state_dict().items()}
    rest = {"network": config.network, "labels": [], "mean": [], "std": [], "describe": {}}
    torch.save({"format": 1, "config": config.as_dict(), "average": average, **rest}, folder / "checkpoint.pt")
    row = run_table.read(folder)
    assert row is not None
    assert row.macs is None
    assert run_table.with_macs(row).macs == complexity(network, 64, config.window.frames).macs > 1_000_000
    threads = torch.get_num_threads()
    timed = run_table.with_latency(row)
    assert timed.latency_by == "torch"
    assert 0.0 < (timed.latency_ms or 0.0) < 1_000.0
    assert torch.get_num_threads() == threads
    (folder / "config.json").write_text('{"network": "none"}')
    assert run_table.with_macs(row).macs is None


def test_other_classes_are_another_protocol(tmp_path: Path) -> None:
    """The same folds with calm and surprise, and without: eight classes are not six."""
    for name, labels, clips in (("eight", 8, 1440), ("six", 6, 1056), ("fewer", 6, 1000)):
        run = {"labels": list(range(labels)), "history": [{"epoch": 1, "scores": scores(0.5, clips)}]}
        write_run(tmp_path / name, 0.5, **run)
    rows = [row for path in run_table.find([tmp_path]) if (row := run_table.read(path)) is not None]
    assert {row.protocol for row in rows} == {f"crema-d, {n} classes, {FIXED}, validation part" for n in (6, 8)}
    assert sorted(Path(row.folder).name for group in run_table.arrange(rows) for row in group[:1]) == [
        "eight",
        "fewer",
        "six",
    ]


def test_runs_of_one_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name for name in ("a/seed-0", "b/seed-0", "b/seed-1")]
    rows = [run_table.read(write_run(folder, 0.5, finished=folder.name != "seed-1")) for folder in folders]
    called = run_table.names([row for row in rows if row is not None])
    assert list(called.values()) == ["a/seed-0", "b/seed-0", "seed-1 (unfinished, epoch 2)"]
    monkeypatch.chdir(folders[0])
    row = run_table.read(Path())
    assert row is not None
    assert run_table.names([row]) == {".": "seed-0"}


def test_the_picture_says_what_the_table_says(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    from stream_ser.train.evaluation import plots

    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: drawn.append(figure))
    row = run_table.read(write_run(folder / "stopped", 0.6, finished=False, train_seconds=20.0))
    assert row is not None
    plots.plot_runs([[replace(row, latency_ms=1.25, latency_by="torch")]], tmp_path / "table.png")
    said = [text.get_text() for axes in drawn[0].axes for text in [*axes.texts, *axes.get_yticklabels()]]
    assert {"stopped (unfinished, epoch 2) (septr)", "20 s", "1.25 ms, torch"} <= set(said)
