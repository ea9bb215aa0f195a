"""The group: help, laziness, one-line errors and exit codes."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli_fakes import LONG_NAME, REAL_LOAD, ROOT, FakeEngine, call, fake_engine, microphone, one_line, wav  # noqa: F401 - fixtures
from click.testing import CliRunner

import stream_ser
from stream_ser import cli
from stream_ser.cli import COMMANDS, app, main
from stream_ser.errors import ModelError


def test_help_version_and_completion_of_the_table_import_nothing_heavy():
    program = (
        "import sys, stream_ser.cli as c\n"
        "from click.testing import CliRunner\n"
        "assert CliRunner().invoke(c.app, ['--help']).exit_code == 0\n"
        "assert CliRunner().invoke(c.app, ['--version']).exit_code == 0\n"
        "heavy = {'torch', 'onnxruntime', 'numpy', 'sounddevice', 'soundfile', 'soxr', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_help_names_every_command_and_needs_none():
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for name, (_, _, about) in COMMANDS.items():
        assert name in result.output
        assert about.split()[0] in result.output


def test_no_arguments_show_help(call):
    code, out, _ = call()
    assert code == 0
    assert "Commands:" in out


@pytest.mark.parametrize("name", ["file", "listen", "demo", "models"])
def test_each_command_has_help(name, call):
    code, out, _ = call(name, "--help")
    assert code == 0
    assert f"stream-ser {name}" in out


def test_version(call):
    assert call("--version")[:2] == (0, f"stream-ser, version {stream_ser.__version__}\n")


@pytest.mark.parametrize(
    "args",
    [
        *(["nope"], ["file"], ["file", "x.wav", "--format", "xml"], ["--nope"]),
        *(["listen", "--duration", seconds] for seconds in ("-1", "0", "inf", "nan", "1e308", "long")),
    ],
)
def test_usage_errors_are_one_line_and_2(args, call):
    code, out, err = call(*args)
    assert (code, out) == (2, "")
    assert "--help" in one_line(err)


def test_a_command_that_is_nearly_one_is_named(call):
    assert "No such command 'flie'; did you mean file?" in one_line(call("flie", "x.wav")[2])
    assert "did you mean" not in one_line(call("zzz")[2])


def fake_command(monkeypatch, body):
    command = click.Command("fake", callback=body)
    monkeypatch.setattr(cli, "COMMANDS", {"fake": ("tests.fake", "fake", "")})
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: type("M", (), {"fake": command}))


def raiser(error):
    def body():
        raise error

    return body


def test_missing_training_packages_are_named(monkeypatch, call):
    fake_command(monkeypatch, raiser(ModuleNotFoundError("no", name="torch.nn")))
    code, _, err = call("fake")
    assert code == 2
    assert "pip install 'stream-ser[train]'" in one_line(err)
    assert "torch is missing" in err


def test_other_missing_modules_are_bugs_and_show(monkeypatch):
    fake_command(monkeypatch, raiser(ModuleNotFoundError("no", name="stream_ser.nonsense")))
    with pytest.raises(ModuleNotFoundError):
        main(["fake"])


def test_errors_are_one_line_whatever_they_hold(monkeypatch, call):
    fake_command(monkeypatch, raiser(ModelError("two\nlines")))
    assert call("fake") == (2, "", "stream-ser: error: two lines\n")


def test_interrupt_is_130(monkeypatch, call):
    fake_command(monkeypatch, raiser(KeyboardInterrupt()))
    assert call("fake")[0] == 130


def test_what_the_system_says_of_a_file_is_one_line_whatever_the_command(monkeypatch, call):
    fake_command(monkeypatch, raiser(PermissionError(errno.EACCES, "Permission denied", "/secret/a.wav")))
    code, out, err = call("fake")
    assert (code, out) == (2, "")
    assert one_line(err).startswith("stream-ser: error: /secret/a.wav: Permission denied; ")


def test_an_os_error_of_no_file_is_a_bug_and_shows(monkeypatch):
    fake_command(monkeypatch, raiser(OSError(errno.EINVAL, "Invalid argument")))
    with pytest.raises(OSError, match="Invalid argument"):
        main(["fake"])


@pytest.mark.parametrize(
    "args",
    [["file", LONG_NAME], ["models", LONG_NAME], ["listen", "--record", LONG_NAME], ["file", "x", "-o", LONG_NAME]],
)
def test_a_name_that_is_too_long_is_one_line(args, call, monkeypatch, microphone):
    monkeypatch.setattr("stream_ser.runtime.engine.load", REAL_LOAD)
    code, out, err = call(*args)
    assert (code, out) == (2, "")
    assert os.strerror(errno.ENAMETOOLONG) in one_line(err)


def test_broken_pipe_is_quiet(wav):
    program = (
        "import sys; sys.path.insert(0, 'tests/support'); import cli_fakes, stream_ser.runtime.engine\n"
        "stream_ser.runtime.engine.load = lambda *a: cli_fakes.FakeEngine()\n"
        f"cli_fakes.main(['file', '--format', 'jsonl'] + {[str(wav)] * 30!r})"
    )
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" | head -n 1', sys.executable, program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert '"stream"' in done.stdout
    assert done.stderr == ""


@pytest.mark.skipif(os.name != "posix", reason="closes descriptors as a shell does")
@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_reason_to_fail(closed, wav, tmp_path, call):
    """A daemon may be started without them; then the first file to be opened must not take their place."""
    program = (
        "import sys; sys.path.insert(0, 'tests/support'); import cli_fakes, stream_ser.runtime.engine\n"
        "stream_ser.runtime.engine.load = lambda *a: cli_fakes.FakeEngine()\n"
        "cli_fakes.main(sys.argv[1:])"
    )
    events = tmp_path / "a.csv"
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$@" {closed}', sys.executable, program, "file", wav, "-o", events, "-o", "-"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert events.read_text() == call("file", wav, "--format", "csv")[1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(wav, call):
    code, _, err = call("file", wav, "--format", "csv", "--output", "/dev/full")
    assert code == 2
    assert os.strerror(errno.ENOSPC) in one_line(err)
