"""The benchmark for a GPU: without one it says so; what it measures is tried on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stream_ser.runtime.cuda import driver_present

pytest.importorskip("onnx")

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.skipif(driver_present(), reason="this machine has an NVIDIA driver")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_without_a_gpu_it_is_one_line(provider: str, tiny_model: Path) -> None:
    done = run("--provider", provider, "--model", tiny_model)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"gpu.py: provider {provider}: ")


def test_the_tables_on_the_cpu(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    options = ["--provider", "cpu", "--runs", 3, "--hops", 2, "--rows", 4, "--streams", 6, "--no-published"]
    done = run(*options, "--model", tiny_model, "--json", out)
    assert (done.returncode, done.stderr) == (0, "")
    content = json.loads(out.read_text())
    assert content["hop"]["tiny"]["p50"] > 0
    assert set(content["streams"]) == {"tiny, 6 streams"}
    assert content["streams"]["tiny, 6 streams"]["due_ms"] == 250
    assert "tiny, 6 streams" in done.stdout


def test_a_file_that_takes_one_stream_at_a_time_is_said(speller: Path) -> None:
    done = run("--provider", "cpu", "--runs", 1, "--hops", 1, "--no-published", "--model", speller)
    assert done.returncode == 2
    assert done.stderr.startswith("gpu.py: ")
    assert "takes one stream at a time" in done.stderr
