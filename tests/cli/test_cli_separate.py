"""``stream-ser separate`` and ``file --separate``: what is written, what is heard, mistakes."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
import soundfile
from cli_fakes import call, fake_engine, microphone, one_line, speech, wav  # noqa: F401 - fixtures
from separators import FACTORS, write_tiny_separator

from stream_ser.cli.commands import separate
from stream_ser.cli.options import separation
from stream_ser.separation.separator import DEFAULT_SEPARATOR

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return write_tiny_separator(tmp_path_factory.mktemp("two") / "two.onnx")


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return write_tiny_separator(tmp_path_factory.mktemp("clean") / "clean.onnx", factors=(0.5,))


def samples_of(path):
    return soundfile.read(path, dtype="float32")


def test_sources_are_written_in_step(call, wav, two, tmp_path):
    code, out, err = call("separate", wav, "--model", two, "-o", tmp_path / "out")
    assert code == 0
    files = [tmp_path / "out" / f"speech_source_{n}.wav" for n in (1, 2)]
    assert out.splitlines() == [str(file) for file in files]
    assert "2 x 13.0 s at 16000 Hz" in err
    for file, factor in zip(files, FACTORS, strict=True):
        found, rate = samples_of(file)
        assert rate == 16_000
        np.testing.assert_allclose(found, factor * speech(), atol=1 / 32_768)


def test_the_size_of_what_the_network_gets_changes_nothing(call, wav, two, tmp_path, monkeypatch):
    call("separate", wav, "--model", two, "-o", tmp_path / "a")
    monkeypatch.setattr(separate, "HOPS", 1)
    call("separate", wav, "--model", two, "-o", tmp_path / "b")
    for name in ("speech_source_1.wav", "speech_source_2.wav"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_any_rate_and_channel(call, two, tmp_path):
    stereo = 0.3 * RNG.standard_normal((4_410, 2))
    soundfile.write(tmp_path / "s.flac", stereo, 44_100)
    assert call("separate", tmp_path / "s.flac", "--model", two, "-o", tmp_path, "--channel", "each", "-q")[0] == 0
    for channel in (1, 2):
        found, rate = samples_of(tmp_path / f"s#{channel}_source_1.wav")
        assert (found.shape, rate) == ((1_600,), 16_000)
    first, second = (samples_of(tmp_path / f"s#{channel}_source_1.wav")[0] for channel in (1, 2))
    assert not np.allclose(first, second, atol=0.01)


def test_standard_input(call, wav, clean, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(wav.read_bytes())))
    code, out, _ = call("separate", "-", "-m", clean, "-o", tmp_path)
    assert (code, out) == (0, f"{tmp_path / 'stdin_speech.wav'}\n")


def test_nothing_is_overwritten_unasked(call, wav, clean, tmp_path):
    there = tmp_path / "speech_speech.wav"
    there.write_bytes(b"mine")
    code, out, err = call("separate", wav, "-m", clean, "-o", tmp_path)
    assert (code, out) == (2, "")
    assert "exists already" in one_line(err)
    assert there.read_bytes() == b"mine"
    assert call("separate", wav, "-m", clean, "-o", tmp_path, "--force")[0] == 0
    assert there.read_bytes() != b"mine"


def test_inputs_of_one_name_get_files_of_two(call, wav, clean, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "speech.wav").write_bytes(wav.read_bytes())
    out = tmp_path / "out"
    assert call("separate", wav, tmp_path / "b" / "speech.wav", "-m", clean, "-o", out)[0] == 0
    assert {path.name for path in out.iterdir()} == {"speech_speech.wav", "speech-2_speech.wav"}


def test_one_that_cannot_be_read_stops_nothing(call, wav, clean, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no")
    code, out, err = call("separate", tmp_path / "bad.wav", wav, "-m", clean, "-o", tmp_path / "out", "-q")
    assert code == 1
    assert "bad.wav" in one_line(err)
    assert out == f"{tmp_path / 'out' / 'speech_speech.wav'}\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["speech_speech.wav"]


def test_mistakes_are_one_line(call, wav, clean, tmp_path, tiny_model):
    (tmp_path / "file").touch()
    for arguments, said in (
        ([wav, "-m", "nope"], "no such separator file, nor a bundled separator"),
        ([wav, "-m", tiny_model], "expected 'separator': a network that separates sources"),
        ([tmp_path / "none.wav", "-m", clean], "no such file"),
        ([wav, "-m", clean, "-o", tmp_path / "file"], "is a file, expected a folder"),
        ([wav, "-m", clean, "--channel", "9", "-o", tmp_path / "x"], "channel 9 of 1"),
    ):
        code, out, err = call("separate", *arguments)
        assert (code, out) == (2, "")
        assert said in one_line(err)


def test_an_input_is_never_written(call, wav, clean, tmp_path):
    source = tmp_path / "a_speech.wav"
    source.write_bytes(wav.read_bytes())
    (tmp_path / "a.wav").write_bytes(wav.read_bytes())
    code, _, err = call("separate", tmp_path / "a.wav", source, "-m", clean, "-o", tmp_path, "--force")
    assert code == 2
    assert "is one of the inputs" in one_line(err)
    assert source.read_bytes() == wav.read_bytes()


def events_of(out):
    return [json.loads(line) for line in out.splitlines()]


def test_each_source_is_a_stream_of_its_own(call, wav, two):
    code, out, err = call("file", wav, f"--separate={two}", "--format", "jsonl", "--no-vad")
    assert (code, err) == (0, "")
    events = events_of(out)
    assert [e["file"] for e in events if e["type"] == "stream"] == [f"{wav}#1", f"{wav}#2"]
    alone = events_of(call("file", wav, "--format", "jsonl", "--no-vad")[1])
    times = [[(e["start"], e["end"]) for e in found if e["type"] == "prediction"] for found in (events, alone)]
    assert times[0] == times[1] * 2
    lengths = {e["samples"] for e in [*events, *alone] if "samples" in e}
    assert len(lengths) == 1


def test_a_separator_of_one_source_keeps_the_name(call, wav, clean):
    _, out, _ = call("file", "--separate", clean, wav, "--format", "jsonl", "--no-vad")
    assert [e["file"] for e in events_of(out) if e["type"] == "stream"] == [str(wav)]


def test_standard_input_is_kept_for_each_source(call, wav, two, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(wav.read_bytes())))
    code, out, _ = call("file", "-", "--separate", two, "--format", "jsonl", "--no-vad")
    assert code == 0
    assert [e["file"] for e in events_of(out) if e["type"] == "stream"] == ["-#1", "-#2"]


def test_pictures_of_the_sources(call, wav, two, tmp_path):
    pytest.importorskip("matplotlib")
    code, _, err = call("file", wav, "--separate", two, "--no-vad", "--plot", tmp_path / "p.png", "--format", "none")
    assert code == 0, err
    assert {path.name for path in tmp_path.glob("p*.png")} == {"p-speech#1.png", "p-speech#2.png"}
    first, second = ((tmp_path / f"p-speech#{n}.png").read_bytes() for n in (1, 2))
    assert first != second


def test_the_microphone_becomes_a_stream_for_each_source(call, microphone, two):
    code, out, err = call("listen", "--separate", two, "--format", "jsonl", "--no-vad", "--quiet")
    assert (code, err) == (0, "")
    events = events_of(out)
    assert {e["file"] for e in events if e["type"] == "stream"} == {"fake microphone#1", "fake microphone#2"}
    lengths = [e["samples"] for e in events if e["type"] == "summary"]
    assert lengths == [len(speech())] * 2
    heard = [[e["end"] for e in events if e["type"] == "prediction" and e["file"].endswith(n)] for n in "12"]
    assert heard[0] == heard[1] != []


def test_models_tells_of_separators(call, two):
    code, out, err = call("models", two)
    assert (code, err) == (0, "")
    for said in ("source_1, source_2", "16 ms at 16000 Hz"):
        assert said in out
    (told,) = json.loads(call("models", "--json", two)[1])
    assert (told["kind"], told["path"]) == ("separator", str(two))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--separate", "a.wav"], ["--separate=separator", "a.wav"]),
        (["a.wav", "--separate"], ["a.wav", "--separate=separator"]),
        (["--separate", "--no-vad", "a.wav"], ["--separate=separator", "--no-vad", "a.wav"]),
        (["--separate", "x.onnx", "a.wav"], ["--separate", "x.onnx", "a.wav"]),
        (["--separate=enhancer", "a.wav"], ["--separate=enhancer", "a.wav"]),
        (["--", "--separate", "a.wav"], ["--", "--separate", "a.wav"]),
    ],
)
def test_a_bare_option_takes_no_file(given, expected):
    assert separation._filled(given) == expected
    assert separation.DEFAULT == DEFAULT_SEPARATOR
