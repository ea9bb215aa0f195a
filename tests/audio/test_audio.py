from __future__ import annotations

import io
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import RATE, decode, pcm16, pipe_of, riff, tone, write
from hypothesis import given, settings
from hypothesis import strategies as st

import stream_ser.audio
from stream_ser.audio.decode import AudioFile, read_blocks
from stream_ser.audio.resample import Resampler
from stream_ser.audio.wav import RawFormat
from stream_ser.errors import AudioError

# --- formats ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff"])
def test_every_16_bit_sample_is_k_over_32768(tmp_path: Path, suffix: str) -> None:
    every = np.arange(-32768, 32768).astype(np.int16)
    got, audio = decode(write(tmp_path / f"a.{suffix}", every, subtype="PCM_16"))
    np.testing.assert_array_equal(got, every.astype(np.float64) / 32768)
    assert got.dtype == np.float32
    assert audio.warning is None
    assert audio.duration_s == pytest.approx(65536 / RATE)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_wav_encodings_decode_as_libsndfile_does(tmp_path: Path, subtype: str) -> None:
    path = write(tmp_path / "a.wav", tone(0.3), subtype=subtype)
    expected = soundfile.read(path, dtype="float32")[0]
    np.testing.assert_array_equal(decode(path)[0], expected)
    np.testing.assert_array_equal(decode(pipe_of(path.read_bytes()))[0], expected)


@pytest.mark.parametrize(("suffix", "error"), [("flac", 1e-4), ("ogg", 0.05), ("mp3", 0.05)])
def test_compressed_formats_keep_length_and_waveform(tmp_path: Path, suffix: str, error: float) -> None:
    wave_in = tone(2.0)
    path = write(tmp_path / f"a.{suffix}", wave_in)
    got, audio = decode(path)
    assert audio.warning is None
    assert audio.duration_s == pytest.approx(2.0)
    assert abs(len(got) - len(wave_in)) <= 1152
    middle = slice(4000, 28000)
    assert np.sqrt(np.mean((got[middle] - wave_in[middle]) ** 2)) < error
    np.testing.assert_array_equal(decode(pipe_of(path.read_bytes()))[0], got)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_the_block_size_changes_nothing(tmp_path: Path, suffix: str) -> None:
    # soundfile's own block reads differ for MP3: it seeks after each, which drops the bit reservoir.
    noise = np.random.default_rng(0).normal(0.0, 0.1, 22_050).astype(np.float32)
    path = write(tmp_path / f"a.{suffix}", noise, 22_050)
    whole, _ = decode(path, block_samples=10**6)
    for size in (160, 1601):
        blocks, _ = decode(path, block_samples=size)
        np.testing.assert_allclose(blocks, whole, atol=1e-6 if suffix == "mp3" else 0.0, rtol=0.0)


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 44_100, 48_000, 192_000, 384_000])
def test_any_rate_becomes_16_khz(tmp_path: Path, rate: int) -> None:
    got, audio = decode(write(tmp_path / "a.wav", tone(0.5, rate), rate, subtype="FLOAT"))
    assert (audio.source_rate, audio.duration_s) == (rate, pytest.approx(0.5, abs=1 / rate))
    assert abs(len(got) - 8000) <= 1
    inner = slice(800, 7200)
    np.testing.assert_allclose(got[inner], tone(0.5)[inner], atol=2e-3)


def test_channels_are_averaged(tmp_path: Path) -> None:
    six = np.stack([tone(0.1, hz=100.0 * k, level=0.1 * k) for k in range(1, 7)], axis=1)
    got, audio = decode(write(tmp_path / "a.wav", six, subtype="FLOAT"))
    assert audio.channels == 6
    np.testing.assert_allclose(got, six.mean(axis=1), atol=1e-7)


