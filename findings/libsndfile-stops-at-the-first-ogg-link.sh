#!/bin/bash
# libsndfile reads only the first link of a chained Ogg file and gives its length as the length of the file.
#
# Version: soundfile 0.14.0 with libsndfile 1.2.2, from PyPI.
# Input: two Ogg files, one after the other, with different serial numbers. That is a chained stream as RFC 3533,
#   section 4, defines it; internet radio and recorders that pause and go on write it. Both Vorbis and Opus.
# Expected: 1 s and 2 s give 3 s, as with ffmpeg, or an error that says that more follows.
# Seen: 1 s, from info() and from read(), without a warning. The rest of the recording is silently missing.
# For speech tools: an evaluation or a transcript of such a file covers a part only. Compare the place where decoding
#   ended with the size of the file, or count the begin-of-stream pages, and tell the user.
set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv" &&
    "$work/venv/bin/pip" install -q --no-cache-dir soundfile==0.14.0 2>"$work/pip.log" ||
    { echo "could not install the packages" >&2; exit 2; }
cd "$work" || exit 2
HOME=$work venv/bin/python - <<'PY'
import io
import shutil
import subprocess
import sys

import numpy as np
import soundfile

RATE = 16_000


def ogg(seconds: int, hertz: float, codec: str) -> bytes:
    file = io.BytesIO()
    tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(seconds * RATE) / RATE)
    soundfile.write(file, tone, RATE, format="OGG", subtype=codec)
    return file.getvalue()


def serials(data: bytes) -> list[str]:
    """Serial numbers of the pages that begin a logical stream."""
    begins, at = [], 0
    while at < len(data):
        assert data[at : at + 4] == b"OggS"
        if data[at + 5] & 2:
            begins.append(data[at + 14 : at + 18].hex())
        segments = data[at + 26]
        at += 27 + segments + sum(data[at + 27 : at + 27 + segments])
    return begins


print(f"soundfile {soundfile.__version__}, libsndfile {soundfile.__libsndfile_version__}; expected: {3 * RATE} frames")
stands = True
for codec in ("VORBIS", "OPUS"):
    chained = ogg(1, 200, codec) + ogg(2, 400, codec)
    assert len(set(serials(chained))) == 2
    with open("chained.ogg", "wb") as file:
        file.write(chained)
    info, (audio, _) = soundfile.info("chained.ogg"), soundfile.read("chained.ogg")
    print(f"  {codec}: info {info.frames}, read {len(audio)}", end="")
    stands &= info.frames == len(audio) == RATE
    if shutil.which("ffmpeg"):
        command = ["ffmpeg", "-v", "error", "-i", "chained.ogg", "-f", "s16le", "-ar", str(RATE), "-"]
        print(f"; ffmpeg reads {len(subprocess.run(command, capture_output=True).stdout) // 2}", end="")
    print()
print("the finding stands" if stands else "CHANGED")
sys.exit(0 if stands else 1)
PY
