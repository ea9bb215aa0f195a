"""The benchmark of the training step compares two ways to train one network, not two networks."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

torch = pytest.importorskip("torch")

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "train_step.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_step", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_both_sides_are_one_network(script: ModuleType) -> None:
    plain, ours = script.description(4, 6), script.published(4, 6)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain(x), ours(x), atol=1e-5, rtol=1e-5)
    plain(x).square().sum().backward()
    ours(x).square().sum().backward()
    for (name, mine), theirs in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-3, rtol=1e-3, msg=name)


def test_a_step_of_each_side_learns(script: ModuleType) -> None:
    options = script.Options(mels=4, frames=4, batch=2)
    for variant in ("description", "stream-ser"):
        step = script.make_step(variant, options)
        first = step()
        for _ in range(4):
            last = step()
        assert last < first, variant


@pytest.mark.slow
def test_the_table_and_its_json(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--mels", "8", "--frames", "8", "--steps", "1"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "a.json")], capture_output=True, text=True, timeout=300, check=True
    )
    assert "SepTr as published, 8 x 8 tokens" in done.stdout
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["description"]["speed"] == content["description"]["memory"] == 1.0
    assert content["stream-ser"]["samples_per_s"] > 0
    assert content["stream-ser"]["peak_mb"] > 0
