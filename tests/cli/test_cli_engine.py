"""The command line with nothing faked: real ONNX files through onnxruntime, real audio files."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stream_ser.cli import main
from stream_ser.runtime.engine import DEFAULT_MODEL, bundled

RATE = 16_000


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line as a shell would; exit code, stdout, stderr."""

    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return run


@pytest.fixture
def wav(tmp_path: Path, speechlike) -> Path:
    path = tmp_path / "voice.wav"
    soundfile.write(path, speechlike(4.0), RATE, subtype="PCM_16")
    return path


def one_line(err: str) -> str:
    assert err.count("\n") == 1, err
    assert err.startswith("stream-ser: error: "), err
    return err


def corrupt(path: Path) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"\xff" * 200)
    return path


@pytest.mark.parametrize("command", ["file", "models"])
@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda write: write(with_card=False), "has no stream-ser card"),
        (lambda write: write(card="{}"), "tiny.onnx"),
        (lambda write: write(outputs=3), "output is"),
        (lambda write: corrupt(write()), "not a readable ONNX model"),
    ],
    ids=["no card", "empty card", "other outputs", "corrupted"],
)
def test_a_bad_model_is_one_line(broken, said, command, tiny_onnx, wav, call) -> None:
    model = broken(tiny_onnx)
    code, out, err = call(*((command, wav, "--model", model) if command == "file" else (command, model)))
    assert (code, out) == (2, "")
    assert said in one_line(err)
    assert str(model) in err


@pytest.mark.parametrize("format_", ["table", "csv", "jsonl"])
@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.full(RATE, np.nan), "NaN at 0.000 s (sample 0)"),
        (np.concatenate([np.zeros(100), [np.inf], np.zeros(RATE)]), "an infinite value at 0.006 s (sample 100)"),
        (np.zeros(1), "1 sample (0.000 s) of audio, too short"),
    ],
    ids=["nan", "inf", "one sample"],
)
def test_bad_samples_are_one_line_and_no_result(samples, said, format_, tmp_path, tiny_model, call) -> None:
    path = tmp_path / "bad.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    code, out, err = call("file", path, "--model", tiny_model, "--format", format_)
    assert (code, out) == (2, "")
    assert f"{path}: " in one_line(err)
    assert said in err


def test_one_bad_file_in_a_folder_is_1_and_the_rest_is_recognised(tmp_path, tiny_model, wav, call) -> None:
    folder = tmp_path / "talks"
    folder.mkdir()
    for name in ("a.wav", "c.wav"):
        (folder / name).write_bytes(wav.read_bytes())
    soundfile.write(folder / "b.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    code, out, err = call("file", folder, "--model", tiny_model, "--format", "csv")
    assert code == 1
    assert str(folder / "b.wav") in one_line(err)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {Path(row["file"]).name for row in rows} == {"a.wav", "c.wav"}


def test_digital_silence_is_silence_without_probabilities(tmp_path, tiny_model, call) -> None:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(3 * RATE), RATE, subtype="PCM_16")
    code, out, err = call("file", path, "--model", tiny_model, "--format", "jsonl")
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert {line["label"] for line in lines if "label" in line} == {"silence"}
    assert all(line["probabilities"] is None for line in lines if "probabilities" in line)
    assert lines[-1]["seconds"] == {"silence": pytest.approx(3.0, abs=0.02)}


def test_a_reader_that_leaves_is_no_error(tiny_model, wav) -> None:
    arguments = [str(wav)] * 30 + ["--model", str(tiny_model), "--format", "jsonl"]
    done = subprocess.run(
        ["bash", "-c", '"$0" -m stream_ser file "$@" | head -n 1', sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert json.loads(done.stdout)["type"] == "stream"
    assert done.stderr == ""


def test_models_takes_bundled_names(call) -> None:
    paths = bundled()
    if not paths:
        pytest.skip("no model is bundled")
    for path in paths:
        code, out, err = call("models", path.stem)
        assert (code, err) == (0, "")
        assert "labels" in out
        (model,) = json.loads(call("models", "--json", path.stem)[1])
        assert (model["path"], model["bytes"]) == (str(path), path.stat().st_size)
        assert model["default"] == (path.stem == DEFAULT_MODEL)
        assert ("(the default)" in out) == model["default"]
