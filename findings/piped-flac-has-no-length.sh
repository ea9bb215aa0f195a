#!/bin/bash
# soundfile gives a FLAC or CAF file of unknown length a length of 2^63 - 1 frames, or refuses it.
#
# Version: soundfile 0.14.0 with libsndfile 1.2.2, librosa 0.11.0, from PyPI.
# Input: an encoder that writes to a pipe cannot go back to fill in the length. FLAC has a value for that, 0 samples in
#   STREAMINFO (RFC 9639, section 8.2), and so has CAF, -1 as the size of a last data chunk (Apple Core Audio Format
#   Specification 1.0, audio data chunk). `ffmpeg -i voice.wav -f flac - > voice.flac` writes such files. Here the field
#   is set in files that are otherwise untouched.
# Expected: both are read to their end, as ffmpeg does, and the length is given as unknown or counted.
# Seen: FLAC: info().frames is 9223372036854775807, librosa.get_duration says 18 million years, read() raises
#   ValueError (array too big) and so does librosa.load. Reading in parts raises at the end and loses the last part, as
#   soundfile seeks to the end after that read; a subclass that says it cannot seek reads all of it.
#   CAF: "Supported file format but file is malformed."
# For speech tools: never allocate or show progress by info().frames; read blocks of a fixed size without
#   seeking until one is empty.
set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv" &&
    "$work/venv/bin/pip" install -q --no-cache-dir soundfile==0.14.0 librosa==0.11.0 2>"$work/pip.log" ||
    { echo "could not install the packages" >&2; exit 2; }
cd "$work" || exit 2
HOME=$work NUMBA_CACHE_DIR=$work venv/bin/python -W ignore - <<'PY'
import sys

import librosa
import numpy as np
import soundfile

RATE = 16_000
voice = 0.3 * np.sin(2 * np.pi * 200 * np.arange(3 * RATE) / RATE)
soundfile.write("voice.flac", voice, RATE)
soundfile.write("voice.caf", voice, RATE)

flac = bytearray(open("voice.flac", "rb").read())
assert flac[:4] == b"fLaC" and flac[4] & 0x7F == 0  # STREAMINFO comes first
assert int.from_bytes(flac[21:26], "big") & (2**36 - 1) == len(voice)
flac[21] &= 0xF0  # the 36 bits of the total samples
flac[22:26] = bytes(4)
open("piped.flac", "wb").write(flac)

caf = bytearray(open("voice.caf", "rb").read())
size = caf.index(b"data") + 4
assert size + 8 + int.from_bytes(caf[size : size + 8], "big") == len(caf)  # the data chunk is the last one
caf[size : size + 8] = b"\xff" * 8
open("piped.caf", "wb").write(caf)


def seen(function) -> str:
    try:
        return str(function())
    except (ValueError, MemoryError, soundfile.LibsndfileError) as error:
        return type(error).__name__


def in_parts(kind: type) -> str:
    total = 0
    try:
        with kind("piped.flac") as file:
            while len(part := file.read(4096)):
                total += len(part)
    except soundfile.LibsndfileError:
        return f"LibsndfileError after {total} frames"
    return str(total)


class Sequential(soundfile.SoundFile):
    """Says that it cannot seek, so soundfile does not seek to its own position after each read."""

    def seekable(self) -> bool:
        return False


print(f"soundfile {soundfile.__version__}, {soundfile.__libsndfile_version__}; expected: 48000 frames, 3 s")
stands = True
for label, function, described in (
    ("FLAC, info().frames", lambda: soundfile.info("piped.flac").frames, str(2**63 - 1)),
    ("FLAC, read()", lambda: len(soundfile.read("piped.flac")[0]), "ValueError"),
    ("FLAC, librosa.get_duration, s", lambda: librosa.get_duration(path="piped.flac"), str((2**63 - 1) / RATE)),
    ("FLAC, librosa.load", lambda: len(librosa.load("piped.flac", sr=None)[0]), "ValueError"),
    ("FLAC, read(4096) until empty", lambda: in_parts(soundfile.SoundFile), "LibsndfileError after 45056 frames"),
    ("FLAC, the same without seeking", lambda: in_parts(Sequential), "48000"),
    ("CAF, read()", lambda: len(soundfile.read("piped.caf")[0]), "LibsndfileError"),
):
    answer = seen(function)
    stands &= answer == described
    print(f"  {label:30} {answer}" + ("" if answer == described else f"   CHANGED, described was {described}"))
sys.exit(0 if stands else 1)
PY
