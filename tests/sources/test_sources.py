from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from fake_portaudio import FakePortAudio, portaudio  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ser.audio.decode import AudioFile
from stream_ser.audio.resample import Resampler
from stream_ser.errors import AudioError, DeviceError, OutputError
from stream_ser.events import Block
from stream_ser.sources.block_resampler import GapMarker, resampled
from stream_ser.sources.file import FileSource
from stream_ser.sources.microphone import Microphone
from stream_ser.sources.portaudio import DeviceInfo, find_device, list_devices, quiet_native_stderr
from stream_ser.sources.recorder import WavRecorder

RATE = 16_000


class Blocks:
    """A source made of given blocks."""

    def __init__(self, blocks: list[Block], sample_rate: int) -> None:
        self.name, self.sample_rate, self._blocks = "blocks", sample_rate, blocks

    def __iter__(self) -> Iterator[Block]:
        return iter(self._blocks)


def noise(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 0.1, length).astype(np.float32)


# --- resampled ----------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    rate=st.sampled_from([8_000, 11_025, RATE, 44_100, 48_000]),
    blocks=st.lists(st.tuples(st.integers(0, 900), st.sampled_from([0, 0, 0, 1, 441, 30_003])), max_size=12),
)
def test_losses_are_marked_in_a_stream_without_holes(rate: int, blocks: list[tuple[int, int]]) -> None:
    source = [Block(noise(n, n), lost=lost) for n, lost in blocks]
    out = list(resampled(Blocks(source, rate)))
    parts = [part for block in source for part in (np.zeros(block.lost, np.float32), block.samples)]
    whole = np.concatenate([np.zeros(0, np.float32), *parts])
    # What is heard is what is heard in a recording with zeros for what was lost.
    resampler = Resampler(rate)
    expected = np.concatenate([resampler.push(whole), resampler.flush()])
    np.testing.assert_array_equal(np.concatenate([np.zeros(0, np.float32), *(b.samples for b in out)]), expected)
    lost = sum(n for _, n in blocks)
    marked = sum(block.gap for block in out)
    assert abs(marked - lost * RATE / rate) <= 0.5 or len(expected) == 0
    begun, ends = [], np.cumsum([0, *(len(block.samples) for block in out)])
    for block, start in zip(out, ends, strict=False):
        assert block.lost == 0
        if block.gap:
            begun.append((start, block.gap))
    for start, length in begun:
        if rate == RATE:
            assert not expected[start : start + length].any()


def test_losses_do_not_drift_over_days() -> None:
    # 44.1 kHz: one lost sample is 0.36 of a sample at 16 kHz; rounding each by itself would drift away.
    marker, lost, position = GapMarker(44_100, RATE), 0, 0
    for _ in range(50_000):
        position += 441 * 3600
        marker.lose(position, 44_101)
        position += 44_101
        lost += 44_101
    starts, lengths = zip(*marker._ahead, strict=True)
    assert sum(lengths) == round(lost * 160 / 441)
    assert starts[-1] == round((position - 44_101) * 160 / 441)
    assert starts[-1] > 2**32


