import csv
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

import stream_ser
from stream_ser import cli, engine
from stream_ser.card import Card
from stream_ser.cli import COMMANDS, app, main
from stream_ser.cli._run import drive, results_to, stop_on_signals, view_on
from stream_ser.cli.file import expand
from stream_ser.config import FeatureConfig
from stream_ser.errors import AudioError, DeviceError, ModelError, OutputError
from stream_ser.events import Block, Decision
from stream_ser.pipeline import Recognizer
from stream_ser.sinks.lines import Lines

LABELS = ("anger", "happy", "sad")
LONG_NAME = "n" * 5_000
REAL_LOAD = engine.load
ROOT = Path(stream_ser.__file__).parent.parent
CARD = Card(
    name="fake",
    labels=LABELS,
    features=FeatureConfig(),
    mean=(0.0,) * 64,
    std=(1.0,) * 64,
    parameters=1_234,
    training={"corpora": ["CREMA-D"]},
    results={"uar": 0.6123, "protocol": "speaker-independent"},
    licence="CREMA-D: ODbL 1.0",
)


class FakeEngine:
    """Hears the emotion in the loudness: every second window of noise differs, so decisions come and go."""

    path = Path("fake.onnx")
    provider = "CPUExecutionProvider"
    note = ""
    card = CARD

    def probabilities(self, window):
        loud = float(window.mean()) > -2.0
        return (0.8, 0.15, 0.05) if loud else (0.1, 0.2, 0.7)


class FakeMicrophone:
    """Delivers what it was given; hands out the rest and ends once closed, as the real one does."""

    blocks: tuple[Block, ...] = ()
    failure: Exception | None = None
    forever = False
    block_signal = None

    def __init__(self, device=None, duration_s=None):
        self.name = f"fake microphone {device}" if device else "fake microphone"
        self.sample_rate = 16_000
        self.overflows = self.lost_samples = 0
        self.duration_s = duration_s
        self._closed = threading.Event()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.close()

    def close(self):
        self._closed.set()

    def __iter__(self):
        left = None if self.duration_s is None else round(self.duration_s * self.sample_rate)
        for number, block in enumerate(self.blocks):
            if left is not None:
                if left <= 0:
                    return
                block = Block(block.samples[:left], block.captured_at, block.lost)
                left -= len(block.samples)
            yield block
            if self.block_signal is not None and number == self.block_signal[0]:
                os.kill(os.getpid(), self.block_signal[1])
        if self.failure is not None:
            raise self.failure
        while self.forever and not self._closed.wait(0.05):
            pass


def noise(seconds, amplitude=0.3, seed=0):
    samples = np.random.default_rng(seed).standard_normal(round(seconds * 16_000)) * amplitude
    return np.clip(np.rint(samples * 32_768) / 32_768, -1, 1 - 2**-15).astype(np.float32)


def speech():
    return np.concatenate([noise(4), noise(4, 0.005), np.zeros(32_000, np.float32), noise(3)])


def blocks_of(samples, size=320):
    return tuple(
        Block(samples[first : first + size], captured_at=time.monotonic()) for first in range(0, len(samples), size)
    )


@pytest.fixture(autouse=True)
def fake_engine(monkeypatch):
    def load(model="septr", provider="auto", threads=1):
        if model == "broken":
            raise ModelError("broken: no such model file")
        engine = FakeEngine()
        engine.path = Path(model)
        return engine

    monkeypatch.setattr("stream_ser.engine.load", load)


@pytest.fixture
def microphone(monkeypatch):
    fake = type("Fake", (FakeMicrophone,), {"blocks": blocks_of(speech())})
    monkeypatch.setattr("stream_ser.microphone.Microphone", fake)
    return fake


@pytest.fixture
def wav(tmp_path):
    path = tmp_path / "speech.wav"
    soundfile.write(path, speech(), 16_000, subtype="PCM_16")
    return path


@pytest.fixture
def call(capsys):
    """Runs the command line as a shell would; exit code, stdout, stderr."""

    def run(*args):
        with pytest.raises(SystemExit) as exit_:
            main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return exit_.value.code, out, err

    return run


