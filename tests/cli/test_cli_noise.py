"""What native libraries print about a damaged file is no concern of the user's screen."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from generate import voice


@pytest.mark.skipif(sys.platform != "linux", reason="libsndfile's decoders print elsewhere, or nowhere")
def test_the_mp3_decoder_does_not_talk_to_the_screen(tmp_path: Path, tiny_model: Path) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, voice(6.0), 16_000, format="MP3")
    data = bytearray(stream.getvalue())
    middle = len(data) // 2
    data[middle : middle + 3_000] = bytes(3_000)
    path = tmp_path / "damaged.mp3"
    path.write_bytes(data)
    log = tmp_path / "log.txt"
    command = [sys.executable, "-m", "stream_ser", "file", str(path), "--model", str(tiny_model), "--provider", "cpu"]
    done = subprocess.run(
        [*command, "--format", "csv", "--log-file", str(log)], capture_output=True, text=True, timeout=120, check=False
    )
    # The decoder talks, or this tries nothing.
    assert "Note: " in log.read_text()
    assert done.returncode in (0, 1)
    assert len(done.stdout.splitlines()) > 1
    assert all(line.startswith("stream-ser: ") for line in done.stderr.splitlines()), done.stderr
