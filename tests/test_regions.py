"""Gaps inside a WAV."""

import io
import itertools
import struct
import wave

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_ser.audio import read_blocks
from stream_ser.events import Block
from stream_ser.regions import append_regions, read_regions
from stream_ser.sources import FileSource, WavRecorder


def wav_bytes(samples=1_000):
    stream = io.BytesIO()
    with wave.open(stream, "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        out.writeframes(b"\1\0" * samples)
    return stream


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.tuples(st.integers(0, 2**25), st.integers(1, 2**25)), max_size=20))
def test_what_is_written_is_read(tmp_path, parts):
    regions, end = [], 0
    for between, length in parts:
        regions.append((end + between, length))
        end += between + length
    stream = wav_bytes()
    append_regions(stream, regions)
    path = tmp_path / "a.wav"
    path.write_bytes(stream.getvalue())
    assert read_regions(path) == regions
    assert sum(map(len, read_blocks(path))) == soundfile.info(path).frames == 1_000
    assert struct.unpack("<I", path.read_bytes()[4:8])[0] == path.stat().st_size - 8


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(2_000, 2_200), junk=st.binary(min_size=1, max_size=8))
def test_damaged_regions_are_none_or_in_order(tmp_path, place, junk):
    stream = wav_bytes()
    append_regions(stream, [(10, 5), (100, 7), (500, 1)])
    data = bytearray(stream.getvalue())
    data[place : place + len(junk)] = junk
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    found = read_regions(path)
    assert all(a + n <= b for (a, n), (b, _) in itertools.pairwise(found))
    assert all(length > 0 for _, length in found)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"OggS" + bytes(60), b"RIFF\0\0\0\0WAVEcue \xff\xff\xff\x7f"])
def test_other_files_have_none(tmp_path, content):
    path = tmp_path / "a"
    path.write_bytes(content)
    assert read_regions(path) == []
    assert read_regions(tmp_path / "none") == []


def test_a_recording_gives_its_gaps_back(tmp_path):
    path = tmp_path / "take.wav"
    with WavRecorder(path, 48_000) as recorder:
        recorder.write(Block(np.full(48_000, 0.1, np.float32)))
        recorder.write(Block(np.full(960, 0.1, np.float32), lost=4_800))
        recorder.write(Block(np.full(0, 0.1, np.float32), lost=3))
    with FileSource(path) as source:
        blocks = list(source)
    starts = np.cumsum([0, *(len(block.samples) for block in blocks)])
    assert [(start, b.gap) for start, b in zip(starts, blocks, strict=False) if b.gap] == [(16_000, 1_600), (17_920, 1)]