def one_line(err):
    assert err.count("\n") == 1, err
    assert err.startswith("stream-ser: error: "), err
    assert "Traceback" not in err
    return err


# the group


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
    monkeypatch.setattr("stream_ser.engine.load", REAL_LOAD)
    code, out, err = call(*args)
    assert (code, out) == (2, "")
    assert os.strerror(errno.ENAMETOOLONG) in one_line(err)


def test_broken_pipe_is_quiet(wav):
    program = (
        "import sys; sys.path.insert(0, 'tests'); import test_cli, stream_ser.engine\n"
        "stream_ser.engine.load = lambda *a: test_cli.FakeEngine()\n"
        f"test_cli.main(['file', '--format', 'jsonl'] + {[str(wav)] * 30!r})"
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(wav, call):
    code, _, err = call("file", wav, "--format", "csv", "--output", "/dev/full")
    assert code == 2
    assert os.strerror(errno.ENOSPC) in one_line(err)


# file


def test_file_prints_a_table(wav, call):
    code, out, err = call("file", wav)
    assert (code, err) == (0, "")
    assert "speech.wav" in out
    assert "overall" in out
    assert all(label in out for label in LABELS)
    assert "\x1b" not in out


def test_file_jsonl_is_deterministic_and_complete(wav, call):
    first, second = (call("file", wav, "--format", "jsonl") for _ in range(2))
    assert first == second
    lines = [json.loads(line) for line in first[1].splitlines()]
    assert lines[0]["type"] == "stream"
    assert lines[-1]["type"] == "summary"
    assert lines[-1]["samples"] == len(speech())
    decisions = [line for line in lines if line["type"] == "decision"]
    assert {"anger", "sad", "silence"} <= {line["label"] for line in decisions}
    assert decisions[0]["start"] == 0
    assert all(a["end"] == b["start"] for a, b in pairwise(decisions))
    assert not any("timing" in line for line in lines)


def test_file_csv_agrees_with_jsonl(wav, call):
    rows = list(csv.DictReader(io.StringIO(call("file", wav, "--format", "csv")[1])))
    lines = map(json.loads, call("file", wav, "--format", "jsonl")[1].splitlines())
    decisions = [line for line in lines if line["type"] == "decision"]
    assert [(row["label"], float(row["end_s"])) for row in rows] == [(d["label"], d["end_s"]) for d in decisions]


def test_digital_silence_claims_no_emotion(tmp_path, call):
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(48_000), 16_000)
    code, out, _ = call("file", path)
    assert code == 0
    assert "no emotion is claimed" in out
    assert "%" not in out


@pytest.mark.parametrize("content", [None, b"", b"junk" * 100])
def test_a_bad_only_file_is_2(content, tmp_path, call):
    path = tmp_path / "bad.wav"
    if content is not None:
        path.write_bytes(content)
    code, out, err = call("file", path)
    assert (code, out) == (2, "")
    assert str(path) in one_line(err)


def test_a_too_short_file_is_named(tmp_path, call):
    path = tmp_path / "short.wav"
    soundfile.write(path, noise(0.1), 16_000)
    code, _, err = call("file", path)
    assert code == 2
    assert "short.wav" in one_line(err)
    assert "too short" in err


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "talks"
    (root / "b" / "deep").mkdir(parents=True)
    for name in ("b/deep/one.FLAC", "a.wav", "b/two.wav"):
        soundfile.write(root / name, noise(2), 16_000, format="FLAC" if name.endswith("FLAC") else "WAV")
    (root / "notes.txt").write_text("no audio")
    (root / "._a.wav").write_bytes(b"a resource fork")
    return root


def test_a_folder_is_searched_recursively_in_order(folder):
    names = [os.path.relpath(name, folder) for name in expand([str(folder)])]
    assert names == ["a.wav", os.path.join("b", "deep", "one.FLAC"), os.path.join("b", "two.wav")]
    assert len(expand([str(folder), str(folder / "a.wav"), str(folder)])) == 3


