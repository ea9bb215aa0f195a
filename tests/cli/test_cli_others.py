"""``stream-ser demo`` and ``models``, and the driver loop."""

import io
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_fakes import LABELS, FakeEngine, Terminal, blocks_of, call, fake_engine, microphone, noise, one_line, wav  # noqa: F401 - fixtures

from stream_ser.cli.run.files import results_to
from stream_ser.cli.run.views import view_on
from stream_ser.driver import drive
from stream_ser.errors import AudioError, OutputError
from stream_ser.events import Block, Decision
from stream_ser.recognition.recognizer import Recognizer

# demo
from stream_ser.sinks.lines import Lines


@pytest.fixture
def clip(wav, monkeypatch):
    monkeypatch.setattr("stream_ser.cli.commands.demo.resources.files", lambda package: wav.parent)
    monkeypatch.setattr("stream_ser.cli.commands.demo.CLIP", wav.name)
    return wav


def test_demo_needs_no_microphone(clip, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    code, out, err = call("demo", "--fast")
    assert (code, err) == (0, "")
    assert "anger" in out
    assert "overall" in out


def test_demo_gives_the_results_that_file_gives(clip, call, tmp_path):
    out = tmp_path / "a.csv"
    code, shown, err = call("demo", "--fast", "--format", "jsonl", "--no-vad")
    assert code == 0
    assert "overall" in err
    lines = [json.loads(line) for line in shown.splitlines()]
    assert {line["file"] for line in lines} == {f"demo ({clip.name})"}
    expected = call("file", clip, "--format", "jsonl", "--no-vad")[1].splitlines()
    assert [{**line, "file": str(clip)} for line in lines] == [json.loads(line) for line in expected]
    assert call("demo", "--fast", "--quiet", "-o", out) == (0, "", "")
    assert out.read_text().count("\n") > 3
    code, _, err = call("demo", "--fast", "-o", clip, "--format", "csv")
    assert code == 2
    assert "is one of the inputs" in one_line(err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_demo_says_that_an_output_failed_and_goes_on(clip, call):
    code, out, err = call("demo", "--fast", "-o", "/dev/full", "--format", "csv")
    assert code == 1
    assert "overall" in out
    one_line(err)
    assert call("demo", "--fast", "--quiet", "-o", "/dev/full", "--format", "csv")[0] == 2


def test_demo_is_paced(clip, call):
    soundfile.write(clip, noise(1.2), 16_000)
    started = time.monotonic()
    assert call("demo")[0] == 0
    assert time.monotonic() - started >= 1.1


def test_demo_on_a_terminal_draws(clip, call, monkeypatch):
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert call("demo", "--fast")[0] == 0
    assert "\x1b[?1049h" in out.getvalue()
    assert "overall" in out.getvalue().split("\x1b[?1049l")[-1]


def test_demo_without_its_clip_is_2(clip, call):
    clip.unlink()
    code, _, err = call("demo")
    assert code == 2
    one_line(err)


# models


def test_models_tell_what_binds_and_what_was_measured(wav, call):
    code, out, _ = call("models", wav)
    assert code == 0
    for said in ("fake", "anger, happy, sad", "1,234", "0.6123", "speaker-independent", "ODbL", "CREMA-D"):
        assert said in out


def test_models_knows_the_bundled_ones_by_name(tmp_path, call, monkeypatch):
    # engine.load gives the path that the name stands for; the name itself is no file.
    bundled = tmp_path / "assets" / "fake.onnx"
    bundled.parent.mkdir()
    bundled.write_bytes(b"four")
    monkeypatch.setattr(FakeEngine, "path", bundled)
    monkeypatch.setattr("stream_ser.runtime.engine.load", lambda *args: FakeEngine())
    code, _, err = call("models", "fake")
    assert (code, err) == (0, "")
    (model,) = json.loads(call("models", "--json", "fake")[1])
    assert (model["path"], model["bytes"]) == (str(bundled), 4)


def test_models_json(wav, call):
    (model,) = json.loads(call("models", "--json", wav)[1])
    assert model["labels"] == list(LABELS)
    assert model["bytes"] == wav.stat().st_size
    assert model["default"] is False


# the driver


class Recorder:
    def __init__(self):
        self.calls = []

    def open(self, info):
        self.calls.append("open")

    def write(self, event):
        self.calls.append(type(event).__name__)

    def close(self, summary):
        self.calls.append("close" if summary else "broke off")


class ListSource:
    name = "list"
    sample_rate = 16_000
    parts = ("",)
    overflows = 0
    warning = None

    def __init__(self, *blocks):
        self.blocks = blocks

    def __iter__(self):
        return iter(self.blocks)


def test_drive_closes_sinks_when_the_audio_is_bad():
    sink = Recorder()
    bad = np.full(1_600, np.nan, np.float32)
    with pytest.raises(AudioError):
        drive(ListSource(Block(noise(2)), Block(bad)), Recognizer(FakeEngine()), [sink])
    assert sink.calls[0] == "open"
    assert sink.calls[-1] == "broke off"


def test_drive_gives_every_sink_every_event_and_the_summary():
    sinks = [Recorder(), Recorder()]
    heard = []
    summary = drive(ListSource(*blocks_of(noise(3))), Recognizer(FakeEngine()), sinks, on_block=heard.append)
    assert sinks[0].calls == sinks[1].calls
    assert sinks[0].calls.count("Prediction") > 5
    assert sinks[0].calls[-2:] == [Decision.__name__, "close"]
    assert summary.samples == sum(len(block.samples) for block in heard) == 48_000


def test_view_is_plain_lines_without_a_terminal_or_on_a_dumb_one(monkeypatch):
    assert isinstance(view_on(io.StringIO(), "x"), Lines)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(view_on(Terminal(), "x"), Lines)


def test_results_to_reports_a_folder(tmp_path):
    with pytest.raises(OutputError), results_to(tmp_path):
        pass
