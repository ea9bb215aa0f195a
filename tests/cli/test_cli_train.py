"""``train``, ``export`` and ``evaluate`` as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from stream_ser import cli

SMALL = [
    *("--set", "window.frames=100", "--set", "window.minimum=50", "--set", "model.stem_channels=8,8,16,16"),
    *("--set", "model.dim=16", "--set", "model.dim_head=8", "--set", "model.mlp_dim=16", "--batch-size", "8"),
]


@pytest.fixture
def call(capsys, tmp_path: Path, monkeypatch):
    """Run a command line in an empty folder; gives exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return run


@pytest.mark.slow  # continuous integration does the same from the wheel
def test_train_export_evaluate_file(call, tiny_crema_d: Path) -> None:
    data = f"crema-d={tiny_crema_d}"
    code, out, err = call("train", "septr", "--data", data, "--out", "runs/a", "--epochs", 1, *SMALL)
    assert code == 0, err
    assert "validation UAR" in out
    assert "speaker-disjoint" in err
    assert {p.name for p in Path("runs/a").iterdir()} >= {
        *("config.json", "metrics.json", "curves.png", "confusion.png", "checkpoint.pt"),
    }

    code, _, err = call("train", "septr", "--data", data, "--out", "runs/a", "--epochs", 1, *SMALL)
    assert code == 2
    assert "holds a run already" in err

    code, out, err = call("export", "--model", "septr")
    assert code == 0, err
    assert "largest difference from torch" in out
    assert str(Path("runs/a/checkpoint.pt")) in err

    code, out, err = call("evaluate", "runs/a/septr.onnx", "--data", data, "--json", "--record")
    assert code == 0, err
    scores = json.loads(out)
    assert scores["clips"] == 24
    assert "2 speakers, none of them heard in training; ONNX" in scores["protocol"]

    code, out, err = call("evaluate", "runs/a/septr.onnx", "--data", data, "--json", "--part", "all")
    assert code == 0, err
    assert "5 speakers, 3 of them heard in training: not speaker-independent" in json.loads(out)["protocol"]
    code, out, err = call("evaluate", "runs/a/septr.onnx", "--data", data, "--part", "test")
    assert (code, out) == (2, "")
    assert "no clip is in the test part" in err

    code, out, err = call("models", "--json", "runs/a/septr.onnx")
    assert json.loads(out)[0]["results"]["crema-d validation"]["uar"] == scores["uar"]

    code, out, err = call("evaluate", "runs/a/septr.onnx", "--data", data)
    assert code == 0, err
    assert f"UAR {scores['uar']:.4f}" in out

    clip = tiny_crema_d / "AudioWAV" / "1009_DFA_ANG_XX.wav"
    code, out, err = call("file", clip, "--model", "runs/a/septr.onnx", "--format", "jsonl")
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["type"] == "summary"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "septr", "--out", "r"], "--data CORPUS=PATH is needed"),
        (["train", "septr", "--out", "r", "--data", "crema-d=nowhere"], "nowhere: no such folder"),
        (["train", "septr", "--out", "r", "--data", "dreams=x"], "unknown corpus"),
        (["train", "septr", "--out", "r", "--preset", "miracle", "--data", "crema-d=x"], "unknown preset"),
        (["train", "septr", "--out", "r", "--set", "model.dim", "--data", "crema-d=x"], "SECTION.FIELD=VALUE"),
        (["train", "resnet", "--out", "r"], "resnet"),
        (["export", "--model", "septr"], "no septr run under runs/"),
        (["export", "--model", "septr", "--checkpoint", "nothing.pt"], "no such checkpoint"),
        (["evaluate", "nobody", "--data", "crema-d=x"], "no such model file"),
    ],
)
def test_mistakes_are_one_line(call, arguments: list[str], message: str) -> None:
    code, out, err = call(*arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1


def test_an_unwritable_run_folder(call, tiny_crema_d: Path) -> None:
    Path("taken").write_text("")
    code, _, err = call("train", "septr", "--data", f"crema-d={tiny_crema_d}", "--out", "taken/run", "--epochs", 1)
    assert code == 2
    assert "cannot be written" in err.splitlines()[-1]


def test_help_shows_examples_line_by_line(call) -> None:
    code, out, _ = call("train", "--help")
    assert code == 0
    assert "\n    torchrun --nproc-per-node 2 -m stream_ser train septr" in out
    assert "\\b" not in out


def test_a_corpus_is_left_out(call, tiny_crema_d: Path, tmp_path: Path) -> None:
    """nEMO's layout, of which only two emotions are there: scored among all classes and among those two."""
    import shutil

    rows = ["file_id\temotion\traw_text\tspeaker_id"]
    (tmp_path / "nemo/samples").mkdir(parents=True)
    clips = sorted((tiny_crema_d / "AudioWAV").glob("*.wav"))
    for number, clip in enumerate(clips[:8]):
        name = f"EB0_{'anger' if number % 2 else 'sadness'}_{number}.wav"
        shutil.copy(clip, tmp_path / "nemo/samples" / name)
        rows.append(f"{name}\t\tTak.\tEB0")
    (tmp_path / "nemo/data.tsv").write_text("\n".join(rows) + "\n")
    data = ("--data", f"crema-d={tiny_crema_d}", "--data", "nemo=nemo")
    code, out, err = call("train", "septr", *data, "--leave-out", "nemo", "--out", "run", "--epochs", 1, *SMALL)
    assert code == 0, err
    assert "24 validation, 8 test clips" in err
    assert "test, of the classes that it has, UAR" in out
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["test_clips"] == 8
    assert not any(speaker.startswith("nemo") for speaker in metrics["train_speakers"])
    among = metrics["test_present_classes"]
    assert among["uar"] >= metrics["test"]["uar"]
    assert sum(sum(row) for row in among["confusion"]) == sum(row[0] + row[5] for row in among["confusion"]) == 8