def test_a_folder_ends_with_an_overview(folder, call):
    code, out, _ = call("file", folder)
    assert code == 0
    tail = out.splitlines()[-4:]
    assert tail[0].split() == ["file", "length", "emotion"]
    assert [("wav" in line or "FLAC" in line) for line in tail[1:]] == [True] * 3


def test_an_empty_folder_is_2(tmp_path, call):
    (tmp_path / "notes.txt").write_text("x")
    code, _, err = call("file", tmp_path)
    assert code == 2
    assert "no audio files" in one_line(err)


def test_a_name_that_is_too_long_among_others_stops_nothing(wav, call):
    code, out, err = call("file", LONG_NAME, wav, "--format", "csv")
    assert code == 1
    assert os.strerror(errno.ENAMETOOLONG) in one_line(err)
    assert str(wav) in out


def test_an_os_error_of_one_file_of_many_stops_nothing(wav, call, monkeypatch):
    other = wav.with_name("other.wav")
    real = stream_ser.sources.FileSource

    def source(name, *args, **options):
        if name == str(other):
            raise PermissionError(errno.EACCES, "Permission denied", name)
        return real(name, *args, **options)

    monkeypatch.setattr("stream_ser.sources.FileSource", source)
    code, out, err = call("file", other, wav, "--format", "csv")
    assert code == 1
    assert one_line(err).startswith(f"stream-ser: error: {other}: Permission denied; ")
    assert str(wav) in out
    code, out, err = call("file", other)
    assert (code, out) == (2, "")
    one_line(err)


@pytest.mark.parametrize(("closed", "expected"), [("b", 1), ("", 2)])
def test_a_folder_that_cannot_be_read_is_reported(closed, expected, folder, call, monkeypatch):
    real = os.scandir

    def scandir(path):
        if os.fspath(path) == str(folder / closed):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    code, out, err = call("file", folder, "--format", "csv")
    assert code == expected
    assert one_line(err).startswith(f"stream-ser: error: {folder / closed}: Permission denied; ")
    assert ("a.wav" in out) == (expected == 1)


def test_one_bad_file_of_many_is_reported_and_1(folder, call):
    (folder / "bad.mp3").write_bytes(b"junk" * 50)
    code, out, err = call("file", folder, "--format", "csv")
    assert code == 1
    assert "bad.mp3" in one_line(err)
    assert len({row["file"] for row in csv.DictReader(io.StringIO(out))}) == 3


def test_a_missing_file_of_two_is_reported_and_1(wav, call):
    code, out, err = call("file", "missing.wav", wav)
    assert code == 1
    assert "missing.wav" in one_line(err)
    assert "not read" in out


def test_a_truncated_file_keeps_its_results_and_is_1(wav, call):
    wav.write_bytes(wav.read_bytes()[:120_000])
    code, out, err = call("file", wav, "--format", "jsonl")
    assert code == 1
    assert err.count("\n") == 1
    assert err.startswith("stream-ser: warning: ")
    assert "truncated" in err
    assert json.loads(out.splitlines()[-1])["type"] == "summary"


def test_files_do_not_leak_into_each_other(wav, call):
    alone = call("file", wav, "--format", "jsonl")[1].splitlines()
    again = wav.with_name("again.wav")
    again.write_bytes(wav.read_bytes())
    both = call("file", wav, again, "--format", "jsonl")[1].splitlines()
    assert both[: len(alone)] == alone
    assert [line.replace("again.wav", "speech.wav") for line in both[len(alone) :]] == alone


def test_output_goes_to_the_file(wav, tmp_path, call):
    target = tmp_path / "out.jsonl"
    code, out, _ = call("file", wav, "--format", "jsonl", "-o", target)
    assert (code, out) == (0, "")
    assert target.read_text() == call("file", wav, "--format", "jsonl")[1]


def test_output_never_overwrites_an_input(wav, call):
    before = wav.read_bytes()
    code, _, err = call("file", wav, "--output", wav.parent / "." / wav.name)
    assert code == 2
    assert "inputs" in one_line(err)
    assert wav.read_bytes() == before


def test_output_that_cannot_be_written_is_2(wav, tmp_path, call):
    code, _, err = call("file", wav, "--output", tmp_path / "no" / "such" / "folder.txt")
    assert code == 2
    assert "cannot write" in one_line(err)


