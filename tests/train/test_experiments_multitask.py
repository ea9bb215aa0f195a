"""The sweep over CTC weights: equal settings, one decoding, and a second start that trains nothing again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")

from stream_ser.models.multitask import MultitaskConfig
from stream_ser.train.data.corpora import Clip
from stream_ser.train.experiments import multitask
from stream_ser.train.tasks.multitask import data, task, trainer
from stream_ser.train.tasks.multitask.config import MultitaskRun

MODEL = MultitaskConfig(channels=(2, 2), width=4, layers=1, heads=1)


@pytest.fixture
def clips(monkeypatch) -> data.Material:
    """Noise that needs no decoding: an emotion or a text, or both."""

    def hear(items, features, advance=None):
        rng = np.random.default_rng(len(items))
        return data.Heard(tuple(items), ([rng.standard_normal((64, 80)).astype(np.float16) for _ in items],))

    def hear_augmented(items, features, augment, copies, seed, advance=None):
        hear_augmented.calls += 1
        return hear(items, features), np.zeros(64, np.float32), np.ones(64, np.float32)

    hear_augmented.calls = 0
    monkeypatch.setattr(trainer, "hear", hear)
    monkeypatch.setattr(trainer, "hear_augmented", hear_augmented)
    monkeypatch.setattr(multitask, "WEIGHTS", (0.0, 0.3))
    items = tuple(data.Item(Clip(None, "x", f"s{n}"), "crema-d", n % 3 - 1, "NO" if n % 2 else "") for n in range(6))
    made = data.Material(items, items, (), tuple("abcdef"), "by chance", {"crema-d": "free"})
    monkeypatch.setattr(multitask, "gather", lambda *given: made)
    monkeypatch.setattr(multitask, "configured", lambda changes: small())
    monkeypatch.setattr(multitask, "hear_calls", hear_augmented, raising=False)
    return made


def small() -> MultitaskRun:
    config = MultitaskRun(MODEL)
    return replace(config, train=replace(config.train, epochs=1, precision="fp32"))


def test_a_sweep_differs_in_the_weight_alone(clips, tmp_path):
    arguments = ["sweep", "--data-root", str(tmp_path), "--out", str(tmp_path / "s")]
    done = CliRunner().invoke(multitask.main, arguments)
    assert done.exit_code == 0, done.output
    assert multitask.hear_calls.calls == 1
    configs = [task.read_checkpoint(tmp_path / "s" / name / task.CHECKPOINT)["config"] for name in ("ctc-0", "ctc-0.3")]
    assert [config["train"].pop("ctc_weight") for config in configs] == [0.0, 0.3]
    assert configs[0] == configs[1]
    content = json.loads((tmp_path / "s" / "results.json").read_text())["by_ctc_weight"]
    assert list(content) == ["0", "0.3"]
    header, rows = multitask.table(content)
    assert header == ["CTC weight", "UAR %", "WA %", "WER % crema-d"]
    assert [row[0] for row in rows] == ["0", "0.3"]
    times = [(tmp_path / "s" / name / task.CHECKPOINT).stat().st_mtime_ns for name in ("ctc-0", "ctc-0.3")]
    again = CliRunner().invoke(multitask.main, arguments)
    assert again.exit_code == 0, again.output
    assert times == [(tmp_path / "s" / name / task.CHECKPOINT).stat().st_mtime_ns for name in ("ctc-0", "ctc-0.3")]


def test_the_default_prints_error_rates(clips, tmp_path):
    arguments = ["default", "--data-root", str(tmp_path), "--out", str(tmp_path / "d")]
    done = CliRunner().invoke(multitask.main, arguments)
    assert done.exit_code == 0, done.output
    assert "WER+LM %" in done.output


def test_mistakes_are_one_line(tmp_path):
    arguments = ["default", "--data-root", str(tmp_path), "--out", str(tmp_path / "d")]
    done = CliRunner().invoke(multitask.main, arguments)
    assert done.exit_code == 2
    assert "no such folder" in done.output
    done = CliRunner().invoke(multitask.main, [*arguments, "--set", "train.epoch=3"])
    assert "unknown field 'epoch'" in done.output
