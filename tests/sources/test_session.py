"""Captures that are kept with their faults and run again: ``listen --record``, ``--record-session``, ``--replay``."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_fakes import (  # noqa: F401 - fixtures
    FakeMicrophone,
    as_16_bit,
    blocks_of,
    call,
    fake_engine,
    microphone,
    one_line,
    speech,
)
from generate import voice
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_ser.errors import AudioError, OutputError
from stream_ser.events import Block
from stream_ser.sources.recorder import WavRecorder
from stream_ser.sources.session import Replay, SessionRecorder

RATE = 16_000


@pytest.fixture(autouse=True)
def bundled_model(monkeypatch):
    """A session runs by itself with bundled models alone."""
    monkeypatch.setattr("stream_ser.runtime.engine.bundled", lambda: [Path("septr.onnx"), Path("streaming-septr.onnx")])


def events(text, *left_out):
    lines = [json.loads(line) for line in text.splitlines()]
    return [
        json.dumps({key: line[key] for key in line if key not in ("timing", *left_out)})
        for line in lines
        if "file" not in left_out or line["type"] != "notice"
    ]


def faulty(rate):
    """Speech in which audio was lost, with predictions left out and things to tell."""
    samples = as_16_bit(np.repeat(voice(6.0, level=0.9), rate // RATE))
    size = rate // 50
    blocks = []
    for number, block in enumerate(blocks_of(samples, size)):
        lost = {40: 1, 41: 1, 100: rate // 3 + 7, 180: size + 5}.get(number, 0)
        notices = (("stalled", "no audio"),) if number == 99 else ()
        behind = 130 <= number < 170
        blocks.append(Block(block.samples, 5.0 + number * 0.02, lost, 0, behind, notices))
    return (*blocks[:99], Block(samples[:0], notices=(("lost", "gone; looking for it"),)), *blocks[99:])


def without_hurry(blocks):
    return tuple(Block(b.samples, b.captured_at, b.lost, 0, False, b.notices) for b in blocks)


@pytest.mark.parametrize("rate", [16_000, 32_000, 48_000])
def test_a_recording_with_gaps_gives_the_same_events(rate, microphone, monkeypatch, tmp_path, call):
    microphone.blocks = without_hurry(faulty(rate))
    monkeypatch.setattr(microphone, "sample_rate", rate, raising=False)
    monkeypatch.setattr(microphone, "__init__", with_rate(rate))
    take = tmp_path / "take.wav"
    code, live, _ = call("listen", "--record", take, "--format", "jsonl", "--no-view")
    assert code == 0
    filed = call("file", take, "--format", "jsonl")[1]
    assert events(live, "file") == events(filed, "file")
    gaps = [json.loads(line) for line in filed.splitlines() if json.loads(line)["type"] == "gap"]
    assert len(gaps) >= 2
    assert sum(gap["length"] for gap in gaps) == json.loads(filed.splitlines()[-1])["lost"]
    assert any(abs(gap["length"] - (rate // 3 + 7) * RATE / rate) <= 1 for gap in gaps)


def with_rate(rate):
    def init(self, *args, **options):
        FakeMicrophone.__init__(self, *args, **options)
        self.sample_rate = rate

    return init


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_a_session_runs_again_to_the_same_bytes(rate, microphone, monkeypatch, tmp_path, call):
    microphone.blocks = faulty(rate)
    monkeypatch.setattr(microphone, "__init__", with_rate(rate))
    session = tmp_path / "odd.jsonl"
    code, live, err = call("listen", "--record-session", session, "--format", "jsonl", "--no-view")
    assert code == 0
    assert "odd.wav" in err
    assert "odd.jsonl" in err
    again = call("listen", "--replay", session, "--format", "jsonl", "--no-view")
    assert (again[0], again[2]) == (0, "")
    assert events(again[1]) == events(live)
    kinds = {json.loads(line)["type"] for line in live.splitlines()}
    assert {"gap", "notice", "prediction", "summary"} <= kinds
    assert json.loads(live.splitlines()[-1])["skipped"] > 0
    # As a view shows it, too.
    code, out, _ = call("listen", "--replay", session)
    assert code == 0
    assert "lost: gone; looking for it" in out


def recorded(folder, blocks, rate=RATE, close=True, about=None):
    """Write a session by hand."""
    source = FakeMicrophone()
    source.sample_rate = rate
    wav = WavRecorder(folder / "s.wav", rate)
    session = SessionRecorder(folder / "s.jsonl", source, folder / "s.wav", about)
    for block in blocks:
        wav.write(block)
        session.write(block)
    wav.close()
    if close:
        session.close()
    else:
        session._out.close()
    return folder / "s.jsonl"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(
        st.tuples(st.integers(0, 700), st.integers(0, 2_000), st.booleans(), st.booleans()), min_size=1, max_size=12
    )
)
def test_blocks_come_back(tmp_path_factory, parts):
    rng = np.random.default_rng(0)
    blocks = [
        Block(as_16_bit(0.1 * rng.standard_normal(n)), 7.0, lost, 0, behind, (("stalled", "ä\n"),) if told else ())
        for n, lost, behind, told in parts
    ]
    if not sum(len(b.samples) + b.lost for b in blocks):
        return
    path = recorded(tmp_path_factory.mktemp("s"), blocks)
    with Replay(path) as replay:
        again = list(replay)
        assert replay.warning is None
    assert len(again) == len(blocks)
    for a, b in zip(again, blocks, strict=True):
        np.testing.assert_array_equal(a.samples, b.samples)
        assert (a.lost, a.behind, a.notices, a.captured_at) == (b.lost, b.behind, b.notices, None)


def test_the_pace_is_that_of_the_session(tmp_path):
    blocks = [Block(np.zeros(320, np.float32), 9.0 + 0.05 * k) for k in range(4)]
    with Replay(recorded(tmp_path, blocks), realtime=True) as replay:
        times = [block.captured_at for block in replay]
    assert np.diff(times) == pytest.approx([0.05] * 3, abs=1e-6)


def test_what_a_killed_program_left_is_run_as_far_as_it_goes(tmp_path, call):
    path = recorded(tmp_path, [Block(b.samples, 1.0) for b in blocks_of(speech())], close=False)
    path.write_text(path.read_text()[:-9])
    with Replay(path) as replay:
        heard = sum(len(block.samples) for block in replay)
    assert heard == len(speech()) - 320
    assert "broken off" in replay.warning
    code, _, err = call("listen", "--replay", path, "--no-view")
    assert code == 1
    assert "broken off" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_session_that_could_not_be_written_does_not_say_that_it_is_complete(tmp_path, monkeypatch):
    source = FakeMicrophone()
    source.sample_rate = RATE
    session = SessionRecorder(tmp_path / "s.jsonl", source, tmp_path / "s.wav")
    kept = session._out
    session._out = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 - closed below
    with pytest.raises(OutputError, match="No space left"):
        session.write(Block(np.zeros(320, np.float32)))
    with contextlib.suppress(OSError):
        session._out.close()
    session._out = kept  # there is space again
    session.close()
    assert '"end"' not in (tmp_path / "s.jsonl").read_text()


def test_audio_that_ends_early_is_said(tmp_path):
    path = recorded(tmp_path, [Block(b.samples, 1.0) for b in blocks_of(speech())])
    soundfile.write(tmp_path / "s.wav", speech()[:16_000], RATE, subtype="PCM_16")
    with Replay(path) as replay:
        assert sum(len(block.samples) for block in replay) == 16_000
    assert "s.wav ends early, at line 52" in replay.warning


HEADER = {"type": "session", "schema": 1, "source": "x", "sample_rate": RATE, "audio": "s.wav", "model": "septr"}


@pytest.mark.parametrize(
    ("header", "lines", "said"),
    [
        ({"type": "stream"}, [], "no session"),
        ({"schema": 3}, [], "schema 3, expected 1 or 2"),
        ({"schema": 2}, [], "line 1 is damaged"),
        ({"schema": 2, "parts": []}, [], "line 1 is damaged"),
        ({"schema": 2, "parts": ["#1", 2]}, [], "line 1 is damaged"),
        ({"schema": 2, "parts": ["#1", "#2"]}, [], "16000 Hz and 1 channels, but"),
        ({"sample_rate": 0}, [], "line 1 is damaged"),
        ({"sample_rate": "16000"}, [], "line 1 is damaged"),
        ({"audio": "../s.wav"}, [], "line 1 is damaged"),
        ({"audio": "/etc/passwd"}, [], "line 1 is damaged"),
        ({"audio": ""}, [], "line 1 is damaged"),
        ({"sample_rate": 8_000}, [], "16000 Hz and 1 channels, but"),
        ({"audio": "other.wav"}, [], "no such file"),
        ({}, [{"n": -1}], "line 2 is damaged"),
        ({}, [{"n": 1e3}], "line 2 is damaged"),
        ({}, [{"n": True}], "line 2 is damaged"),
        ({}, [{"n": 10**9}], "line 2 is damaged"),
        ({}, [{}], "line 2 is damaged"),
        ({}, [[1]], "line 2 is damaged"),
        ({}, [{"n": 1, "t": "x"}], "line 2 is damaged"),
        ({}, [{"n": 1, "lost": 10**30}], "line 2 is damaged"),
        ({}, [{"n": 1, "t": 9.5e9}], "line 2 is damaged"),
        ({}, [{"n": 1, "behind": 1}], "line 2 is damaged"),
        ({}, [{"n": 1}, {"n": 1, "notices": [["odd", "x"]]}], "line 3 is damaged"),
        ({}, [{"n": 1, "notices": 3}], "line 2 is damaged"),
        ({"model": "/tmp/other.onnx"}, [], "give that file as --model"),
    ],
)
def test_what_is_no_session_is_one_line(header, lines, said, tmp_path, call):
    soundfile.write(tmp_path / "s.wav", speech(), RATE, subtype="PCM_16")
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [HEADER | header, *lines, {"type": "end"}]))
    code, _, err = call("listen", "--replay", path, "--no-view")
    assert code == 2
    assert said in one_line(err)


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"[" * 100_000, b'{"type"', b"{}\n"])
def test_bytes_that_are_no_session(content, tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"no session|line 1 is damaged"):
        Replay(path)
    with pytest.raises(AudioError, match="cannot be read"):
        Replay(tmp_path / "none.jsonl")


def test_options_that_make_no_sense_together(microphone, tmp_path, call):
    session = recorded(tmp_path, [Block(speech(), 1.0)])
    for options in (("--device", "7"), ("--duration", "3"), ("--overload", "block"), ("--record", tmp_path / "x.wav")):
        code, _, err = call("listen", "--replay", session, *options)
        assert code == 2
        assert f"{options[0]} has no use with --replay" in one_line(err)
    assert "--realtime is for --replay" in one_line(call("listen", "--realtime")[2])
    (tmp_path / "elsewhere").mkdir()
    options = ("--record", tmp_path / "elsewhere" / "a.wav", "--record-session", tmp_path / "a.jsonl", "--no-view")
    assert "in two folders" in one_line(call("listen", *options)[2])
    code, _, err = call("listen", "--record-session", session)
    assert "exists already" in one_line(err)


def test_options_reach_the_microphone(microphone, call):
    code, _, _ = call("listen", "--no-view", "--channel", "2", "--overload", "skip-hop", "--on-lost", "exit")
    assert code == 0
    assert microphone.options == {"channel": 1, "overload": "skip-hop", "on_lost": "exit"}
    call("listen", "--no-view")
    assert microphone.options == {"channel": None, "overload": "drop-oldest", "on_lost": "retry"}


def test_a_recording_that_fails_does_not_stop_the_listening(microphone, tmp_path, call, monkeypatch):
    written = []

    def write(self, block):
        written.append(block)
        if len(written) == 100:
            raise OutputError("cannot write take.wav: No space left on device; free some space")

    monkeypatch.setattr(WavRecorder, "write", write)
    code, out, err = call("listen", "--record", tmp_path / "take.wav", "--format", "jsonl", "--no-view")
    assert code == 1
    assert err == "stream-ser: cannot write take.wav: No space left on device; free some space\n"
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["kind"], line["at"]) for line in lines if line["type"] == "notice"] == [("recording", 99 * 320)]
    assert lines[-1]["samples"] == len(speech())
    assert len(written) == 100


KILLED = """
import os, sys
import numpy as np
from stream_ser.events import Block
from stream_ser.sources.session import SessionRecorder
from stream_ser.sources.recorder import WavRecorder
class Source:
    name, sample_rate, parts, overflows = "x", 16000, ("",), 0
recorder = WavRecorder(sys.argv[1] + "/s.wav", 16000)
session = SessionRecorder(sys.argv[1] + "/s.jsonl", Source, sys.argv[1] + "/s.wav")
for k in range(500):
    block = Block(np.full(320, 0.5, np.float32), float(k))
    recorder.write(block)
    session.write(block)
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs kill -9")
def test_kill_9_loses_less_than_a_second(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=60, check=False)
    with Replay(tmp_path / "s.jsonl") as replay:
        assert sum(len(block.samples) for block in replay) > 500 * 320 - RATE
    assert replay.warning