@pytest.mark.parametrize("format_", ["table", "csv", "jsonl"])
@pytest.mark.parametrize("broken", ["model", "header", "samples"])
def test_a_run_that_comes_to_nothing_leaves_the_output_as_it_was(format_, broken, wav, tmp_path, call):
    model = "broken" if broken == "model" else "septr"
    if broken == "header":
        wav.write_bytes(b"junk" * 100)
    if broken == "samples":
        soundfile.write(wav, np.full(16_000, np.nan, np.float32), 16_000, subtype="FLOAT")
    kept, new = tmp_path / "kept", tmp_path / "new"
    kept.write_text("results of yesterday")
    for target in (kept, new):
        assert call("file", wav, "--format", format_, "--model", model, "-o", target)[0] == 2
    assert kept.read_text() == "results of yesterday"
    assert not new.exists()


def test_output_replaces_what_was_longer(wav, tmp_path, call):
    target = tmp_path / "out.csv"
    target.write_text("x" * 100_000)
    assert call("file", wav, "--format", "csv", "-o", target)[0] == 0
    assert target.read_text() == call("file", wav, "--format", "csv")[1]


def test_standard_input(wav, call, monkeypatch):
    expected = call("file", wav, "--format", "csv")[1].replace(str(wav), "-")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(wav.read_bytes())))
    code, out, _ = call("file", "-", "--format", "csv")
    assert (code, out) == (0, expected)


def test_a_bad_model_is_2(wav, call):
    code, _, err = call("file", wav, "--model", "broken")
    assert code == 2
    assert "broken" in one_line(err)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_shown_on_a_terminal_only_and_quiet_silences_it(folder, call, monkeypatch):
    shown = {}
    for options in ((), ("--quiet",)):
        err = Terminal()
        monkeypatch.setattr(sys, "stderr", err)
        assert call("file", folder, "--format", "csv", *options)[0] == 0
        shown[options] = err.getvalue()
    assert "3/3" in re.sub(r"\x1b\[[0-9;]*m", "", shown[()])
    assert shown[("--quiet",)] == ""


# listen


def test_listen_prints_plain_lines_without_a_terminal(microphone, call):
    code, out, err = call("listen", "--device", "7")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert "fake microphone 7" in lines[0]
    assert any("anger" in line for line in lines)
    assert "overall" in lines[-1]


def test_listen_jsonl_owns_stdout_and_has_timing(microphone, call):
    code, out, err = call("listen", "--format", "jsonl")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[-1]["type"] == "summary"
    assert any("age_ms" in line.get("timing", {}) for line in lines)
    assert "anger" in err


def test_listen_no_view_is_silent(microphone, call):
    assert call("listen", "--no-view") == (0, "", "")


def test_listen_output_file_leaves_stdout_to_the_view(microphone, tmp_path, call):
    target = tmp_path / "out.csv"
    code, out, _ = call("listen", "--format", "csv", "--output", target)
    assert code == 0
    assert "fake microphone" in out
    assert target.read_text().startswith("file,start_s")


def test_listen_output_without_a_format_is_2(microphone, call, tmp_path):
    code, _, err = call("listen", "--output", tmp_path / "x")
    assert code == 2
    assert "--format" in one_line(err)


def test_listen_duration_is_exact(microphone, call):
    out = call("listen", "--duration", "2.5", "--format", "jsonl", "--no-view")[1]
    assert json.loads(out.splitlines()[-1])["samples"] == 40_000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_flush_and_exit_0(number, microphone, call):
    microphone.forever = True
    microphone.block_signal = (300, number)
    code, out, _ = call("listen", "--format", "jsonl", "--no-view")
    assert code == 0
    last = json.loads(out.splitlines()[-1])
    # What was captured before the signal is all there.
    assert (last["type"], last["samples"]) == ("summary", len(speech()))


def test_ctrl_c_before_there_is_enough_to_hear_is_0(microphone, call):
    microphone.blocks = blocks_of(noise(0.1))
    microphone.forever = True
    microphone.block_signal = (2, signal.SIGINT)
    code, _, err = call("listen", "--no-view")
    assert code == 0
    assert "too short" in err


