"""A device that is suspended, unplugged and plugged in again, on a real audio server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from listeners import Listener, pactl
from pulse import SINK, PulseUnavailable, pulse_server

pytestmark = pytest.mark.audio_server

RATE = 16_000


@pytest.fixture
def audio_env() -> Iterator[dict[str, str]]:
    try:
        with pulse_server() as env:
            yield env
    except PulseUnavailable as reason:
        pytest.skip(str(reason))


def gap_seconds(lines: list[dict]) -> float:
    return sum(line["length"] for line in lines if line["type"] == "gap") / RATE


def test_a_device_that_is_unplugged_is_found_again(audio_env, tiny_model, tmp_path: Path) -> None:
    take = tmp_path / "take.wav"
    listener = Listener(audio_env, tiny_model, tmp_path, "--record", str(take))
    try:
        listener.until(type="prediction")
        pactl(audio_env, "unload-module", "module-null-sink")
        lost_s = time.monotonic()
        lost = listener.until(type="notice", kind="lost")
        assert lost["text"] == "default was lost: the stream ended; looking for it"
        time.sleep(1.0)
        pactl(audio_env, "load-module", "module-null-sink", f"sink_name={SINK}", "rate=48000", "channels=2")
        back = listener.until(type="notice", kind="attached")
        away_s = time.monotonic() - lost_s
        gap = listener.until(type="gap")
        listener.until(type="prediction")
        err = listener.end()
    finally:
        listener.kill()
    assert listener.process.returncode == 0, err
    # The gap is as long as the device was away: it begins when the last sample was taken, which was a moment before.
    assert 1.0 < gap["length"] / RATE < away_s + 1.0
    assert back["at"] == gap["start"]
    summary = listener.lines[-1]
    assert (summary["type"], summary["lost"]) == ("summary", round(gap_seconds(listener.lines) * RATE))
    # What ALSA and PortAudio print meanwhile is in the log and nowhere else.
    assert err.splitlines() == [f"stream-ser: recorded {take}"]
    assert "stream_ser.portaudio" in listener.log.read_text()
    # And the recording says the same.
    command = [sys.executable, "-m", "stream_ser", "file", str(take), "--model", str(tiny_model), "--no-vad"]
    done = subprocess.run([*command, "--format", "jsonl"], capture_output=True, text=True, timeout=60, check=False)
    filed = [json.loads(text) for text in done.stdout.splitlines()]
    assert comparable(filed) == comparable(listener.lines)


def comparable(lines: list[dict]) -> list[dict]:
    kept = [line for line in lines if line["type"] not in ("notice", "stream")]
    return [{key: line[key] for key in line if key not in ("file", "timing")} for line in kept]


def test_a_suspended_device_is_told_and_leaves_a_gap(audio_env, tiny_model, tmp_path: Path) -> None:
    listener = Listener(audio_env, tiny_model, tmp_path)
    try:
        listener.until(type="prediction")
        listener.until(type="prediction")
        pactl(audio_env, "suspend-sink", SINK, "1")
        told = listener.until(type="notice", kind="stalled")
        assert "has delivered no audio for" in told["text"]
        time.sleep(1.0)
        pactl(audio_env, "suspend-sink", SINK, "0")
        listener.until(type="notice", kind="resumed")
        gap = listener.until(type="gap")
        err = listener.end()
    finally:
        listener.kill()
    assert (listener.process.returncode, err) == (0, "")
    assert gap["length"] / RATE > 1.0
    # Nothing was heard between the last sample before and the gap.
    assert gap["start"] == told["at"]


def test_scripts_may_ask_for_an_error(audio_env, tiny_model, tmp_path: Path) -> None:
    listener = Listener(audio_env, tiny_model, tmp_path, "--on-lost", "exit")
    try:
        listener.until(type="prediction")
        pactl(audio_env, "unload-module", "module-null-sink")
        listener.until(type="summary")
        err = listener.rest()
    finally:
        listener.kill()
    assert listener.process.returncode == 2
    (line,) = err.splitlines()
    assert line.startswith("stream-ser: error: default was lost: the stream ended, expected it to go on")