def test_the_largest_samples_stay_finite_on_their_way(tmp_path: Path) -> None:
    top = np.full((100, 2), stream_ser.audio.decode.LOUDEST, np.float32)
    for rate in (RATE, 8_000):
        assert np.isfinite(decode(write(tmp_path / "a.wav", top, rate, subtype="FLOAT"))[0]).all()
    # Beyond, resampling and the power of a frame overflow.
    write(tmp_path / "b.wav", np.full((10, 2), np.finfo(np.float32).max, np.float32), subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a value of 3e\+38 at 0\.000 s \(sample 0\), expected finite samples"):
        decode(tmp_path / "b.wav")


def test_an_hour_takes_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "hour.wav"
    samples = 3600 * 8_000
    header = bytearray(riff(b"", data_size=2 * samples, riff_size=36 + 2 * samples))
    struct.pack_into("<II", header, 24, 8_000, 16_000)
    with path.open("wb") as stream:
        stream.write(header)
        stream.truncate(len(header) + 2 * samples)  # sparse: an hour of silence without the disk space
    tracemalloc.start()
    try:
        total = sum(len(block) for block in read_blocks(path, block_samples=RATE))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 3600 * RATE
    assert peak_bytes < 2_000_000


def test_headers_with_other_chunks_and_the_extensible_format(tmp_path: Path) -> None:
    data = pcm16(tone(0.1))
    odd_chunk = struct.pack("<4sI", b"LIST", 3) + b"abc\0"
    np.testing.assert_array_equal(decode(io.BytesIO(riff(data, extra=odd_chunk)))[0], decode(io.BytesIO(riff(data)))[0])
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(0.1), RATE, format="WAVEX", subtype="PCM_24")
    assert b"\xfe\xff" in path.read_bytes()[:24]
    np.testing.assert_array_equal(decode(pipe_of(path.read_bytes()))[0], soundfile.read(path, dtype="float32")[0])


def test_chunks_after_the_data_are_not_audio() -> None:
    tail = struct.pack("<4sI", b"LIST", 400) + b"\x55" * 400
    data = pcm16(tone(0.1))
    whole = riff(data, riff_size=36 + len(data) + len(tail)) + tail
    for source in (io.BytesIO(whole), pipe_of(whole)):
        assert len(decode(source)[0]) == len(data) // 2


class Vast(io.BytesIO):
    """A file that goes on with zeros up to a size that no test can hold."""

    def __init__(self, head: bytes, size: int) -> None:
        super().__init__(head)
        self.size = size

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.size if whence == os.SEEK_END else super().seek(offset, whence)


@pytest.mark.parametrize("size", [0x7FFF_F000, 0x8000_0000, 0xA000_0000, 0xFFFF_FF00])
def test_a_file_of_more_than_2_gib_ends_where_its_header_says(size: int) -> None:
    head = riff(b"", data_size=size, riff_size=min(36 + size + 408, 0xFFFF_FFFF))
    audio = AudioFile(Vast(head, len(head) + size + 408))
    assert audio.duration_s == size / 2 / RATE


def test_a_truncated_file_of_more_than_2_gib_is_noticed() -> None:
    data = pcm16(tone(0.5))
    got, audio = decode(io.BytesIO(riff(data, data_size=0xA000_0000, riff_size=0xA000_0024)))
    assert len(got) == 8000
    assert audio.warning is not None
    assert "truncated: header announces 83886.08 s" in audio.warning


def test_a_vast_chunk_before_the_samples_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_ser.audio.wav.HEADER_LIMIT_BYTES", 1 << 20)
    size = 8 << 20
    whole = riff(pcm16(tone(0.5)), extra=struct.pack("<4sI", b"JUNK", size) + bytes(size))
    file, pipe = io.BytesIO(whole), pipe_of(whole)
    tracemalloc.start()
    try:
        got, _ = decode(file)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(got) == 8000
    assert peak_bytes < 1 << 20
    with pytest.raises(AudioError, match="more than 1 MiB before the samples of a piped WAV"):
        decode(pipe)


def test_raw_samples_without_a_header() -> None:
    stereo = np.array([[100, 300], [-32768, -32768]], "<i2")
    got, audio = decode(pipe_of(stereo.tobytes()), raw=RawFormat(RATE, 2, "s16le"))
    np.testing.assert_array_equal(got, np.array([200, -32768]) / 32768)
    assert audio.duration_s is None
    with pytest.raises(AudioError, match="unknown encoding 'mp3'; expected one of u8, s16le"):
        RawFormat(encoding="mp3")