def test_a_second_ctrl_c_interrupts():
    with stop_on_signals() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_lost_microphone_keeps_what_was_heard_and_is_2(microphone, call):
    microphone.failure = DeviceError("fake microphone was lost")
    code, out, err = call("listen", "--format", "jsonl", "--no-view")
    assert code == 2
    assert "was lost" in one_line(err)
    assert json.loads(out.splitlines()[-1])["type"] == "summary"


def test_no_microphone_is_2(monkeypatch, call):
    def missing(*args, **kwargs):
        raise DeviceError("no audio input device found")

    monkeypatch.setattr("stream_ser.microphone.Microphone", missing)
    code, _, err = call("listen")
    assert code == 2
    assert "no audio input" in one_line(err)


@pytest.mark.parametrize("moment", ["__init__", "__enter__"])
def test_a_microphone_that_does_not_start_costs_no_earlier_file_and_leaves_no_empty_one(
    moment, microphone, tmp_path, call, monkeypatch
):
    def fail(*args, **kwargs):
        raise DeviceError("fake microphone cannot be opened")

    monkeypatch.setattr(microphone, moment, fail)
    for name in ("results", "take.wav"):
        (tmp_path / name).write_text("precious")
    for results, take in (("results", "take.wav"), ("new", "new.wav")):
        options = ("--format", "jsonl", "--output", tmp_path / results, "--record", tmp_path / take, "--force")
        code, _, err = call("listen", *options)
        assert code == 2
        assert "cannot be opened" in one_line(err)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "results": "precious",
        "take.wav": "precious",
    }


def test_a_recording_gives_the_same_events_as_the_live_run(microphone, tmp_path, call):
    take = tmp_path / "take.wav"
    code, live, err = call("listen", "--record", take, "--format", "jsonl", "--no-view")
    assert code == 0
    assert str(take) in err

    def events(text):
        lines = [json.loads(line) for line in text.splitlines()]
        return [{key: line[key] for key in line if key not in ("file", "timing")} for line in lines]

    assert events(live) == events(call("file", take, "--format", "jsonl")[1])


def test_a_recording_is_not_overwritten_unless_forced(microphone, tmp_path, call):
    take = tmp_path / "take.wav"
    take.write_bytes(b"precious")
    code, _, err = call("listen", "--record", take)
    assert code == 2
    assert "--force" in one_line(err)
    assert take.read_bytes() == b"precious"
    assert call("listen", "--record", take, "--force")[0] == 0
    assert soundfile.info(take).frames == len(speech())


def test_losses_are_reported(microphone, call):
    first, second = noise(2), noise(2)
    microphone.blocks = (Block(first, 0.0), Block(second, 0.0, lost=1_600))
    out = call("listen", "--format", "jsonl", "--no-view")[1]
    lines = [json.loads(line) for line in out.splitlines()]
    gap = next(line for line in lines if line["type"] == "gap")
    assert (gap["start"], gap["length"]) == (32_000, 1_600)
    assert lines[-1]["lost"] == 1_600


# demo


@pytest.fixture
def clip(wav, monkeypatch):
    monkeypatch.setattr("stream_ser.cli.demo.resources.files", lambda package: wav.parent)
    monkeypatch.setattr("stream_ser.cli.demo.CLIP", wav.name)
    return wav


def test_demo_needs_no_microphone(clip, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    code, out, err = call("demo", "--fast")
    assert (code, err) == (0, "")
    assert "anger" in out
    assert "overall" in out


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
    monkeypatch.setattr("stream_ser.engine.load", lambda *args: FakeEngine())
    code, _, err = call("models", "fake")
    assert (code, err) == (0, "")
    (model,) = json.loads(call("models", "--json", "fake")[1])
    assert (model["path"], model["bytes"]) == (str(bundled), 4)


def test_models_json(wav, call):
    (model,) = json.loads(call("models", "--json", wav)[1])
    assert model["labels"] == list(LABELS)
    assert model["bytes"] == wav.stat().st_size


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
