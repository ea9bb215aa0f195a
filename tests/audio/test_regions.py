"""Gaps inside a WAV."""

import errno
import io
import itertools
import os
import struct
import wave

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_ser.audio.decode import read_blocks
from stream_ser.audio.wav_gaps import (
    MAX_REGIONS,
    RESERVED_BYTES,
    RESERVED_REGIONS,
    append_regions,
    read_regions,
    reserved,
)
from stream_ser.errors import OutputError
from stream_ser.events import Block
from stream_ser.sources import recorder as wav_recorder
from stream_ser.sources.file import FileSource
from stream_ser.sources.recorder import WavRecorder

HEAD = wav_recorder._HEAD_BYTES


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


def test_gaps_that_reach_behind_the_audio_are_cut_off(tmp_path):
    """A damaged file said that four billion samples were lost in two seconds."""
    stream = wav_bytes(32_000)
    append_regions(stream, [(100, 2**32 - 1), (2**32 - 1, 7)])
    path = tmp_path / "a.wav"
    path.write_bytes(stream.getvalue())
    with FileSource(path) as source:
        assert [block.gap for block in source if block.gap] == [32_000 - 100]


def test_more_gaps_than_a_recording_can_list():
    """They were written one by one to the end of the last list, which took minutes, and none of them was read."""
    stream = wav_bytes()
    regions = [(2 * number, 1) for number in range(MAX_REGIONS + 3)]
    append_regions(stream, regions)
    assert list(_found(stream)) == regions[:MAX_REGIONS]


def _found(stream):
    from stream_ser.audio import wav_gaps as regions

    stream.seek(12)
    return regions._ordered(stream)


# what a recording leaves on the disk


def test_nothing_of_a_recording_waits_in_a_buffer(tmp_path):
    """kill -9 loses what a buffer holds, and some file systems ask for one of a megabyte: half a minute."""
    path = tmp_path / "take.wav"
    with WavRecorder(path, 16_000) as recorder:
        for count in range(1, 4):
            recorder.write(Block(np.full(100, 0.25, np.float32), lost=20))
            assert path.stat().st_size == HEAD + 2 * 120 * count
            with FileSource(path) as source:
                assert sum(len(block.samples) for block in source) == 120 * count


@pytest.mark.parametrize("count", [1, RESERVED_REGIONS, RESERVED_REGIONS + 5])
def test_the_gaps_of_a_recording_survive_a_kill(count, tmp_path):
    """They were written at the end alone, and a program that is killed has none."""
    path = tmp_path / "take.wav"
    recorder = WavRecorder(path, 16_000)
    for number in range(count):
        recorder.write(Block(np.full(10, 0.25, np.float32), lost=2**20 if number == 0 else 7))
    expected = [(0, 2**20)] + [(2**20 + 10 + 17 * number, 7) for number in range(count - 1)]
    assert read_regions(path) == expected[:RESERVED_REGIONS]
    with FileSource(path) as source:
        samples = np.concatenate([block.samples for block in source])
    assert len(samples) == 2**20 + 10 + 17 * (count - 1)
    assert np.count_nonzero(samples) == 10 * count
    recorder.close()
    assert read_regions(path) == expected
    assert path.read_bytes().count(b"ltxt") == count
    assert len(reserved([(2**32 - 1, 2**32 - 1)] * 999)) == RESERVED_BYTES
    assert soundfile.info(path).frames == len(samples)


class Full:
    """A file on a disk that is full after so many bytes."""

    def __init__(self, stream, room):
        self._stream, self._room = stream, room

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, data):
        here = self._stream.tell()
        room = self._room - here
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._stream.write(data[:room])


@pytest.mark.parametrize("room", [HEAD, HEAD + 1, HEAD + 356, HEAD + 639, HEAD + 640])
def test_a_recording_on_a_full_disk_is_a_whole_wav(room, tmp_path):
    """wave complained from its destructor, and its header announced what was never written."""
    path = tmp_path / "take.wav"
    recorder = WavRecorder(path, 16_000)
    recorder._stream = Full(recorder._stream, room)
    if room == HEAD + 640:
        recorder.write(Block(np.full(320, 0.25, np.float32)))
    with pytest.raises(OutputError, match="No space left on device; free some space"):
        recorder.write(Block(np.full(320, 0.25, np.float32)))
    recorder.close()
    recorder.close()
    with wave.open(str(path)) as wav:
        assert wav.getnframes() == (room - HEAD) // 2
        assert wav.readframes(9_999) == b"\0\x20" * ((room - HEAD) // 2)


def test_a_recording_may_go_to_a_device():
    with WavRecorder(os.devnull, 16_000, force=True) as recorder:
        recorder.write(Block(np.zeros(320, np.float32), lost=100))


def test_a_recording_as_long_as_a_wav_can_be_is_completed(tmp_path, monkeypatch):
    """37 hours at 16 kHz: where the list of gaps came after the last possible sample, its size made struct fail."""
    assert wav_recorder._WAV_LIMIT_BYTES + HEAD + 92 * MAX_REGIONS < 2**32
    monkeypatch.setattr(wav_recorder, "_WAV_LIMIT_BYTES", 1_000)
    path = tmp_path / "take.wav"
    with WavRecorder(path, 16_000) as recorder:
        recorder.write(Block(np.zeros(320, np.float32), lost=100))
        with pytest.raises(OutputError, match="4 GiB"):
            recorder.write(Block(np.zeros(320, np.float32), lost=100))
    assert read_regions(path)[0] == (0, 100)
    with FileSource(path) as source:
        assert sum(len(block.samples) for block in source) <= 500
