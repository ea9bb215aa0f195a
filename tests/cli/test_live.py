"""The whole live path: a voice is played, PortAudio records it, and ``listen`` says what ``file`` says."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pulse import SINK, PulseUnavailable, pulse_server

from stream_ser.events import SILENCE, UNCERTAIN
from stream_ser.runtime.engine import DEFAULT_MODEL

pytestmark = pytest.mark.audio_server

CLIP = Path(__file__).parents[2] / "stream_ser" / "assets" / "demo.flac"
LABELS = {"anger", "disgust", "fear", "happy", "neutral", "sad"}


@pytest.fixture(scope="module")
def audio_env() -> Iterator[dict[str, str]]:
    try:
        with pulse_server() as env:
            yield env
    except PulseUnavailable as reason:
        pytest.skip(str(reason))


def cli(env: dict[str, str], *arguments: str) -> list[dict]:
    command = [sys.executable, "-m", "stream_ser", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def comparable(events: list[dict]) -> list[dict]:
    """Without the name of the source and what was measured by the clock."""
    return [{k: v for k, v in event.items() if k not in ("file", "timing")} for event in events]


@pytest.mark.parametrize("model", [DEFAULT_MODEL, "tiny"])
def test_listen_says_what_file_says(model, audio_env, tiny_model, tmp_path: Path) -> None:
    name = str(tiny_model) if model == "tiny" else model
    take = tmp_path / "take.wav"
    with subprocess.Popen(["paplay", f"--device={SINK}", str(CLIP)], env=audio_env) as player:
        try:
            time.sleep(0.3)
            heard = cli(
                audio_env,
                *("listen", "--device", "default", "--model", name, "--duration", "8"),
                *("--record", str(take), "--format", "jsonl", "--no-view"),
            )
        finally:
            player.terminate()
    filed = cli(audio_env, "file", str(take), "--model", name, "--format", "jsonl")

    # What was lost on a busy machine is lost in both.
    told = [e for e in comparable(heard)[1:] if e["type"] != "notice"]
    assert told == comparable(filed)[1:]
    predictions = [e for e in heard if e["type"] == "prediction"]
    assert len(predictions) > 20
    assert all(e["timing"]["age_ms"] > 0 for e in predictions[:-1])
    decisions = [e for e in heard if e["type"] == "decision"]
    assert {e["label"] for e in decisions} <= LABELS | {SILENCE, UNCERTAIN}
    assert {e["label"] for e in decisions} & LABELS, "a voice was played and no emotion was recognised"
    assert decisions[-1]["end_s"] == pytest.approx(8.0, abs=0.05)