# --- pipes and truncation -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data_size", "riff_size"),
    [(0xFFFFFFFF, 0xFFFFFFFF), (0, 0), (0, 36), (0, 0xFFFFFFFF), (0x7FFFF000, 0x7FFFF024), (0x80000000, 0x80000024)],
)
def test_a_size_that_a_pipe_wrote_is_unknown_not_truncated(data_size: int, riff_size: int) -> None:
    data = pcm16(tone(0.5))
    written = riff(data, data_size=data_size, riff_size=riff_size)
    got, audio = decode(pipe_of(written))
    assert (len(got), audio.warning, audio.duration_s) == (8000, None, None)
    got, audio = decode(io.BytesIO(written))
    assert (len(got), audio.warning, audio.duration_s) == (8000, None, 0.5)


def test_wav_through_a_real_pipe_is_decoded_as_it_arrives() -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as stream, open(write_end, "wb", buffering=0) as sender:
        sender.write(riff(pcm16(tone(0.1)), data_size=0xFFFFFFFF))
        audio = AudioFile(stream, block_samples=1600)
        blocks = audio.blocks()
        assert len(next(blocks)) == 1600  # while the sender still has it open
        sender.write(pcm16(tone(0.05)) + b"\x01")  # and half a sample at the end
        sender.close()
        assert [len(block) for block in blocks] == [800]
    assert audio.warning is None


def test_truncated_wav_gives_what_is_there_and_a_warning(tmp_path: Path) -> None:
    whole = riff(pcm16(tone(3.0)))
    cut = whole[: 44 + 2 * 19_200]
    path = tmp_path / "a.wav"
    path.write_bytes(cut)
    for source, duration_s in ((path, 1.2), (pipe_of(cut), 3.0)):
        got, audio = decode(source)
        assert len(got) == 19_200
        assert audio.duration_s == duration_s
        assert audio.warning == "truncated: header announces 3.00 s, 1.20 s could be read"


def test_truncated_flac_gives_all_that_decodes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.1, 48_000).astype(np.float32)
    path = write(tmp_path / "a.flac", noise)
    whole, _ = decode(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 5])
    got, audio = decode(path)
    assert 14_000 < len(got) < 20_000
    np.testing.assert_array_equal(got, whole[: len(got)])
    assert audio.warning is not None
    assert "header announces 3.00 s, 1.0" in audio.warning


@pytest.mark.parametrize("suffix", ["mp3", "aiff", "au", "w64"])
def test_other_truncated_formats_warn(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", tone(3.0))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    got, audio = decode(path)
    assert 16_000 < len(got) < 32_000
    assert audio.warning is not None
    assert audio.warning.startswith("truncated: header announces")


@pytest.mark.parametrize(("subtype", "rate"), [("VORBIS", 44_100), ("OPUS", 48_000)])
def test_truncated_ogg_warns(tmp_path: Path, subtype: str, rate: int) -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.1, 3 * rate).astype(np.float32)
    path = write(tmp_path / "a.ogg", noise, rate, subtype=subtype)
    whole = path.read_bytes()
    got, audio = decode(io.BytesIO(whole + b"TAG" + bytes(125)))
    assert (audio.warning, len(got)) == (None, pytest.approx(48_000, abs=800))
    half = len(whole) // 2
    page = whole.rindex(b"OggS", 0, half)
    for end, message in (
        (half, "truncated: the last Ogg page is cut off"),
        (page + 20, "truncated: the last Ogg page is cut off"),
        (page, "perhaps truncated: the last Ogg page does not say that it is the last"),
        (page + 3, "perhaps truncated: the last Ogg page does not say that it is the last"),
    ):
        for source in (io.BytesIO(whole[:end]), pipe_of(whole[:end])):
            got, audio = decode(source)
            assert 8_000 < len(got) < 40_000
            assert audio.warning == f"{message}, {len(got) / RATE:.2f} s could be read"


