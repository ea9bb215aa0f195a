"""Several microphones and several channels on a real audio server: who says what where, and what is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile
from generate import voice
from listeners import Listener, pactl
from pulse import SINK, PulseUnavailable, isolated_env, pulse_server, running_server

pytestmark = pytest.mark.audio_server

RATE = 48_000
#: Two microphones: what is played into a sink of its own is what each hears.
SINKS = ("agent", "customer")


@pytest.fixture
def audio_env() -> Iterator[dict[str, str]]:
    try:
        with pulse_server(RATE) as env:
            for name in SINKS:
                add(env, name)
                define(env, name, name)
            yield env
    except PulseUnavailable as reason:
        pytest.skip(str(reason))


def define(env: dict[str, str], name: str, sink: str, server: str | None = None) -> None:
    """Have ALSA, and so PortAudio, know what is played into a sink as a microphone."""
    at = "" if server is None else f'server "{server}" '
    path = Path(env["HOME"], ".asoundrc")
    shown = f'hint {{ show on description "{name}" }}'
    path.write_text(path.read_text() + f'pcm.{name} {{ type pulse {at}device "{sink}.monitor" {shown} }}\n')


def add(env: dict[str, str], sink: str) -> None:
    pactl(env, "load-module", "module-null-sink", f"sink_name={sink}", f"rate={RATE}", "channels=2")


def play(stack: ExitStack, env: dict[str, str], sink: str, sound: np.ndarray, path: Path) -> None:
    soundfile.write(path, sound, RATE, subtype="PCM_16")
    player = stack.enter_context(subprocess.Popen(["paplay", f"--device={sink}", str(path)], env=env))
    stack.callback(player.terminate)


def speech(seed: int, pitch_hz: float, level: float) -> np.ndarray:
    return np.repeat(voice(14.0, seed, pitch_hz=pitch_hz, level=level), RATE // 16_000)


def listen(env: dict[str, str], model: Path, *options: str) -> list[dict]:
    command = [sys.executable, "-m", "stream_ser", "listen", "--model", str(model), "--no-vad", "--format", "jsonl"]
    command += ["--no-view", *options]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def filed(model: Path, path: Path, *options: str) -> list[dict]:
    command = [sys.executable, "-m", "stream_ser", "file", str(path), "--model", str(model), "--no-vad", *options]
    done = subprocess.run([*command, "--format", "jsonl"], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def of(lines: list[dict], name: str) -> list[dict]:
    """What is said of a stream, as far as its recording can say the same."""
    mine = [line for line in lines if line["file"] == name and line["type"] not in ("notice", "stream")]
    return [{key: value for key, value in line.items() if key not in ("file", "timing")} for line in mine]


def loudest(lines: list[dict]) -> float:
    return max(line["level_dbfs"] for line in lines if line["type"] == "prediction")


def test_two_channels_of_one_device(audio_env, tiny_model, tmp_path: Path) -> None:
    take = tmp_path / "take.wav"
    sound = np.stack([speech(1, 120.0, 0.5), speech(2, 210.0, 0.02)], axis=1)
    with ExitStack() as stack:
        play(stack, audio_env, SINK, sound, tmp_path / "sound.wav")
        time.sleep(0.3)
        options = ("--device", "default", "--channel", "1", "--channel", "2", "--duration", "5", "--record", str(take))
        lines = listen(audio_env, tiny_model, *options)
    assert {line["file"] for line in lines} == {"default#1", "default#2"}
    first, second = of(lines, "default#1"), of(lines, "default#2")
    assert loudest(first) > loudest(second) + 15.0
    assert first[-1]["samples"] == second[-1]["samples"] == 5 * 16_000
    # What was lost on a busy machine is lost in both, and in the recording.
    again = filed(tiny_model, take, "--channel", "each")
    assert of(again, f"{take}#1") == first
    assert of(again, f"{take}#2") == second


def test_two_devices_are_two_streams(audio_env, tiny_model, tmp_path: Path) -> None:
    with ExitStack() as stack:
        play(stack, audio_env, "agent", speech(1, 120.0, 0.5), tmp_path / "a.wav")
        play(stack, audio_env, "customer", speech(2, 210.0, 0.02), tmp_path / "b.wav")
        time.sleep(0.3)
        options = ("--device", "agent", "--device", "customer", "--duration", "5", "--record", str(tmp_path / "t.wav"))
        lines = listen(audio_env, tiny_model, *options)
    assert {line["file"] for line in lines} == {"agent", "customer"}
    agent, customer = of(lines, "agent"), of(lines, "customer")
    assert loudest(agent) > loudest(customer) + 15.0
    for number, heard in enumerate((agent, customer), 1):
        path = tmp_path / f"t-{number}.wav"
        assert of(filed(tiny_model, path), str(path)) == heard


def test_losing_one_device_leaves_the_other_alone_and_it_is_found_again(tiny_model, tmp_path: Path) -> None:
    # Of two servers: one server would move a stream whose microphone is gone to the other microphone.
    with ExitStack() as stack:
        try:
            env = stack.enter_context(pulse_server(RATE))
            other = isolated_env(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pulse-"))))
            with running_server(other, RATE):
                define(env, "customer", SINK)
                define(env, "agent", SINK, other["PULSE_SERVER"])
                options = ("--device", "agent", "--device", "customer")
                listener = Listener(env, tiny_model, tmp_path, *options, device=None)
                stack.callback(listener.kill)
                listener.until(type="prediction", file="agent")
                listener.until(type="prediction", file="customer")
        except PulseUnavailable as reason:
            pytest.skip(str(reason))
        lost = listener.until(type="notice", kind="lost", file="agent")
        assert lost["text"] == "agent was lost: the stream ended; looking for it"
        for _ in range(4):  # the other one is heard on
            listener.until(type="prediction", file="customer")
        with running_server(other, RATE):
            listener.until(type="notice", kind="attached", file="agent")
            gap = listener.until(type="gap", file="agent")
            listener.until(type="prediction", file="agent")
            listener.until(type="prediction", file="customer")
            err = listener.end()
    assert (listener.process.returncode, err) == (0, "")
    assert gap["length"] / 16_000 > 0.5
    told = [line for line in listener.lines if line["file"] == "customer" and line["type"] == "notice"]
    assert told == []
    sums = {line["file"]: line["lost"] for line in listener.lines if line["type"] == "summary"}
    assert sums["agent"] >= gap["length"]
