"""``stream-ser listen``."""

import json
import os
import signal

import pytest
import soundfile
from cli_fakes import blocks_of, call, fake_engine, microphone, noise, one_line, speech, wav  # noqa: F401 - fixtures

from stream_ser.cli.run.signals import stop_on_signals
from stream_ser.errors import DeviceError
from stream_ser.events import Block


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
    before = signal.getsignal(signal.SIGINT)  # a background job of a shell inherits SIG_IGN
    with stop_on_signals() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_lost_microphone_keeps_what_was_heard_and_is_2(microphone, call):
    microphone.failure = DeviceError("fake microphone was lost")
    code, out, err = call("listen", "--format", "jsonl", "--no-view")
    assert code == 2
    assert "was lost" in one_line(err)
    assert json.loads(out.splitlines()[-1])["type"] == "summary"


def test_no_microphone_is_2(monkeypatch, call):
    def missing(*args, **kwargs):
        raise DeviceError("no audio input device found")

    monkeypatch.setattr("stream_ser.sources.microphone.Microphone", missing)
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
