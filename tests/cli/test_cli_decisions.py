"""The decider's options, and ``--summary`` of ``stream-ser file``."""

from __future__ import annotations

import csv
import io
import json

import pytest
import soundfile
from cli_fakes import LABELS, call, fake_engine, noise, one_line, speech, wav  # noqa: F401 - fixtures

from stream_ser.events import UNCLAIMED


def lines_of(out: str, kind: str) -> list[dict]:
    return [line for line in map(json.loads, out.splitlines()) if line["type"] == kind]


def test_no_label_below_the_threshold(wav, call):
    for threshold in (0.0, 0.99):
        code, out, err = call("file", wav, "--threshold", threshold, "--format", "jsonl")
        assert (code, err) == (0, "")
        for line in lines_of(out, "decision") + lines_of(out, "provisional"):
            assert line["label"] in UNCLAIMED or line["confidence"] >= threshold
    assert {line["label"] for line in lines_of(out, "decision")} <= UNCLAIMED


def test_steady_changes_what_is_shown_live_and_nothing_that_is_final(wav, call):
    runs = [call("file", wav, *options, "--format", "jsonl")[1] for options in ((), ("--steady",), ("--hold", "3"))]
    decisions = [lines_of(out, "decision") for out in runs]
    assert decisions[0] == decisions[1] == decisions[2]
    first = [lines_of(out, "provisional") for out in runs[:2]]
    assert first[0] != []
    assert [line["utterance"] for line in first[0]] == sorted(line["utterance"] for line in first[0])
    assert all(line["final"] is False for line in first[0])
    assert all(line["final"] is True for line in decisions[0])


@pytest.mark.parametrize(("option", "value"), [("--threshold", "1"), ("--hold", "-1"), ("--min-duration", "x")])
def test_settings_out_of_range_are_refused(wav, call, option, value):
    code, _, err = call("file", wav, option, value)
    assert code == 2
    assert option in err


def test_summary_has_a_row_a_file_also_for_those_that_failed(wav, tmp_path, call):
    quiet, broken = tmp_path / "quiet.wav", tmp_path / "broken.wav"
    soundfile.write(quiet, 0.0 * noise(2), 16_000)
    broken.write_text("no audio")
    code, out, err = call("file", wav, quiet, broken, tmp_path / "none.wav", "--summary", "-")
    assert code == 1
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["file"].rpartition("/")[2] for row in rows] == ["speech.wav", "quiet.wav", "broken.wav", "none.wav"]
    assert list(rows[0]) == ["file", "label", "confidence", *(f"p_{label}" for label in LABELS), "speech_s", "error"]
    assert sum(float(rows[0][f"p_{label}"]) for label in LABELS) == pytest.approx(1.0, abs=1e-3)
    assert float(rows[0]["speech_s"]) > 0.5
    assert (rows[1]["label"], rows[1]["speech_s"], rows[1]["error"]) == ("silence", "0.0000", "")
    assert rows[2]["label"] == ""
    assert "no audio that can be decoded" in rows[2]["error"]
    assert "no such file" in rows[3]["error"]
    assert err.count("stream-ser: error") == 2


def test_summary_stands_beside_the_segments_and_agrees_with_them(wav, tmp_path, call):
    place = tmp_path / "rows.json"
    code, out, _ = call("file", wav, "--summary", place, "--format", "jsonl")
    assert code == 0
    (row,) = json.loads(place.read_text())
    (summary,) = lines_of(out, "summary")
    assert (row["label"], row["confidence"]) == (summary["label"], summary["confidence"])
    assert row["probabilities"] == summary["probabilities"]
    assert row["error"] is None
    spoken = sum(d["end_s"] - d["start_s"] for d in lines_of(out, "decision") if d["label"] != "silence")
    assert row["speech_s"] == pytest.approx(spoken, abs=1e-3)


def test_the_only_file_that_fails_is_a_row_too(tmp_path, call):
    broken, place = tmp_path / "broken.wav", tmp_path / "rows.json"
    broken.write_text("no audio")
    code, _, err = call("file", broken, "--summary", place)
    assert code == 2
    assert json.loads(place.read_text())[0]["error"] in one_line(err)


@pytest.mark.parametrize("name", ["rows.txt", "rows"])
def test_a_summary_without_a_format_is_refused_before_anything_is_heard(wav, tmp_path, call, name):
    code, _, err = call("file", wav, "--summary", tmp_path / name)
    assert code == 2
    assert "expected .csv or .json" in err
    assert not (tmp_path / name).exists()


def test_a_summary_never_takes_the_place_of_an_input(tmp_path, call):
    path = tmp_path / "speech.csv"
    soundfile.write(path, speech(), 16_000, format="WAV")
    before = path.read_bytes()
    code, _, err = call("file", path, "--summary", path)
    assert code == 2
    assert "is one of the inputs" in err
    assert path.read_bytes() == before


def test_without_changes_an_utterance_is_in_one_piece(wav, call):
    decisions = lines_of(call("file", wav, "--no-changes", "--format", "jsonl")[1], "decision")
    utterances = [line["utterance"] for line in decisions if line["utterance"]]
    assert utterances
    assert len(utterances) == len(set(utterances))
