"""Where results go: formats by suffix, files that are never written twice, outputs that fail alone."""

import errno
import io
import os
from pathlib import Path

import click
import pytest
from cli_fakes import call, fake_engine, microphone, one_line, wav  # noqa: F401 - fixtures

from stream_ser.cli.run.files import Claims, one_each
from stream_ser.cli.run.outputs import GuardedSink, Outputs
from stream_ser.cli.run.targets import Results, Target, targets
from stream_ser.errors import OutputError
from stream_ser.events import Decision, StreamInfo, Summary
from stream_ser.sinks.csv_ import Csv

INFO = StreamInfo("a.wav", "m", ("anger",), 16_000)
DECISION = Decision(0, 16_000, "anger", 0.5)
SUMMARY = Summary(16_000, 0, "anger", (1.0,), {"anger": 1.0})
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def wanted(*output, format_=None, default="table"):
    return targets(Results(format_, output, None, False, False, None, None), default)


def to(format_, name=None):
    return Target(format_, None if name is None else Path(name))


# formats


@pytest.mark.parametrize(
    ("output", "format_", "expected"),
    [
        ((), None, [to("table")]),
        ((), "srt", [to("srt")]),
        ((), "none", []),
        (("a.csv",), None, [to("csv", "a.csv")]),
        (("a.RTTM", "b.srt", "c.vtt"), None, [to("rttm", "a.RTTM"), to("srt", "b.srt"), to("vtt", "c.vtt")]),
        (("a.jsonl", "b.txt"), None, [to("jsonl", "a.jsonl"), to("table", "b.txt")]),
        (("a.csv",), "jsonl", [to("jsonl", "a.csv")]),
        (("a.csv",), "none", [to("csv", "a.csv")]),
        (("a.xyz",), "srt", [to("srt", "a.xyz")]),
        (("a",), None, [to("table", "a")]),
        (("a.csv", "b.srt"), "jsonl", [to("csv", "a.csv"), to("srt", "b.srt"), to("jsonl")]),
        (("a.csv", "b.srt"), "csv", [to("csv", "a.csv"), to("srt", "b.srt")]),
        (("a.csv", "log"), "jsonl", [to("csv", "a.csv"), to("jsonl", "log")]),
        (("a.csv", "-"), "jsonl", [to("csv", "a.csv"), to("jsonl")]),
        (("-",), "jsonl", [to("jsonl")]),
    ],
)
def test_the_format_follows_from_the_suffix_unless_told(output, format_, expected):
    assert wanted(*output, format_=format_) == expected


@pytest.mark.parametrize(("output", "default"), [(("a.xyz",), "table"), (("a",), None), (("a.csv", "b.doc"), "table")])
def test_a_suffix_that_names_no_format_is_a_mistake(output, default):
    with pytest.raises(click.UsageError, match=r"--format|\.jsonl"):
        wanted(*output, default=default)


def test_standard_output_is_no_two_outputs(wav, call):
    code, out, err = call("file", wav, "-o", "-", "-o", "-")
    assert (code, out) == (2, "")
    assert "two --output are both -, standard output" in one_line(err)


def test_several_outputs_say_the_same_at_once(wav, tmp_path, call):
    names = ("a.jsonl", "a.csv", "a.rttm", "a.srt", "a.vtt", "a.txt")
    options = [option for name in names for option in ("-o", tmp_path / name)]
    code, out, err = call("file", wav, *options)
    assert (code, out, err) == (0, "", "")
    for name, format_ in zip(names, ("jsonl", "csv", "rttm", "srt", "vtt", "table"), strict=True):
        assert (tmp_path / name).read_text() == call("file", wav, "--format", format_)[1]


def test_listen_writes_several_outputs_and_keeps_its_view(microphone, tmp_path, call):
    code, out, err = call("listen", "-o", tmp_path / "a.jsonl", "-o", tmp_path / "a.srt")
    assert (code, err) == (0, "")
    assert "fake microphone" in out
    assert (tmp_path / "a.srt").read_text().startswith("1\n00:00:0")
    assert '"summary"' in (tmp_path / "a.jsonl").read_text()


