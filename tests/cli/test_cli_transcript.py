"""Transcripts through the command line: live and from the recording of the same, in every output, and in the API."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_fakes import as_16_bit, blocks_of, microphone  # noqa: F401 - fixture
from generate import write_wav
from transcripts import tones

import stream_ser as ss
from stream_ser.events import Block

SAMPLES = as_16_bit(tones("__CAB FACED_A BADE" + 14 * "_" + "DEAF CAB DAD__"))
LINES = ["CAB FACEDA BADE", "DEAF CAB DAD"]


def transcripts(text: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in text.splitlines()]
    return [{**line, "file": ""} for line in lines if line["type"] == "transcript"]


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "said.wav", SAMPLES)


def test_what_was_heard_live_is_what_its_recording_says(microphone, call, speller: Path, tmp_path: Path) -> None:
    # A loss in the middle: zeros in the recording.
    half = len(SAMPLES) // 3
    first, second = blocks_of(SAMPLES[:half]), blocks_of(SAMPLES[half:])
    microphone.blocks = (*first, Block(second[0].samples, second[0].captured_at, lost=16_000), *second[1:])
    options = ("--model", speller, "--provider", "cpu", "--no-vad", "--format", "jsonl")
    take = tmp_path / "take.wav"
    code, live, _ = call("listen", "--no-view", "--quiet", "--record", take, *options)
    assert code == 0
    code, recorded, _ = call("file", take, *options)
    assert code == 0
    assert transcripts(live) == transcripts(recorded)
    assert [line["text"] for line in transcripts(live) if line["final"]][-1] == LINES[-1]
    assert any(not line["final"] for line in transcripts(live))


def test_file_writes_every_format_at_once(call, wav: Path, speller: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / f"out.{suffix}" for suffix in ("jsonl", "csv", "rttm", "srt", "vtt", "txt")]
    given = [part for path in outputs for part in ("--output", path)]
    code, out, err = call("file", wav, "--model", speller, "--provider", "cpu", "--no-vad", *given)
    assert (code, out, err) == (0, "", "")
    found = {path.suffix: path.read_text(encoding="utf-8") for path in outputs}
    labels = {str(line["label"]) for line in transcripts(found[".jsonl"]) if line["final"]}
    for suffix in (".csv", ".srt", ".vtt", ".txt"):
        assert all(line in found[suffix] for line in LINES), suffix
    assert any(f"[{label}] {LINES[0]}" in found[".srt"] for label in labels)
    assert found[".rttm"].count("LEXEME") == sum(len(line.split()) for line in LINES)


def test_the_plain_view_says_each_line_once(microphone, call, speller: Path) -> None:
    microphone.blocks = blocks_of(SAMPLES)
    code, out, _ = call("listen", "--model", speller, "--provider", "cpu", "--no-vad")
    assert code == 0
    assert [sum(f"] {line}" in row for row in out.splitlines()) for line in LINES] == [1, 1]


def test_the_api_gives_the_transcript(speller: Path, tiny_model: Path) -> None:
    found = ss.recognize(SAMPLES, model=speller, vad=None)
    assert [line.text for line in found.transcript] == LINES
    assert isinstance(found.transcript[0].words[0], ss.Word)
    assert ss.recognize(np.tile(SAMPLES, 2), model=tiny_model, vad=None).transcript == ()


def test_models_says_what_a_model_spells_with(call, speller: Path) -> None:
    code, out, _ = call("models", speller)
    assert code == 0
    assert "spelt with ABCDEF, 40 ms after" in out
    code, out, _ = call("models", speller, "--json")
    assert json.loads(out)[0]["vocabulary"][:2] == ["", " "]
