"""Options of all commands that give results: a file of options, the log, quiet."""

import json
import logging
import os
import sys
from pathlib import Path

import click
import pytest
from cli_fakes import Terminal, call, fake_engine, microphone, one_line, wav  # noqa: F401 - fixtures

from stream_ser.cli.commands.demo import demo
from stream_ser.cli.commands.file import file
from stream_ser.cli.commands.listen import listen
from stream_ser.cli.options.config_file import CONFIGURED, defaults_from, options_of


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "options.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


# the file of options

#: A valid value of every option, apart from --config itself.
VALUES = {
    "model": "septr",
    "provider": "cpu",
    "vad": False,
    "threshold": 0.4,
    "hold": 0.5,
    "min-duration": 1.0,
    "steady": True,
    "summary": "rows.csv",
    "format": "jsonl",
    "output": ["a.jsonl", "b.csv"],
    "plot": "a.png",
    "quiet": True,
    "verbose": True,
    "log-file": "a.log",
    "raw": "s16le,8000,2",
    "channel": "each",
    "realtime": True,
    "lm": "a.arpa",
    "lm-weight": 0.5,
    "lm-bonus": 1.0,
    "separate": "voices.onnx",
    "device": "USB",
    "duration": 2.5,
    "record": "a.wav",
    "force": True,
    "no-view": True,
    "overload": "block",
    "on-lost": "exit",
    "changes": False,
    "record-session": "a.session.jsonl",
    "replay": "b.session.jsonl",
    "fast": True,
    "adapt": False,
    "voice": "me",
}


@pytest.mark.parametrize("command", [file, listen, demo])
def test_every_option_can_be_in_the_file(command, config):
    names = set(options_of(command))
    assert names <= set(VALUES)
    values = {name: VALUES[name] for name in sorted(names)}
    text = f"[{command.name}]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
    found = defaults_from(config(text), command.name)
    assert set(found) == {param.name for param in command.params} - {"config", "paths"}
    assert found["output"] == VALUES["output"]
    assert found["vad"] is False


def test_options_come_from_the_file_and_the_command_line_wins(wav, config, call, tmp_path):
    path = config('format = "csv"\nquiet = true\nno-view = true\n[file]\nchannel = 1\n[listen]\nformat = "jsonl"\n')
    assert call("file", wav, "--config", path)[1] == call("file", wav, "--format", "csv")[1]
    assert call("file", "--config", path, wav, "--format", "rttm")[1] == call("file", wav, "--format", "rttm")[1]


@pytest.mark.parametrize("command", [file, listen, demo])
def test_every_flag_of_the_file_can_be_taken_back(command):
    for name, option in options_of(command).items():
        assert not option.is_flag or option.secondary_opts, name


def test_the_command_line_wins_over_a_flag_too(wav, config, call):
    path = config("verbose = true\nquiet = true\n[file]\nrealtime = true\n")
    back = ("--no-verbose", "--no-quiet", "--no-realtime")
    assert call("file", wav, "--config", path, *back) == call("file", wav)


def test_a_command_has_its_own_table(microphone, config, call):
    path = config('format = "csv"\n[listen]\nformat = "jsonl"\nno_view = true\nduration = 2\n')
    code, out, err = call("listen", "--config", path)
    assert (code, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["samples"] == 32_000


@pytest.mark.parametrize(("written", "kept"), [("2", [2]), ("[1, 2]", [1, 2])])
def test_an_option_of_two_commands_is_that_of_the_one_that_is_called(written, kept, wav, config, call):
    """listen hears several channels, file one."""
    path = config(f"channel = {written}")
    assert defaults_from(path, "listen") == {"channel": kept}
    if len(kept) == 1:
        assert defaults_from(path, "file") == {"channel": 2}
    else:
        assert "channel is [1, 2], expected a string or a number" in one_line(call("file", wav, "--config", path)[2])


def test_outputs_in_the_file_are_one_or_several(wav, config, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("file", wav, "--config", config('output = ["a.csv", "b.srt"]')) == (0, "", "")
    assert call("file", wav, "--config", config('output = "c.csv"')) == (0, "", "")
    assert Path("a.csv").read_text() == Path("c.csv").read_text() == call("file", wav, "--format", "csv")[1]
    # The command line replaces the list.
    assert call("file", wav, "--config", config('output = "d.csv"'), "-o", "e.csv") == (0, "", "")
    assert Path("e.csv").exists()
    assert not Path("d.csv").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('modle = "septr"', "modle is no option; did you mean model?"),
        ("[file]\nno-view = true", "[file] no-view is no option"),
        ("[listne]\nforce = true", "[listne] is no command with options; did you mean listen?"),
        ("realtime = 1", "realtime is 1, expected true or false"),
        ('realtime = "yes"', "realtime is 'yes', expected true or false"),
        ("model = true", "model is True, expected a string or a number"),
        ('model = ["a", "b"]', "model is ['a', 'b'], expected a string or a number"),
        ("output = [1979-05-27]", "output is 1979-05-27, expected a string or a number"),
        ('log-file = "a"\nlog_file = "b"', "log_file is set twice"),
        ("config = 'other.toml'", "config is no option"),
        ("model = ", "no TOML"),
        ("\ud800", "no TOML"),
        ('format = "xml"', "'xml' is not one of"),
        ("[listen]\nduration = 1\n[file]\nchannel = 0", "expected mix, each or a number from 1"),
    ],
)
def test_mistakes_in_the_file_are_one_line(text, said, wav, config, call, tmp_path):
    path = config("") if "\ud800" in text else config(text)
    if "\ud800" in text:
        path.write_bytes(b"\xff\xfe")
    code, out, err = call("file", wav, "--config", path)
    assert (code, out) == (2, "")
    assert said in one_line(err)


