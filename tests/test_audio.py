from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import tracemalloc
import wave
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import stream_ser.audio
from stream_ser.audio import AudioFile, Resampler, read_blocks
from stream_ser.errors import AudioError
from stream_ser.wav import RawFormat

RATE = 16_000


def tone(seconds: float, rate: int = RATE, hz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE, **kwargs: Any) -> Path:
    with path.open("wb") as stream:
        soundfile.write(stream, samples, rate, format=path.suffix[1:].upper(), **kwargs)
    return path


def decode(source: Any, **kwargs: Any) -> tuple[np.ndarray, AudioFile]:
    with AudioFile(source, **kwargs) as audio:
        return np.concatenate(list(audio.blocks())), audio


def pipe_of(data: bytes) -> BinaryIO:
    """A stream that cannot seek and hands out odd amounts, like a real pipe."""

    class Pipe(io.RawIOBase):
        position = 0

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return False

        def readinto(self, buffer: Any) -> int:
            part = data[self.position : self.position + min(len(buffer), 1009)]
            buffer[: len(part)] = part
            self.position += len(part)
            return len(part)

    return Pipe()  # type: ignore[return-value]


def pcm16(samples: np.ndarray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def riff(data: bytes, *, data_size: int | None = None, riff_size: int | None = None, extra: bytes = b"") -> bytes:
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    size = len(data) if data_size is None else data_size
    body = b"WAVE" + fmt + extra + struct.pack("<4sI", b"data", size) + data
    return struct.pack("<4sI", b"RIFF", len(body) if riff_size is None else riff_size) + body


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
    top = np.full((100, 2), stream_ser.audio.LOUDEST, np.float32)
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
    monkeypatch.setattr("stream_ser.wav.HEADER_LIMIT_BYTES", 1 << 20)
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


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"hello world, this is text\n" * 100, "expected WAV, FLAC, OGG or MP3"),
        (np.random.default_rng(0).bytes(5000), "expected WAV, FLAC, OGG or MP3"),
        (riff(b"")[:30], "ends inside its header"),
        (riff(b"")[:40], "ends inside its header"),
        (riff(b"", riff_size=1000) + struct.pack("<4sI", b"LIST", 4) + b"abcd", "no samples"),
        (riff(b"", data_size=32_000), r"no samples \(truncated: header announces 1.00 s, 0.00 s could be read\)"),
        (riff(b"").replace(b"fmt ", b"fmx "), "without a format chunk"),
        (riff(b"\0\0").replace(struct.pack("<I", RATE), struct.pack("<I", 0)), "0 Hz"),
    ],
)
def test_broken_files_are_one_clear_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    for source in (path, io.BytesIO(content), pipe_of(content)):
        with pytest.raises(AudioError, match=message) as caught:
            decode(source)
        assert "\n" not in str(caught.value)
        assert source is not path or str(path) in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"nope\.wav: no such file"):
        AudioFile(tmp_path / "nope.wav")
    with pytest.raises(AudioError, match="a folder, expected one audio file"):
        AudioFile(tmp_path)
    with pytest.raises(AudioError, match="cannot be opened"):
        AudioFile("a\0b.wav")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", tone(0.1))

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so chmod would not do
    with pytest.raises(AudioError, match="no permission to read it"):
        AudioFile(path)


@pytest.mark.parametrize("suffix", ["raw", "RAW", "wav"])
def test_a_name_does_not_make_a_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(bytes(1_000))
    with pytest.raises(AudioError, match="no audio that can be decoded"):
        decode(path)


def test_a_header_that_points_before_the_file_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """An exception in libsndfile's callbacks is printed, not raised."""
    stream = io.BytesIO()
    soundfile.write(stream, tone(0.1), RATE, format="AIFF")
    data = bytearray(stream.getvalue())
    for value in (0x7FFFFFFF, 0x80000000, 0xFFFFFFF0):
        for at in range(4, 60, 2):
            damaged = data[:at] + struct.pack(">I", value) + data[at + 4 :]
            with contextlib.suppress(AudioError):
                decode(io.BytesIO(damaged))
    assert capfd.readouterr() == ("", "")


def test_a_disk_error_inside_libsndfile_is_no_truncation() -> None:
    stream = io.BytesIO()
    soundfile.write(stream, tone(2.0), RATE, format="FLAC")

    class Failing(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            if self.reads > 4:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(AudioError, match=r"cannot be read .*Input/output error"):
        decode(Failing(stream.getvalue()))


@pytest.mark.parametrize("piped", [False, True])
def test_a_header_with_absurd_numbers_takes_no_memory(piped: bool) -> None:
    """A thousand channels at 768 kHz, with 4 GiB of them announced: blocks stay small."""
    rate, channels = 768_000, 1_024
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, channels, rate, 0, 8 * channels, 64)
    for size in (2**31 - 8, 2**32 - 1, 0):
        data = b"RIFF" + struct.pack("<I", size) + b"WAVE" + fmt + struct.pack("<4sI", b"data", size) + bytes(10**6)
        tracemalloc.start()
        try:
            decode(pipe_of(data) if piped else io.BytesIO(data))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 100 * 1024**2
    fmt = fmt[:10] + struct.pack("<H", 1_025) + fmt[12:]
    data = b"RIFF" + bytes(4) + b"WAVE" + fmt + b"data" + bytes(1_000)
    with pytest.raises(AudioError, match="1025 channels at 768000 Hz, expected 1 to 1024"):
        decode(io.BytesIO(data))


@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "an infinite value"), (-np.inf, "an infinite")])
@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_not_finite_samples_are_named(tmp_path: Path, value: float, what: str, rate: int) -> None:
    samples = np.stack([tone(2.0, rate), tone(2.0, rate)], axis=1)
    samples[rate + 5, 1] = value
    path = write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    seconds = (rate + 5) / rate
    with pytest.raises(AudioError, match=rf"{what}.* at {seconds:.3f} s \(sample {rate + 5}\)"):
        decode(path)


def test_what_float32_cannot_hold_is_infinite(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"an infinite value at 0\.000 s"):
        decode(write(tmp_path / "a.wav", np.array([1e300, 0.0]), subtype="DOUBLE"))


def test_a_piped_format_that_needs_seeking_is_spooled_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(0).normal(0.0, 0.1, 100_000), RATE, format="FLAC")
    monkeypatch.setattr(stream_ser.audio, "SPOOL_LIMIT_BYTES", 1 << 16)
    with pytest.raises(AudioError, match="GiB piped in a format that cannot be streamed"):
        AudioFile(pipe_of(buffer.getvalue()))


def test_a_wav_that_python_writes_into_a_pipe() -> None:
    code = (
        "import sys, wave\n"
        "with wave.open(sys.stdout.buffer, 'wb') as out:\n"
        "    out.setparams((1, 2, 16000, 0, 'NONE', None))\n"
        "    out.writeframesraw(bytes(3200))\n"
        "    sys.stdout.buffer.flush()\n"
        "    import os; os._exit(0)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as sender:
        assert sender.stdout is not None
        assert len(decode(sender.stdout)[0]) == 1600


def test_a_stream_that_was_passed_in_stays_open() -> None:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as out:
        out.setparams((1, 2, RATE, 0, "NONE", "not compressed"))
        out.writeframes(bytes(3200))
    stream.seek(0)
    decode(stream)
    assert not stream.closed


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
