"""False alarms, on a generated tree in ESC-50's layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from generate import voice, write_wav

pytest.importorskip("torch")

from stream_ser.runtime import engine
from stream_ser.train.experiments.false_alarms import main, measure, non_human, total


@pytest.fixture(scope="module")
def esc_50(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds of rain and of a "dog" that speaks; somebody laughs, and is left out."""
    root = tmp_path_factory.mktemp("esc-50")
    (root / "audio").mkdir()
    rng = np.random.default_rng(0)
    rain = (0.1 * rng.standard_normal(32_000)).astype(np.float32)
    sounds = {"dog": (0, voice(2.0, 1)), "rain": (10, rain), "laughing": (26, voice(2.0, 2))}
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in (4, 5):
        for label, (target, sound) in sounds.items():
            name = f"{fold}-{target}{fold}-A-{target}.wav"
            write_wav(root / "audio" / name, sound)
            rows.append(f"{name},{fold},{target},{label},False,{target}{fold},A")
    (root / "esc50.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def test_time_is_claimed_of_speech_alone(esc_50, tiny_onnx) -> None:
    clips = non_human(f"esc-50={esc_50}", [5])
    assert sorted(clip.label for clip in clips) == ["dog", "rain"]
    classes = measure(engine.load(tiny_onnx(), "cpu"), clips)
    worst, best = classes
    assert (worst.name, best.name) == ("dog", "rain")
    assert worst.with_vad > 0.5
    assert best.with_vad == 0.0
    assert best.without_vad > 0.5
    every = total(classes)
    assert every.clips == 2
    assert every.with_vad == pytest.approx(worst.with_vad_s / (worst.seconds + best.seconds))


def test_json_and_table(esc_50, tiny_onnx) -> None:
    command = [str(tiny_onnx()), "--data", f"esc-50={esc_50}"]
    done = CliRunner().invoke(main, [*command, "--json"])
    content = json.loads(done.stdout)
    assert content["protocol"].startswith("esc-50, all folds, 2 non-human classes, 4 clips")
    assert [row["name"] for row in content["classes"]] == ["dog", "rain"]
    assert content["all"]["with_vad"] < content["all"]["without_vad"]
    table = CliRunner().invoke(main, [*command, "--fold", "4"])
    assert "rain" in table.stdout
    assert "0.0%" in table.stdout


@pytest.mark.parametrize(
    ("data", "fold", "message"),
    [("crema-d", "5", "expected esc-50=PATH"), ("esc-50", "9", "in fold 9; there are 4, 5")],
)
def test_mistakes_are_one_line(esc_50, tiny_crema_d, tiny_onnx, data, fold, message) -> None:
    root = esc_50 if data == "esc-50" else tiny_crema_d
    done = CliRunner().invoke(main, [str(tiny_onnx()), "--data", f"{data}={root}", "--fold", fold])
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
