"""No name of a file, device or label drives the terminal: control characters are spelled out wherever people read."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import CARD, Terminal, blocks_of, call, fake_engine, microphone, noise, one_line, wav  # noqa: F401 - fixtures

from stream_ser.sinks.table import overview
from stream_ser.text import printable

NASTY = "a\x1b[31mb\x07\nc\x9b2J.wav"
SPELLED = "a\\x1b[31mb\\x07\\nc\\x9b2J.wav"


def test_what_is_printable_stays() -> None:
    assert printable("Gespräch 1 – 通話.wav") == "Gespräch 1 – 通話.wav"
    assert printable(NASTY) == SPELLED
    assert printable("10.04\u202fAM\xa0通\u3000話.wav") == "10.04\u202fAM\xa0通\u3000話.wav"
    assert printable("\udcff\u202e") == "\\udcff\\u202e"
    assert printable("x" * 50, 10) == "xxxxxxx..."


@pytest.mark.skipif(sys.platform == "win32", reason="Windows forbids such names")
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("files", [1, 2])
def test_the_name_of_a_file(files: int, terminal: bool, wav: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    named = [wav.rename(wav.with_name(NASTY))]
    for number in range(1, files):
        named.append(wav.with_name(f"{number}{NASTY}"))
        named[-1].write_bytes(named[0].read_bytes())
    monkeypatch.chdir(wav.parent)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    out, err = Terminal(), Terminal()
    if terminal:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
    code, said, told = call("file", *(path.name for path in named))
    assert code == 0
    said, told = said + out.getvalue(), told + err.getvalue()
    assert SPELLED in said
    for text in (said, told):
        assert "\x1b[31m" not in text
        assert "\x07" not in text
        assert "\x9b" not in text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows forbids such names")
def test_a_message_about_a_file(tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / NASTY
    path.write_bytes(b"no audio")
    err = Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    for given in (path, tmp_path / f"missing{NASTY}"):
        assert call("file", given)[0] == 2
    lines = err.getvalue().splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.isprintable()
        assert SPELLED.replace("\\n", " ") in line


def test_a_list_of_files(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    Console(file=sys.stdout, width=80).print(overview([(NASTY, None, 16_000), ("b", None, 16_000)], ("x", "y"), 80))
    out = capsys.readouterr().out
    assert SPELLED in out
    assert "\x1b" not in out


def test_the_name_of_a_microphone(microphone: Any, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    microphone.blocks = tuple(blocks_of(noise(2.0)))
    code, out, err = call("listen", "--device", "x\x1b[2Jy", "--duration", "1.5")
    assert code == 0
    assert "x\\x1b[2Jy" in out + err
    assert "\x1b" not in out + err


def test_the_name_of_a_device_in_the_list(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from stream_ser.sources.portaudio import DeviceInfo

    nasty = DeviceInfo(3, "a\x1b[2J\tb\nc", "ALSA", 2, 48_000, True)
    monkeypatch.setattr("stream_ser.sources.portaudio.list_devices", lambda: [nasty])
    screen = Terminal()
    lines = call("devices")[1].splitlines()
    assert lines[1].split("\t") == ["3", "a\\x1b[2J\\tb\\nc", "ALSA", "2", "48000", "yes"]
    monkeypatch.setattr(sys, "stdout", screen)
    assert call("devices")[0] == 0
    assert "a\\x1b[2J\\tb\\nc" in screen.getvalue()


def test_what_the_list_of_models_says(tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "m.onnx"
    model.touch()
    trained = {"corpora": {"a\x1b[2J": 3}, "split": "by\x07 speaker"}
    card = replace(CARD, training=trained, results={"r\x1b[2J": {"uar": 0.5}, "other": {"uar": 0.25}})
    monkeypatch.setattr("cli_fakes.FakeEngine.card", card)
    out = call("models", model)[1]
    assert "a\\x1b[2J (3 clips), by\\x07 speaker" in out
    rows = [line.strip() for line in out.splitlines()]
    assert "measured    UAR 0.5000 (r\\x1b[2J)" in rows
    assert "UAR 0.2500 (other)" in rows
    assert "\x1b" not in out