def mp3_without_length(seconds: float, bitrate_mode: str, level: float, rate: int = 44_100) -> bytes:
    """MP3 frames without the one in front that counts them."""
    noise = np.random.default_rng(0).normal(0.0, 0.1, round(seconds * rate)).astype(np.float32)
    buffer = io.BytesIO()
    soundfile.write(buffer, noise, rate, format="MP3", bitrate_mode=bitrate_mode, compression_level=level)
    data = buffer.getvalue()
    kbps = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[data[2] >> 4]
    assert data[:2] == b"\xff\xfb"
    return data[144_000 * kbps // rate + (data[2] >> 1 & 1) :]


def test_mp3_without_a_stated_length_is_read_to_its_end() -> None:
    # libsndfile reads as much as the first frame's bit rate suggests: too little, or with a false alarm.
    low, high = mp3_without_length(2.0, "CONSTANT", 0.9), mp3_without_length(2.0, "CONSTANT", 0.1)
    assert len(high) > 3 * len(low)
    one = len(decode(io.BytesIO(low))[0])
    assert one == pytest.approx(2.0 * RATE, abs=2000)
    id3 = b"ID3\3\0\0\0\0\2\0" + b"Xing" * 64
    for data in (high + low, low + high, id3 + low + high, high + low + b"TAG" + bytes(125)):
        for source in (io.BytesIO(data), pipe_of(data)):
            got, audio = decode(source)
            assert (len(got), audio.warning, audio.duration_s) == (pytest.approx(2 * one, abs=1), None, None)
    got, audio = decode(io.BytesIO(mp3_without_length(2.0, "VARIABLE", 0.5)))
    assert (len(got), audio.warning) == (pytest.approx(one, abs=1), None)


def test_truncated_mp3_without_a_stated_length_is_no_failure() -> None:
    # Nobody knows how long it was; the decoder may or may not take what is left of the last frame.
    for mode in ("CONSTANT", "VARIABLE"):
        data = mp3_without_length(3.0, mode, 0.5)
        for end in range(len(data) // 2, len(data) // 2 + 200, 20):
            got, audio = decode(io.BytesIO(data[:end]))
            assert 20_000 < len(got) < 25_000
            assert audio.warning in (None, f"truncated: {len(got) / RATE:.2f} s could be read")


def test_damage_in_an_mp3_without_a_stated_length_is_a_warning() -> None:
    data = bytearray(mp3_without_length(3.0, "CONSTANT", 0.5))
    for start in range(len(data) // 2, len(data) // 2 + 200, 20):
        damaged = data[:start] + np.random.default_rng(start).bytes(3000) + data[start + 3000 :]
        got, audio = decode(io.BytesIO(damaged))
        assert audio.warning is not None or len(got) > 44_000
        assert len(got) > 20_000


def test_damage_in_the_middle_is_a_warning_not_a_crash(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.1, 48_000).astype(np.float32)
    path = write(tmp_path / "a.flac", noise)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(1).bytes(3000)
    path.write_bytes(data)
    got, audio = decode(path)
    assert 16_000 < len(got) < 32_000
    assert audio.warning is not None


# --- the resampler ------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    rate=st.sampled_from([4_000, 8_000, 12_345, 44_100, 48_000, 96_000]),
    length=st.integers(0, 6_000),
    sizes=st.lists(st.integers(1, 2_000), max_size=8),
)
def test_any_split_resamples_to_the_same(rate: int, length: int, sizes: list[int]) -> None:
    wave_in = np.random.default_rng(length).normal(0.0, 0.1, length).astype(np.float32)
    resampler = Resampler(rate)
    whole = np.concatenate([resampler.push(wave_in), resampler.flush()])
    cuts = np.minimum(np.cumsum([0, *sizes]), length)
    pieces = [resampler.push(wave_in[a:b]) for a, b in zip([*cuts], [*cuts[1:], length], strict=True)]
    np.testing.assert_array_equal(np.concatenate([*pieces, resampler.flush()]), whole)
    assert abs(len(whole) - length * RATE / rate) < 1.0


def test_equal_rates_pass_through_and_reset_forgets() -> None:
    same = Resampler(RATE)
    block = tone(0.1)
    assert same.push(block) is block
    assert len(same.flush()) == 0
    resampler = Resampler(48_000)
    resampler.push(np.ones(4_800, np.float32))
    resampler.reset()
    assert not np.concatenate([resampler.push(np.zeros(4_800, np.float32)), resampler.flush()]).any()
    with pytest.raises(ValueError, match="must be positive"):
        Resampler(0)