def test_a_loss_that_makes_no_sample_adds_to_the_next() -> None:
    blocks = [Block(noise(480), lost=1) for _ in range(30)]
    gaps = [block.gap for block in resampled(Blocks(blocks, 48_000)) if block.gap]
    assert gaps == [1] * 10


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000])
def test_an_impulse_stays_where_it_was(rate: int) -> None:
    """The filter's delay is in no timestamp: sample p of the device is heard at p * 16000 / rate."""
    samples = np.zeros(rate, np.float32)
    samples[rate // 2] = 0.9
    out = resampled(Blocks([Block(part) for part in np.array_split(samples, 37)], rate))
    heard = np.concatenate([block.samples for block in out])
    assert np.argmax(np.abs(heard)) == pytest.approx(rate // 2 * RATE / rate, abs=1)


def test_without_losses_resampled_is_the_resampler() -> None:
    wave_in = noise(48_000)
    source = Blocks([Block(part) for part in np.split(wave_in, 100)], 48_000)
    resampler = Resampler(48_000)
    expected = np.concatenate([resampler.push(wave_in), resampler.flush()])
    np.testing.assert_array_equal(np.concatenate([block.samples for block in resampled(source)]), expected)


def test_captured_at_names_the_last_sample_that_is_there() -> None:
    blocks = [Block(noise(960, k), captured_at=100.0 + 0.02 * (k + 1)) for k in range(50)]
    given_samples = 0
    for block in resampled(Blocks(blocks, 48_000)):
        given_samples += len(block.samples)
        assert block.captured_at == pytest.approx(100.0 + given_samples / RATE, abs=1e-4)
    assert given_samples == RATE


def test_at_the_right_rate_blocks_pass() -> None:
    blocks = [Block(noise(10), 1.0, 3), Block(noise(0)), Block(noise(5))]
    out = list(resampled(Blocks(blocks, RATE)))
    assert [(len(block.samples), block.gap) for block in out] == [(3, 3), (10, 0), (5, 0)]


@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_a_loss_at_the_very_end_is_not_dropped(rate: int) -> None:
    # A microphone ends so when its duration ends within what was lost.
    blocks = [Block(noise(rate), 1.0), Block(noise(0), 2.0, rate // 2)]
    out = list(resampled(Blocks(blocks, rate)))
    assert sum(len(block.samples) for block in out) == RATE * 3 // 2
    assert [block.gap for block in out if block.gap] == [RATE // 2]


# --- files and pipes ----------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(8_000), RATE, subtype="PCM_16")
    return path


def test_a_file_is_a_source(clip: Path) -> None:
    with FileSource(clip) as source:
        assert (source.name, source.sample_rate, source.duration_s, source.warning) == (str(clip), RATE, 0.5, None)
        blocks = list(source)
    assert [len(block.samples) for block in blocks] == [1600] * 5
    assert {(block.captured_at, block.lost) for block in blocks} == {(None, 0)}
    clip.write_bytes(clip.read_bytes()[:-8_000])
    with FileSource(clip) as source:
        assert sum(len(block.samples) for block in source) == 4_000
        assert source.warning == "truncated: header announces 0.50 s, 0.25 s could be read"


def test_realtime_follows_the_clock_and_does_not_drift(clip: Path) -> None:
    start_s = time.monotonic()
    captured = []
    with FileSource(clip, realtime=True) as source:
        for block in source:
            assert block.captured_at is not None
            assert time.monotonic() >= block.captured_at
            captured.append(block.captured_at)
            time.sleep(0.03)  # a slow consumer delays nothing that follows
    # In blocks of a microphone, the last of which is cut short.
    assert np.diff(captured) == pytest.approx([0.04] * 11 + [0.02], abs=1e-6)
    assert captured[-1] - start_s >= 0.5


def test_close_ends_the_iteration(clip: Path) -> None:
    for realtime in (False, True):
        with FileSource(clip, realtime=realtime) as source:
            count = 0
            for _ in source:
                count += 1
                source.close()
        assert count == 1


def test_standard_input(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = "import sys; from stream_ser.sources.file import FileSource; s = FileSource('-')\n"
    code = read + "print(s.name, s.duration_s, sum(len(b.samples) for b in s), s.warning)"
    with clip.open("rb") as stream:
        cat = subprocess.Popen(["cat"], stdin=stream, stdout=subprocess.PIPE)
    with cat:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, stdin=cat.stdout, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("- 0.5 8000 None\n", "")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(AudioError, match="standard input is a terminal"):
        FileSource("-")


# --- recording ----------------------------------------------------------------------------------------------


def test_a_recording_comes_back_bit_for_bit_with_zeros_for_losses(tmp_path: Path) -> None:
    every = np.arange(-32768, 32768).astype(np.float32) / np.float32(32768.0)
    path = tmp_path / "a.wav"
    with WavRecorder(path, RATE) as recorder:
        recorder.write(Block(every))
        recorder.write(Block(every[:10], lost=40_000))
    with AudioFile(path) as audio:
        got = np.concatenate(list(audio.blocks()))
    assert audio.warning is None
    np.testing.assert_array_equal(got, np.concatenate([every, np.zeros(40_000), every[:10]]))
    assert recorder.samples == len(got)


def test_a_recording_that_was_never_closed_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    code = (
        "import numpy as np, os, sys\n"
        "from stream_ser.events import Block\n"
        "from stream_ser.sources.recorder import WavRecorder\n"
        "recorder = WavRecorder(sys.argv[1], 16000)\n"
        "for _ in range(100): recorder.write(Block(np.full(1600, 0.5, np.float32)))\n"
        "os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], timeout=60, check=False)
    with AudioFile(path) as audio:
        assert sum(len(block) for block in audio.blocks()) > 150_000
    assert audio.warning is None


def test_a_recording_overwrites_nothing_unasked(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        WavRecorder(path, RATE)
    assert path.read_text() == "precious"
    with WavRecorder(path, RATE, force=True) as recorder:
        recorder.write(Block(np.zeros(10, np.float32)))
    assert soundfile.info(path).frames == 10
    with pytest.raises(OutputError, match="cannot write"):
        WavRecorder(tmp_path / "no" / "a.wav", RATE)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_an_output_error() -> None:
    recorder = WavRecorder("/dev/full", RATE, force=True)
    with pytest.raises(OutputError, match="No space left"):
        recorder.write(Block(np.zeros(1, np.float32), lost=1_000_000))
    with pytest.raises(OutputError, match="No space left"):
        recorder.close()
    recorder.close()


# --- devices ------------------------------------------------------------------------------------------------

DEVICES = [
    DeviceInfo(0, "Built-in Microphone", "MME", 2, 44_100, False),
    DeviceInfo(2, "USB Headset", "MME", 1, 16_000, True),
    DeviceInfo(3, "USB Camera", "MME", 2, 48_000, False),
    DeviceInfo(5, "USB Headset", "WASAPI", 1, 16_000, False),
]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [(None, 2), ("", 2), (3, 3), ("3", 3), ("camera", 3), ("usb headset", 2), ("Headset, WASAPI", 5), ("built", 0)],
)
def test_devices_are_found(wanted: int | str | None, index: int) -> None:
    assert find_device(wanted, DEVICES).index == index


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("usb", "'usb' fits several input devices.* 2: USB Headset .MME.; 3: USB Camera"),
        ("piano", "no input device is called 'piano'; there are 0: Built-in Microphone"),
        (1, "no input device has the index 1; there are 0: "),
        (-1, "no input device has the index -1"),
    ],
)
def test_devices_that_are_not_there(wanted: int | str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        find_device(wanted, DEVICES)
    with pytest.raises(DeviceError, match="no audio input device found"):
        find_device(wanted, [])


def test_without_portaudio_the_message_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    for call in (list_devices, Microphone):
        with pytest.raises(DeviceError, match=r"PortAudio library not found.*libportaudio2.*brew install portaudio"):
            call()


def test_a_microphone_prefers_16_khz_mono(portaudio: FakePortAudio) -> None:
    with Microphone() as mic:
        assert (mic.name, mic.sample_rate, portaudio.opened["channels"]) == ("mic", RATE, 1)
        assert portaudio.opened["blocksize"] == 640
    portaudio.rates = (48_000,)
    assert Microphone().sample_rate == 48_000
    with pytest.raises(DeviceError, match=r"mic cannot be opened at 8000 Hz \(Invalid sample rate"):
        Microphone(sample_rate=8_000)
    with pytest.raises(DeviceError, match="mic has 2 channels, not 3; choose"):
        Microphone(channel=2)


def test_late_consumers_lose_the_oldest_blocks_and_know_how_much(portaudio: FakePortAudio) -> None:
    with Microphone(queue_seconds=0.1, block_seconds=0.02) as mic:
        for k in range(12):
            portaudio.deliver(np.full(320, k), overflow=k == 3)
        mic.close()
        blocks = list(mic)
    assert [round(float(block.samples[0]) * 32768) for block in blocks] == [7, 8, 9, 10, 11]
    assert [block.lost for block in blocks] == [7 * 320, 0, 0, 0, 0]
    assert (mic.lost_samples, mic.captured_samples, mic.overflows) == (7 * 320, 12 * 320, 1)


def test_duration_is_exact_to_the_sample_and_counts_losses(portaudio: FakePortAudio) -> None:
    with Microphone(duration_s=0.105, queue_seconds=0.04, block_seconds=0.02) as mic:
        for _ in range(3):
            portaudio.deliver(np.ones(320))
        blocks = iter(mic)
        got = [next(blocks), next(blocks)]
        for _ in range(5):
            portaudio.deliver(np.ones(320))
        got += blocks
    assert sum(len(block.samples) + block.lost for block in got) == 1680


def test_channels_become_mono_on_the_16_bit_grid(portaudio: FakePortAudio) -> None:
    portaudio.mono = False
    stereo = np.array([[1, 2], [-32768, -32768], [5, 9]])
    for channel, expected in ((None, [2, -32768, 7]), (1, [2, -32768, 9])):
        with Microphone(channel=channel) as mic:
            portaudio.deliver(stereo)
            mic.close()
            (block,) = mic
        np.testing.assert_array_equal(block.samples * 32768, expected)
        assert block.samples.dtype == np.float32


@pytest.mark.parametrize(
    ("adc_s", "now_s", "age_s"),
    [(1000.0, 1000.05, 0.03), (0.0, 1000.0, 0.0), (1000.0, 0.0, 0.0), (float("nan"), 1000.0, 0.0), (0.0, 0.0, 0.0)],
)
def test_capture_times_survive_a_senseless_clock(
    portaudio: FakePortAudio, adc_s: float, now_s: float, age_s: float
) -> None:
    with Microphone() as mic:
        before_s = time.monotonic()
        portaudio.deliver(np.ones(320), adc_s, now_s)
        after_s = time.monotonic()
        mic.close()
        (block,) = mic
    assert block.captured_at is not None
    assert before_s - 1e-6 <= block.captured_at + age_s <= after_s + 1e-6


def test_a_silent_device_and_one_that_ends_are_device_errors(portaudio: FakePortAudio) -> None:
    with Microphone(stall_seconds=0.1) as mic, pytest.raises(DeviceError, match=r"mic was lost: no audio for 0\.1 s"):
        list(mic)
    with Microphone() as mic:
        portaudio.opened["finished_callback"]()
        with pytest.raises(DeviceError, match="mic was lost: the stream ended"):
            list(mic)


def test_close_from_another_thread_wakes_the_iteration(portaudio: FakePortAudio) -> None:
    with Microphone(stall_seconds=60.0) as mic:
        timer = threading.Timer(0.05, mic.close)
        timer.start()
        assert list(mic) == []
        timer.join()


def test_a_device_that_cannot_be_opened(portaudio: FakePortAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**settings: Any) -> None:
        raise portaudio.PortAudioError("Device unavailable")

    monkeypatch.setattr(portaudio, "RawInputStream", refuse)
    with pytest.raises(DeviceError, match=r"mic cannot be opened \(Device unavailable"), Microphone():
        pass


def test_native_chatter_goes_to_the_log(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stream_ser.portaudio")
    with quiet_native_stderr(), quiet_native_stderr():
        os.write(2, b"ALSA lib says so\n")
    with quiet_native_stderr():
        os.write(2, b"ALSA lib pcm.c\n")
    with pytest.raises(RuntimeError), quiet_native_stderr():
        raise RuntimeError
    os.write(2, b"native again\n")
    print("python again", file=sys.stderr)
    assert capfd.readouterr().err == "native again\npython again\n"
    assert caplog.messages == ["ALSA lib says so", "ALSA lib pcm.c"]


def test_native_chatter_goes_nowhere_without_a_place_for_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk must not keep a lost device from being found again."""

    def none() -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("stream_ser.sources.portaudio.tempfile.TemporaryFile", none)
    with quiet_native_stderr():
        os.write(2, b"ALSA lib says so\n")
    os.write(2, b"native again\n")
    assert capfd.readouterr().err == "native again\n"


# --- stream-ser devices -------------------------------------------------------------------------------------


def test_devices_command(portaudio: FakePortAudio) -> None:
    from stream_ser.cli.commands.devices import devices

    plain = CliRunner().invoke(devices, [])
    assert (plain.exit_code, plain.stdout.splitlines()[1:]) == (0, ["0\tmic\tFake\t2\t48000\tyes"])
    (row,) = json.loads(CliRunner().invoke(devices, ["--json"]).stdout)
    assert (row["index"], row["name"], row["is_default"]) == (0, "mic", True)
    portaudio.channels = 0
    assert isinstance(CliRunner().invoke(devices, []).exception, DeviceError)
