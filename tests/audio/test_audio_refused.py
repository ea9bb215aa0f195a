"""What decoding refuses, and how it says so."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import RATE, decode, pipe_of, riff, tone, write

import stream_ser.audio
from stream_ser.audio.decode import AudioFile
from stream_ser.errors import AudioError


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
    monkeypatch.setattr(stream_ser.audio.decode, "SPOOL_LIMIT_BYTES", 1 << 16)
    with pytest.raises(AudioError, match="GiB piped in a format that cannot be streamed"):
        AudioFile(pipe_of(buffer.getvalue()))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_temporary_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was said that the pipe could not be read."""
    full = Path("/dev/full").open("r+b", buffering=0)  # noqa: SIM115 - closed by what is tested
    monkeypatch.setattr("stream_ser.audio.decode.tempfile.TemporaryFile", lambda: full)
    with pytest.raises(AudioError, match=r"the stream: .*does not fit into .* \(No space left.*ffmpeg"):
        AudioFile(pipe_of(b"OggS" + bytes(10_000)))
    assert full.closed


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
