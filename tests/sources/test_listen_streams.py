"""``stream-ser listen`` with several channels and several devices, which are made up."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from cli_fakes import (  # noqa: F401 - fixtures
    FakeMicrophone,
    Terminal,
    as_16_bit,
    blocks_of,
    call,
    fake_engine,
    noise,
    one_line,
)
from generate import voice

from stream_ser.errors import DeviceError
from stream_ser.events import Block

RATE = 16_000
#: What the two channels hold.
FIRST = as_16_bit(np.concatenate([voice(3, level=0.9), voice(2, level=0.05)]))
SECOND = as_16_bit(np.concatenate([voice(2, level=0.05), voice(3, level=0.9, seed=3)]))


class Microphones(FakeMicrophone):
    """Two devices, ``agent`` and ``customer``; each has two channels with different speech."""

    rate = RATE
    devices = ("agent", "customer")
    faults = True
    failing = ""

    def __init__(self, device=None, duration_s=None, *, channel=None, **options):
        super().__init__(device, duration_s, **options)
        self.name = device or "agent"
        if self.name not in self.devices:
            raise DeviceError(f"no input device is called {self.name!r}")
        self.sample_rate = self.rate
        self.device = SimpleNamespace(index=self.devices.index(self.name))
        taken = [0, 1] if channel == "each" else [channel] if isinstance(channel, int) else list(channel or [0])
        wide = channel == "each" or isinstance(channel, tuple)
        self.parts = tuple(f"#{number + 1}" for number in taken) if wide else ("",)
        sound = np.stack([FIRST, SECOND], axis=1)[:, :: 1 if self.name == "agent" else -1]
        sound = np.repeat(sound, self.rate // RATE, axis=0)
        self.blocks = self.faulty(sound[:, taken if wide else taken[0]])
        if self.failing == self.name:
            self.failure = DeviceError(f"{self.name} was lost")

    def faulty(self, samples):
        blocks = list(blocks_of(samples, self.rate // 50))
        if self.faults:
            lost = {"agent": 7_777, "customer": 1_234}[self.name]
            blocks[100] = Block(blocks[100].samples, blocks[100].captured_at, lost, notices=(("stalled", "no audio"),))
        return tuple(blocks)


@pytest.fixture
def microphones(monkeypatch):
    fake = type("Fakes", (Microphones,), {})
    monkeypatch.setattr("stream_ser.sources.microphone.Microphone", fake)
    monkeypatch.setattr("stream_ser.runtime.engine.bundled", lambda: [Path("septr.onnx"), Path("streaming-septr.onnx")])
    return fake


def by_file(text, *left_out):
    """Lines of each stream, without what a clock measures."""
    found = {}
    for line in map(json.loads, text.splitlines()):
        kept = {key: value for key, value in line.items() if key not in ("timing", "file", *left_out)}
        found.setdefault(line["file"], []).append(kept)
    return found


def alone(call, *options):
    (lines,) = by_file(call("listen", "--format", "jsonl", "--no-view", *options)[1]).values()
    return lines


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_each_channel_is_heard_as_if_it_were_alone_and_as_its_recording(rate, microphones, tmp_path, call):
    microphones.rate = rate
    take = tmp_path / "take.wav"
    code, out, err = call("listen", "--channel", "each", "--record", take, "--format", "jsonl", "--no-view")
    assert code == 0
    assert err == f"stream-ser: recorded {take}\n"
    heard = by_file(out)
    assert list(heard) == ["agent#1", "agent#2"]
    assert heard["agent#1"] == alone(call, "--channel", "1")
    assert heard["agent#2"] == alone(call, "--channel", "2")
    assert heard["agent#1"] != heard["agent#2"]
    # What is lost is lost in both, and told in both.
    for lines in heard.values():
        assert sum(line["length"] for line in lines if line["type"] == "gap") == round(7_777 * RATE / rate)
        assert sum(line["type"] == "notice" for line in lines) == 1
    assert soundfile.info(take).channels == 2
    filed = by_file(call("file", take, "--channel", "each", "--format", "jsonl")[1])
    told = [[line for line in lines if line["type"] != "notice"] for lines in heard.values()]
    assert list(filed) == [f"{take}#1", f"{take}#2"]
    assert list(filed.values()) == told


def test_lines_of_both_come_as_they_are_decided(microphones, call):
    microphones.faults = False
    out = call("listen", "--channel", "each", "--format", "jsonl", "--no-view")[1]
    lines = [json.loads(line) for line in out.splitlines() if '"prediction"' in line]
    ends = [line["end"] for line in lines]
    assert ends == sorted(ends)
    assert Counter(line["file"] for line in lines[:20]) == {"agent#1": 10, "agent#2": 10}


def test_devices_are_streams_with_books_of_their_own(microphones, tmp_path, call):
    options = ("--device", "agent", "--device", "customer", "--record", tmp_path / "take.wav")
    code, out, err = call("listen", *options, "--format", "jsonl", "--no-view")
    assert code == 0
    heard = by_file(out)
    assert set(heard) == {"agent", "customer"}
    for device, path, lost in (("agent", "take-1.wav", 7_777), ("customer", "take-2.wav", 1_234)):
        assert heard[device] == alone(call, "--device", device)
        assert heard[device][-1]["lost"] == lost
        (filed,) = by_file(call("file", tmp_path / path, "--format", "jsonl")[1]).values()
        assert filed == [line for line in heard[device] if line["type"] != "notice"]
        assert f"recorded {tmp_path / path}" in err


def test_channels_of_several_devices(microphones, tmp_path, call):
    table = tmp_path / "out.csv"
    devices = ("--device", "agent", "--device", "customer")
    options = ("--channel", "2", "--channel", "1", "--no-view", "-o", table, "-o", tmp_path / "o.rttm")
    assert call("listen", *devices, *options, "-o", tmp_path / "o.srt", "-o", tmp_path / "o.vtt")[0] == 0
    rows = [line.split(",")[0] for line in table.read_text().splitlines()]
    assert rows.count("file") == 1
    assert set(rows[1:]) == {"agent#1", "agent#2", "customer#1", "customer#2"}
    assert {line.split()[1] for line in (tmp_path / "o.rttm").read_text().splitlines()} == set(rows[1:])
    # Subtitles hold one stream.
    kinds = sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".srt", ".vtt"))
    assert kinds == [f"o-{name}{suffix}" for name in sorted(set(rows[1:])) for suffix in (".srt", ".vtt")]
    assert "1\n00:00:" in (tmp_path / "o-customer#2.srt").read_text()
    code, _, err = call("listen", *devices, "--format", "srt")
    assert code == 2
    assert "--output NAME.srt" in one_line(err)


def test_a_picture_of_each(microphones, tmp_path, call):
    pytest.importorskip("matplotlib")
    microphones.faults = False
    assert call("listen", "--channel", "each", "--no-view", "--duration", "3", "--plot", tmp_path / "p.png")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p-agent#1.png", "p-agent#2.png"]


def test_a_lost_device_ends_a_script_and_what_was_heard_of_both_is_there(microphones, call):
    microphones.failing = "customer"
    code, out, err = call("listen", "--device", "agent", "--device", "customer", "--format", "jsonl", "--no-view")
    assert code == 2
    assert "customer was lost" in one_line(err)
    assert {lines[-1]["type"] for lines in by_file(out).values()} == {"summary"}


def test_a_duration_ends_all(microphones, call):
    microphones.faults = False
    options = ("--device", "agent", "--device", "customer", "--channel", "each", "--duration", "2.5")
    out = call("listen", *options, "--format", "jsonl", "--no-view")[1]
    assert [lines[-1]["samples"] for lines in by_file(out).values()] == [40_000] * 4


def test_a_session_of_channels_runs_again_to_the_same_bytes(microphones, tmp_path, call):
    session = tmp_path / "odd.jsonl"
    code, live, _ = call("listen", "--channel", "each", "--record-session", session, "--format", "jsonl", "--no-view")
    assert code == 0
    assert json.loads(session.read_text().splitlines()[0])["parts"] == ["#1", "#2"]
    code, again, err = call("listen", "--replay", session, "--format", "jsonl", "--no-view")
    assert (code, err) == (0, "")
    assert by_file(again) == by_file(live)
    assert [json.loads(line)["file"] for line in again.splitlines()] == [
        json.loads(line)["file"] for line in live.splitlines()
    ]
    soundfile.write(session.with_suffix(".wav"), FIRST, RATE, subtype="PCM_16")
    code, _, err = call("listen", "--replay", session, "--no-view")
    assert code == 2
    assert "16000 Hz and 1 channels, but" in one_line(err)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--channel", "each", "--channel", "1"), "each stands alone, expected mix, each, or numbers from 1"),
        (("--channel", "2", "--channel", "2"), "one channel is given twice"),
        (("--channel", "0"), "'0', expected mix, each, or numbers from 1"),
        (("--device", "agent", "--device", "agent"), "--device agent and --device agent are both agent"),
        (("--device", "agent", "--device", "piano"), "no input device is called 'piano'"),
        (
            ("--device", "agent", "--device", "customer", "--record-session", "s.jsonl"),
            "--record-session keeps one device, and there are 2; use --record",
        ),
        (("--replay", "s.jsonl", "--channel", "each"), "--channel has no use with --replay"),
    ],
)
def test_mistakes_are_one_line(options, said, microphones, call):
    code, _, err = call("listen", *options, "--no-view")
    assert code == 2
    assert said in one_line(err)


def test_recordings_of_several_devices_overwrite_nothing_unasked(microphones, tmp_path, call):
    (tmp_path / "take-2.wav").write_text("precious")
    options = ("--device", "agent", "--device", "customer", "--record", tmp_path / "take.wav", "--no-view")
    code, _, err = call("listen", *options)
    assert code == 2
    assert "take-2.wav exists already" in one_line(err)
    assert [path.name for path in tmp_path.iterdir()] == ["take-2.wav"]
    assert call("listen", *options, "--force")[0] == 0
    assert soundfile.info(tmp_path / "take-2.wav").channels == 1


def test_options_may_come_from_a_file(microphones, tmp_path, call):
    config = tmp_path / "c.toml"
    for text, files in (
        ('[listen]\ndevice = ["agent", "customer"]\nchannel = 2\n', {"agent", "customer"}),
        ('[listen]\ndevice = "customer"\nchannel = [1, 2]\n', {"customer#1", "customer#2"}),
        ('[listen]\nchannel = "each"\n', {"agent#1", "agent#2"}),
    ):
        config.write_text(text)
        code, out, err = call("listen", "--config", config, "--format", "jsonl", "--no-view", "--duration", "2")
        assert code == 0, err
        assert set(by_file(out)) == files


def test_plain_lines_say_whose_they_are(microphones, call):
    code, out, err = call("listen", "--device", "agent", "--device", "customer")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert {line[:9] for line in lines} == {"agent    ", "customer "}
    assert lines[0] == "agent    (fake)"
    assert sum("end: " in line for line in lines) == 2


def test_one_screen_for_all_and_the_results_behind_it(microphones, call, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    assert call("listen", "--channel", "each")[0] == 0
    text = screen.getvalue()
    assert text.count("\x1b[?1049h") == text.count("\x1b[?1049l") == 1
    shown, after = text.split("\x1b[?1049l")
    assert "2 streams" in shown
    assert after.count("overall") == 2
    assert "agent#1" in after
    assert "agent#2" in after


@pytest.mark.parametrize("failing", [OSError(28, "No space left on device")])
def test_an_output_that_fails_for_one_fails_once(failing, microphones, tmp_path, call, monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise failing

    from stream_ser.cli.run import outputs

    real = outputs.make_sink
    monkeypatch.setattr(
        outputs,
        "make_sink",
        lambda format_, out, **o: real(format_, Full() if format_ == "csv" else out, **o),
    )
    options = ("-o", tmp_path / "a.csv", "-o", tmp_path / "b.jsonl", "--no-view")
    code, _, err = call("listen", "--channel", "each", *options)
    assert code == 1
    assert err.count("No space left on device") == 1
    assert {lines[-1]["type"] for lines in by_file((tmp_path / "b.jsonl").read_text()).values()} == {"summary"}


def test_too_little_of_one_stream_takes_nothing_from_the_other(microphones, call, monkeypatch):
    def faulty(self, samples):
        return blocks_of(samples if self.name == "agent" else noise(0.1))

    monkeypatch.setattr(microphones, "faulty", faulty)
    code, out, err = call("listen", "--device", "agent", "--device", "customer", "--format", "jsonl", "--no-view")
    assert code == 2
    assert "too short" in one_line(err)
    heard = by_file(out)
    assert heard["agent"][-1]["type"] == "summary"
    assert [line["type"] for line in heard["customer"]] == ["stream"]