def test_a_wrong_value_names_the_place_it_was_read_from(wav, config, call):
    path = config('format = "xml"')
    assert one_line(call("file", wav, "--config", path)[2]).startswith(f"stream-ser: error: {path}: Invalid value")
    assert str(path) not in one_line(call("file", wav, "--config", path, "--format", "html")[2])


def test_the_file_must_exist_and_be_short(wav, config, call, tmp_path):
    code, _, err = call("file", wav, "--config", tmp_path / "none.toml")
    assert code == 2
    assert "none.toml" in one_line(err)
    code, _, err = call("file", wav, "--config", config("#" * (2 << 20)))
    assert code == 2
    assert "KiB" in one_line(err)


def test_the_table_of_commands_is_complete():
    from stream_ser.cli import COMMANDS, app

    with click.Context(app) as ctx:
        having = {
            name
            for name in COMMANDS
            if name in ("file", "listen", "demo", "devices", "models", "schema", "doctor")
            and "config" in {param.name for param in app.get_command(ctx, name).params}
        }
    assert having == set(CONFIGURED)


# the log


def test_the_log_goes_to_a_file_in_full(wav, call, tmp_path):
    log = tmp_path / "a.log"
    code, out, err = call("file", wav, "--log-file", log, "--format", "none")
    assert (code, out, err) == (0, "", "")
    text = log.read_text()
    for said in ("INFO stream_ser.events: ", "DEBUG stream_ser.events: ", "speech.wav: begins", "prediction", "ended"):
        assert said in text
    assert logging.getLogger("stream_ser").handlers == []


def test_the_log_holds_what_was_said_and_verbose_does_not_say_it_twice(wav, call, tmp_path):
    log = tmp_path / "a.log"
    code, _, err = call("file", wav, "missing.wav", "--log-file", log, "--verbose")
    assert code == 1
    assert err.count("missing.wav: no such file") == 1
    assert "WARNING stream_ser.said: error: missing.wav: no such file" in log.read_text()
    assert "INFO stream_ser.cli._run: model streaming-septr on CPUExecutionProvider" in log.read_text()


def test_verbose_is_for_standard_error(wav, call):
    code, out, err = call("file", wav, "--verbose", "--format", "csv")
    assert code == 0
    assert out == call("file", wav, "--format", "csv")[1]
    assert all(line.startswith("stream-ser: ") for line in err.splitlines())
    assert "anger" in err
    assert "prediction" not in err


def test_verbose_does_not_tear_the_live_view(microphone, call, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert call("listen", "--verbose")[0] == 0
    assert "\x1b[?1049h" in screen.getvalue()
    assert "begins" not in screen.getvalue()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_log_that_cannot_be_written_is_said_once_and_stops_nothing(microphone, wav, call):
    for args in (("file", wav), ("listen", "--no-view")):
        code, out, err = call(*args, "--format", "csv", "--log-file", "/dev/full")
        assert code == 1
        assert out.count("\n") > 3
        assert "the log ends there" in one_line(err)


def test_a_log_file_that_cannot_be_opened_is_2(wav, call, tmp_path):
    code, out, err = call("file", wav, "--log-file", tmp_path / "no" / "a.log")
    assert (code, out) == (2, "")
    assert "cannot write" in one_line(err)


# quiet


def test_quiet_listening_shows_nothing(microphone, call, tmp_path):
    assert call("listen", "--quiet", "-o", tmp_path / "a.csv") == (0, "", "")
    assert (tmp_path / "a.csv").exists()


def test_quiet_makes_no_remarks_but_logs_them(wav, call, tmp_path, monkeypatch):
    monkeypatch.setattr("cli_fakes.FakeEngine.note", "no CUDA here")
    log = tmp_path / "a.log"
    assert "no CUDA here" in call("file", wav, "--format", "none")[2]
    assert call("file", wav, "--format", "none", "--quiet", "--log-file", log) == (0, "", "")
    assert "no CUDA here" in log.read_text()


def test_what_the_devices_say_at_the_start_is_in_the_log(microphone, call, tmp_path, monkeypatch):
    log = tmp_path / "a.log"
    real = microphone.__init__

    def noisy(self, *args, **options):
        logging.getLogger("stream_ser.portaudio").debug("ALSA lib: something")
        real(self, *args, **options)

    monkeypatch.setattr(microphone, "__init__", noisy)
    code, out, err = call("listen", "--no-view", "--log-file", log)
    assert (code, out, err) == (0, "", "")
    assert "ALSA lib: something" in log.read_text()


def test_control_characters_of_a_name_do_not_reach_the_terminal(wav, call):
    odd = wav.with_name("a\x1b[2J\x07b.wav")
    wav.rename(odd)
    for args in (("file", odd), ("file", odd, odd.with_name("none\x1bc.wav")), ("file", odd, "--verbose")):
        _, out, err = call(*args)
        assert "\x1b" not in out + err
        assert "\x07" not in out + err
        assert "\\x1b[2J" in out
