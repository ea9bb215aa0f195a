"""What ``stream-ser file`` reads besides plain files: patterns, raw samples, single channels."""

import csv
import io
import json
import sys

import numpy as np
import pytest
import soundfile
from cli_fakes import call, fake_engine, noise, one_line, speech, wav  # noqa: F401 - fixtures

from stream_ser.audio.wav import RawFormat
from stream_ser.cli.commands.file import expand
from stream_ser.errors import AudioError

LOUD, SOFT = noise(3, 0.3), noise(3, 0.003)


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """a.wav, sub/b.flac, sub/deep/c.wav, sub/notes.txt, odd[1].wav; the working folder is above."""
    root = tmp_path / "calls"
    (root / "sub" / "deep").mkdir(parents=True)
    for name in ("a.wav", "sub/b.flac", "sub/deep/c.wav", "odd[1].wav"):
        soundfile.write(root / name, noise(1), 16_000)
    (root / "sub" / "notes.txt").write_text("no audio")
    monkeypatch.chdir(tmp_path)
    return root


def names(*paths):
    return [name.replace("\\", "/") for name in expand(paths)]


# patterns


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("calls/**/*.wav", ["calls/a.wav", "calls/odd[1].wav", "calls/sub/deep/c.wav"]),
        ("calls/*", ["calls/a.wav", "calls/odd[1].wav", "calls/sub/b.flac", "calls/sub/deep/c.wav"]),
        ("calls/sub/*", ["calls/sub/b.flac", "calls/sub/deep/c.wav"]),
        ("calls/sub/*.txt", ["calls/sub/notes.txt"]),
        ("calls/**", ["calls/a.wav", "calls/odd[1].wav", "calls/sub/b.flac", "calls/sub/deep/c.wav"]),
        ("calls/[ab].wav", ["calls/a.wav"]),
        ("calls/odd[1].wav", ["calls/odd[1].wav"]),
    ],
)
def test_patterns_are_understood_without_a_shell(pattern, found, calls):
    assert names(pattern) == found


def test_nothing_that_a_pattern_matches_comes_twice(calls):
    assert names("calls/a.wav", "calls/*.wav", "calls") == names("calls/a.wav", "calls")


def test_a_pattern_without_a_match_is_one_line(calls, call):
    code, _, err = call("file", "calls/*.mp3")
    assert code == 2
    assert "no audio file matches" in one_line(err)
    with pytest.raises(AudioError, match="no audio"):
        expand(["calls/sub/deep/*.txt"])


# raw samples


@pytest.mark.parametrize(
    ("encoding", "subtype"),
    [
        *(("s16le", "PCM_16"), ("s24le", "PCM_24"), ("s32le", "PCM_32"), ("f32le", "FLOAT"), ("f64le", "DOUBLE")),
        *(("u8", "PCM_U8"), ("mulaw", "ULAW"), ("alaw", "ALAW")),
    ],
)
def test_raw_samples_say_what_the_same_file_says(encoding, subtype, tmp_path, call, monkeypatch):
    path, headerless = tmp_path / "a.au" if "LAW" in subtype else tmp_path / "a.wav", tmp_path / "a.raw"
    stereo = np.stack([LOUD, LOUD], axis=1)
    soundfile.write(path, stereo, 16_000, subtype=subtype)
    soundfile.write(headerless, stereo, 16_000, subtype=subtype, format="RAW", endian="LITTLE")
    options = ("--format", "csv", "--no-vad")
    expected = call("file", path, *options)[1].replace(str(path), "-")
    code, out, err = call("file", headerless, "--raw", f"{encoding},16000,2", *options)
    assert (code, out.replace(str(headerless), "-"), err) == (0, expected, "")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(headerless.read_bytes())))
    assert call("file", "-", "--raw", f"{encoding},16000,2", *options)[1] == expected


@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
def test_telephone_bytes_are_decoded_exactly(encoding):
    codes = bytes(range(256))
    subtype = {"mulaw": "ULAW", "alaw": "ALAW"}[encoding]
    raw = {"samplerate": 8_000, "channels": 1, "subtype": subtype, "format": "RAW"}
    expected, _ = soundfile.read(io.BytesIO(codes), dtype="float32", **raw)
    assert np.array_equal(RawFormat(8_000, 1, encoding).decode(codes)[:, 0], expected)


