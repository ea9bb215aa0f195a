"""However a run ends, its files are valid: real processes, real signals, real pipes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from generate import voice, write_wav

pytestmark = [pytest.mark.signals, pytest.mark.skipif(os.name != "posix", reason="POSIX signals")]
#: Long enough for the slowest machine; nothing waits for it unless it fails.
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("clip") / "voice.wav", voice(60.0))


def command(tiny_model: Path, *arguments: object) -> list[str]:
    program = [sys.executable, "-m", "stream_ser", "file", "--model", str(tiny_model), "--provider", "cpu"]
    return [*program, *map(str, arguments)]


@contextmanager
def running(arguments: Sequence[str], **options: int) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_of(path: Path) -> list[dict]:
    """Every line must be whole."""
    text = path.read_text() if path.exists() else ""
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def wait_for(path: Path, process: subprocess.Popen[bytes], predictions: int) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not path.exists() or path.read_text().count('"prediction"') < predictions:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def ended(process: subprocess.Popen[bytes], number: int) -> int:
    process.send_signal(number)
    return process.wait(PATIENCE_S)


def test_what_was_heard_is_in_the_files_when_the_run_is_killed(clip, tiny_model, tmp_path):
    """A minute in real time: had anything been held back, a kill after a few seconds would find empty files."""
    events, rows = tmp_path / "a.jsonl", tmp_path / "a.csv"
    with running(command(tiny_model, clip, "--realtime", "--no-vad", "-o", events, "-o", rows)) as process:
        wait_for(events, process, 6)
        assert ended(process, signal.SIGKILL) == -signal.SIGKILL
    lines = lines_of(events)
    assert lines[0]["type"] == "stream"
    predictions = [line for line in lines if line["type"] == "prediction"]
    assert len(predictions) >= 6
    assert "summary" not in {line["type"] for line in lines}
    # One prediction every 250 ms, none missing.
    assert [line["end"] for line in predictions] == [
        predictions[0]["end"] + 4_000 * count for count in range(len(predictions))
    ]
    decisions = [line for line in lines if line["type"] == "decision"]
    with rows.open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) in (len(decisions), len(decisions) - 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_completes_every_output(number, clip, tiny_model, tmp_path):
    names = [tmp_path / name for name in ("a.jsonl", "a.csv", "a.rttm", "a.srt", "a.vtt", "a.txt")]
    options = [option for name in names for option in ("-o", name)]
    with running(command(tiny_model, clip, "--realtime", "--no-vad", *options)) as process:
        wait_for(names[0], process, 3)
        assert ended(process, number) == 128 + number
        assert process.stderr is not None
        assert process.stderr.read() == b""
    lines = lines_of(names[0])
    assert lines[-1]["type"] == "summary"
    assert 0 < lines[-1]["samples"] < 60 * 16_000
    shown = [line for line in lines if line["type"] == "decision"]
    assert shown[-1]["end"] > lines[-1]["samples"] - 16_000
    assert len(names[1].read_text().splitlines()) == 1 + len(shown)
    assert len(names[2].read_text().splitlines()) == len(shown)
    for subtitles in names[3:5]:
        assert subtitles.read_text().count(" --> ") == len(shown)
        assert subtitles.read_text().endswith("\n\n")
    assert "overall" in names[5].read_text()


def test_a_signal_ends_the_wait_for_a_pipe_that_delivers_nothing(clip, tiny_model, tmp_path):
    events = tmp_path / "a.jsonl"
    arguments = command(tiny_model, "-", "--no-vad", "-o", events)
    with running(arguments, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(clip.read_bytes()[:160_000])
        process.stdin.flush()
        wait_for(events, process, 3)
        assert ended(process, signal.SIGINT) == 128 + signal.SIGINT
    assert lines_of(events)[-1]["type"] == "summary"


def test_a_closed_pipe_ends_the_run_quietly_and_completes_the_files(clip, tiny_model, tmp_path):
    events = tmp_path / "a.jsonl"
    arguments = command(tiny_model, clip, clip, "--realtime", "--no-vad", "-o", events, "-o", tmp_path / "a.srt", "-o")
    with running([*arguments, "-", "--format", "jsonl"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b'"stream"' in process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 1
        assert process.stderr is not None
        assert process.stderr.read() == b""
    lines = lines_of(events)
    assert [line["type"] for line in lines].count("stream") == 1
    assert lines[-1]["type"] == "summary"
