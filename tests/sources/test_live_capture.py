"""The microphone against a real audio server: what is played is what is heard."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pulse import SINK, PulseUnavailable, isolated_env, pulse_server

from stream_ser.audio.decode import AudioFile

pytestmark = pytest.mark.audio_server

RATE = 16_000
TONE_HZ, LEVEL = 440.0, 0.25

# Its own process: PortAudio reads the environment and the list of devices once, when it is initialised.
RECORD = """
import json, sys, time
import numpy as np
from stream_ser.sources.microphone import Microphone
from stream_ser.sources.recorder import WavRecorder
rate, seconds, path = json.loads(sys.argv[1])
with Microphone("default", sample_rate=rate, duration_s=seconds, stall_seconds=20.0) as mic:
    with WavRecorder(path, mic.sample_rate) as recorder:
        ages, arrivals, heard = [], [], []
        for block in mic:
            now = time.monotonic()
            recorder.write(block)
            heard.append(block.samples)
            ages.append(now - block.captured_at)
            arrivals.append((now, sum(map(len, heard))))
            if len(heard) == 1:
                print("listening", flush=True)
np.save(path + ".npy", np.concatenate(heard))
print(json.dumps({"name": mic.name, "sample_rate": mic.sample_rate, "lost": mic.lost_samples, "ages": ages,
                  "arrivals": arrivals, "overflows": mic.overflows}))
"""


@pytest.fixture(scope="module")
def audio_env() -> Iterator[dict[str, str]]:
    server = pulse_server()
    try:
        env = server.__enter__()
    except PulseUnavailable as reason:
        pytest.skip(str(reason))
    try:
        yield env
    finally:
        server.__exit__(None, None, None)


def run(code: str, env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("rate", [None, 48_000])
def test_a_tone_is_heard(audio_env: dict[str, str], tmp_path: Path, rate: int | None) -> None:
    played, recording = tmp_path / "tone.wav", tmp_path / "heard.wav"
    seconds = np.arange(48_000 * 20) / 48_000
    soundfile.write(played, LEVEL * np.sin(2 * np.pi * TONE_HZ * seconds), 48_000, subtype="PCM_16")
    player = subprocess.Popen(["paplay", f"--device={SINK}", str(played)], env=audio_env)
    try:
        time.sleep(0.5)
        done = run(RECORD, audio_env, json.dumps([rate, 3.0, str(recording)]))
    finally:
        player.terminate()
        player.wait()
    assert done.returncode == 0, done.stderr
    assert "ALSA" not in done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    rate = rate or RATE
    assert (report["name"], report["sample_rate"], report["lost"]) == ("default", rate, 0)

    heard = np.load(f"{recording}.npy")
    assert len(heard) == 3 * rate
    tail = heard[rate:].astype(np.float64)  # the server may begin with silence
    spectrum = np.abs(np.fft.rfft(tail * np.hanning(len(tail))))
    assert np.argmax(spectrum) * rate / len(tail) == pytest.approx(TONE_HZ, abs=1.0)
    assert np.sqrt(np.mean(tail**2)) == pytest.approx(LEVEL / np.sqrt(2), rel=0.05)

    # Sample counts follow the clock: between two arrivals as much audio as time, give or take the server's buffers.
    (start_s, before), (end_s, after) = report["arrivals"][len(report["arrivals"]) // 3], report["arrivals"][-1]
    assert (after - before) / rate == pytest.approx(end_s - start_s, abs=0.6)
    assert all(0.0 <= age < 10.0 for age in report["ages"])

    with AudioFile(recording, sample_rate=rate) as audio:
        np.testing.assert_array_equal(np.concatenate(list(audio.blocks())), heard)


def test_the_server_is_listed_and_is_the_default(audio_env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "stream_ser", "devices", "--json"]
    done = subprocess.run(command, env=audio_env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    devices = json.loads(done.stdout)
    assert {"pulse", "default"} <= {device["name"] for device in devices}
    assert [device["name"] for device in devices if device["is_default"]] == ["default"]


def test_a_server_that_dies_is_one_clear_error() -> None:
    code = (
        "import sys\n"
        "from stream_ser.sources.microphone import Microphone\n"
        "with Microphone('default', stall_seconds=3.0) as mic:\n"
        "    for count, block in enumerate(mic):\n"
        "        if count == 5: print('listening', flush=True)\n"
    )
    try:
        with pulse_server() as env:
            command = [sys.executable, "-c", code]
            pipe = subprocess.PIPE
            listener = subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True)
            assert listener.stdout is not None
            assert listener.stdout.readline() == "listening\n"
    except PulseUnavailable as reason:
        pytest.skip(str(reason))
    try:
        _, errors = listener.communicate(timeout=30)
    finally:
        listener.kill()
        listener.communicate()
    assert "DeviceError: default was lost: " in errors


def test_without_any_server_there_is_no_device() -> None:
    code = (
        "from stream_ser.errors import DeviceError\n"
        "from stream_ser.sources.microphone import Microphone\n"
        "from stream_ser.sources.portaudio import list_devices\n"
        "if not list_devices():\n"
        "    try:\n"
        "        Microphone()\n"
        "    except DeviceError as error:\n"
        "        print(error)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        done = run(code, isolated_env(Path(folder)))
    assert (done.returncode, done.stderr) == (0, "")
    if not done.stdout:
        pytest.skip("this machine has a sound card")
    assert done.stdout.startswith("no audio input device found, expected at least one")