def test_rate_and_channels_of_raw_samples_may_be_left_out(tmp_path, call):
    path = tmp_path / "a.raw"
    path.write_bytes((LOUD * 32_768).astype("<i2").tobytes())
    full = call("file", path, "--raw", "s16le,16000,1", "--format", "csv")
    assert call("file", path, "--raw", "s16le", "--format", "csv") == full
    assert full[0] == 0


@pytest.mark.parametrize(
    "raw", ["s16be", "s16le,0", "s16le,16000,0", "s16le,16000,2,3", "s16le,high", "", "s16le,16000.5"]
)
def test_senseless_raw_formats_are_one_line(raw, wav, call):
    code, out, err = call("file", wav, "--raw", raw)
    assert (code, out) == (2, "")
    assert "--raw" in one_line(err)


def test_raw_samples_do_not_come_in_folders(calls, call):
    code, _, err = call("file", calls, "--raw", "s16le")
    assert code == 2
    assert "not folders" in one_line(err)


# channels


@pytest.fixture
def stereo(tmp_path):
    """Left is loud (anger), right is soft (sad)."""
    path = tmp_path / "call.wav"
    soundfile.write(path, np.stack([LOUD, SOFT], axis=1), 16_000)
    return path


def labels(out):
    lines = map(json.loads, out.splitlines())
    return {line["file"]: line["label"] for line in lines if line["type"] == "summary"}


def test_each_channel_is_a_stream_of_its_own(stereo, call, monkeypatch):
    options = ("--channel", "each", "--no-vad", "--format", "jsonl")
    code, out, err = call("file", stereo, *options)
    assert (code, err) == (0, "")
    assert labels(out) == {f"{stereo}#1": "anger", f"{stereo}#2": "sad"}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stereo.read_bytes())))
    assert call("file", "-", *options)[1] == out.replace(str(stereo), "-")


def test_one_channel_is_that_channel_alone(stereo, tmp_path, call):
    mono = tmp_path / "mono.wav"
    soundfile.write(mono, SOFT, 16_000)
    options = ("--no-vad", "--format", "csv")
    expected = call("file", mono, *options)[1].replace(str(mono), str(stereo))
    assert call("file", stereo, "--channel", "2", *options)[1] == expected
    rows = list(csv.DictReader(io.StringIO(call("file", stereo, *options)[1])))
    assert rows == list(csv.DictReader(io.StringIO(call("file", stereo, "--channel", "mix", *options)[1])))


def test_raw_samples_have_channels_too(stereo, tmp_path, call):
    path = tmp_path / "a.raw"
    path.write_bytes((np.stack([LOUD, SOFT], axis=1) * 32_767).astype("<i2").tobytes())
    out = call("file", path, "--raw", "s16le,16000,2", "--channel", "each", "--no-vad", "--format", "jsonl")[1]
    assert list(labels(out).values()) == ["anger", "sad"]


def test_a_channel_that_is_not_there_is_named(stereo, wav, call):
    code, _, err = call("file", stereo, "--channel", "3")
    assert code == 2
    assert "channel 3 of 2, expected 1 to 2" in one_line(err)
    code, out, err = call("file", stereo, wav, "--channel", "2", "--format", "csv", "--no-vad")
    assert code == 1
    assert f"{wav}: channel 2 of 1" in one_line(err)
    assert str(stereo) in out


@pytest.mark.parametrize("channel", ["0", "-1", "left", "1.5", "²", ""])
def test_senseless_channels_are_one_line(channel, wav, call):
    code, _, err = call("file", wav, f"--channel={channel}")
    assert code == 2
    assert "expected mix, each or a number from 1" in one_line(err)


def test_each_channel_of_a_bad_file_among_others_is_reported_once(stereo, tmp_path, call):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"junk" * 50)
    code, out, err = call("file", bad, stereo, "--channel", "each", "--no-vad", "--format", "jsonl")
    assert code == 1
    assert "bad.wav" in one_line(err)
    assert len(labels(out)) == 2


def test_speech_in_one_channel_is_found_there(tmp_path, call):
    path = tmp_path / "call.wav"
    soundfile.write(path, np.stack([speech(), np.zeros_like(speech())], axis=1), 16_000)
    out = call("file", path, "--channel", "each", "--format", "jsonl")[1]
    assert labels(out)[f"{path}#2"] == "silence"
    assert labels(out)[f"{path}#1"] != "silence"