# what is never written


@pytest.mark.parametrize("link", [None, os.link, os.symlink])
def test_no_output_is_an_input_or_another_output(link, wav, tmp_path, call):
    before = wav.read_bytes()
    alias = wav
    if link is not None:
        alias = tmp_path / "alias.csv"
        link(wav, alias)
    code, out, err = call("file", wav, "-o", tmp_path / "x.csv", "-o", alias)
    assert (code, out) == (2, "")
    assert "is one of the inputs" in one_line(err)
    assert wav.read_bytes() == before
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("-o", "a.csv", "-o", "sub/../a.csv"),
        ("-o", "a.csv", "--log-file", "a.csv"),
        ("-o", "a.csv", "--format", "csv", "--plot", "a.png", "--log-file", "a.png"),
        ("-o", "a.csv", "-o", "link.csv"),
    ],
)
def test_no_two_outputs_are_one_file(options, wav, tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.csv").symlink_to("a.csv")
    code, out, err = call("file", wav, *options)
    assert (code, out) == (2, "")
    assert "choose two names" in one_line(err)


def test_a_recording_and_an_output_are_two_files(microphone, tmp_path, call):
    code, _, err = call("listen", "--record", tmp_path / "a", "-o", tmp_path / "a", "--format", "csv")
    assert code == 2
    assert "--record and --output are both" in one_line(err)


def test_a_model_and_a_config_are_inputs_too(wav, tmp_path, call):
    config = tmp_path / "c.toml"
    config.write_text("")
    for option, path in (("--config", config), ("--model", wav.with_name("m.onnx"))):
        path.touch()
        code, _, err = call("file", wav, option, path, "-o", path, "--format", "csv")
        assert code == 2
        assert "is one of the inputs" in one_line(err)


def test_a_device_takes_any_number_of_outputs():
    claims = Claims()
    claims.write(Path(os.devnull))
    claims.write(Path(os.devnull))


# outputs that fail


class Broken(io.StringIO):
    """Works for a while."""

    def __init__(self, left, error=errno.ENOSPC):
        super().__init__()
        self.left, self.error = left, error

    def write(self, text):
        self.left -= 1
        if self.left < 0:
            raise OSError(self.error, os.strerror(self.error))
        return super().write(text)


def test_a_sink_that_fails_is_reported_once_and_left_out():
    said = []
    out = Broken(2)
    guard = GuardedSink(Csv(out), "x.csv", said.append, out)
    guard.open(INFO)
    for _ in range(5):
        guard.write(DECISION)
    guard.close(SUMMARY)
    assert len(out.getvalue().splitlines()) == 2
    assert said == [f"error: cannot write x.csv: {os.strerror(errno.ENOSPC)}; free some space: nothing more goes there"]


def test_a_closed_pipe_is_no_error():
    said = []
    outputs = Outputs(said.append, Claims())
    out = Broken(0, errno.EPIPE)
    outputs.results.append(GuardedSink(Csv(out), "x.csv", said.append, out))
    outputs.results[0].open(INFO)
    outputs.results[0].write(DECISION)
    assert said == []
    assert outputs.pipe_closed
    assert outputs.in_vain


def test_each_event_is_handed_on_before_the_next(tmp_path):
    """So kill -9 costs the second that is not decided yet, and nothing before it."""
    path = tmp_path / "a.csv"
    with Outputs(print, Claims()) as outputs:
        outputs.add(to("csv", path))
        (guard,) = outputs.results
        guard.open(INFO)
        for count in range(1, 4):
            guard.write(DECISION)
            assert len(path.read_text().splitlines()) == 1 + count


@needs_full
def test_a_full_disk_costs_one_output_and_is_1(wav, tmp_path, call):
    code, out, err = call("file", wav, wav, "-o", "/dev/full", "-o", tmp_path / "a.jsonl", "--format", "csv")
    assert code == 1
    assert os.strerror(errno.ENOSPC) in one_line(err)
    assert out == ""
    assert (tmp_path / "a.jsonl").read_text() == call("file", wav, wav, "--format", "jsonl")[1]


@needs_full
def test_nothing_left_to_write_to_ends_the_run_and_is_2(wav, call, monkeypatch):
    asked = []
    monkeypatch.setattr("cli_fakes.FakeEngine.probabilities", lambda *args: asked.append(1) or (1.0, 0.0, 0.0))
    code, _, err = call("file", *[wav] * 20, "-o", "/dev/full", "--format", "csv")
    assert code == 2
    one_line(err)
    assert len(asked) < 100


@needs_full
@pytest.mark.parametrize("options", [(), ("--no-view",)])
def test_a_full_disk_does_not_stop_the_listening_and_is_1(options, microphone, tmp_path, call):
    kept = tmp_path / "kept.jsonl"
    code, out, err = call("listen", "-o", "/dev/full", "-o", kept, "--format", "csv", *options)
    assert code == 1
    assert os.strerror(errno.ENOSPC) in one_line(err)
    assert '"summary"' in kept.read_text().splitlines()[-1]
    assert ("overall" in out) == (not options)
    code, out, err = call("listen", "-o", "/dev/full", "--format", "csv", *options)
    assert code == 1
    one_line(err)


class View:
    """Remembers what it was told to show."""

    def __init__(self):
        self.warned = []

    def warn(self, text):
        self.warned.append(text)


def test_an_output_that_fails_is_shown_in_the_view_at_once():
    said, view = [], View()
    outputs = Outputs(said.append, Claims())
    outputs.guard_view(view, io.StringIO())
    out = Broken(0)
    outputs.results.append(GuardedSink(Csv(out), "x.csv", outputs._report, out))
    outputs.results[0].open(INFO)
    for _ in range(2):
        outputs.results[0].write(DECISION)
    assert said == [f"error: {text}" for text in view.warned]
    assert len(said) == 1


# a file for each stream


def test_one_each_names_files_after_streams_and_none_twice():
    name = one_each(Path("d/out.srt"))
    names = ["x/a.wav", "y/A.wav", "-", "a.wav#1", "-#2", "note #b", "a.tar.gz"]
    assert [name(one).name for one in names] == [
        *("out-a.srt", "out-A-2.srt", "out-stdin.srt", "out-a#1.srt", "out-stdin#2.srt"),
        *("out-note #b.srt", "out-a.tar.srt"),
    ]


def test_subtitles_of_several_files_are_several_files(wav, tmp_path, call):
    other = tmp_path / "other.wav"
    other.write_bytes(wav.read_bytes())
    code, out, err = call("file", wav, other, "-o", tmp_path / "out.srt")
    assert (code, out, err) == (0, "", "")
    alone = call("file", wav, "--format", "srt")[1]
    assert {path.name: path.read_text() for path in tmp_path.glob("*.srt")} == dict.fromkeys(
        ("out-speech.srt", "out-other.srt"), alone
    )
    code, out, err = call("file", wav, other, "--format", "vtt")
    assert (code, out) == (2, "")
    assert "--output NAME.vtt" in one_line(err)


def test_a_file_each_is_never_an_input(wav, tmp_path, call):
    victim = tmp_path / "out-speech.srt"
    wav.rename(victim)
    other = tmp_path / "speech.wav"
    other.write_bytes(victim.read_bytes())
    code, _, err = call("file", other, victim, "-o", tmp_path / "out.srt", "-o", tmp_path / "a.csv")
    assert code == 1
    assert "is one of the inputs" in one_line(err)
    assert victim.read_bytes() == other.read_bytes()


def test_claims_raise():
    claims = Claims([Path("a.wav")])
    with pytest.raises(OutputError, match="inputs"):
        claims.write(Path("./a.wav"))
