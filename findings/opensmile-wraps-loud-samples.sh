#!/bin/bash
# openSMILE's Python package wraps samples beyond full scale to the opposite sign instead of clipping them.
#
# Version: opensmile 2.6.0, soundfile 0.14.0, from PyPI.
# Expected: a decoded clip that exceeds full scale by 3 % gives the features of the clipped clip, as it would when
#   saved as 16-bit PCM.
# Seen: process_signal multiplies by 32768 and casts to int16, so 1.03 becomes -0.97. With 35 of 16000 samples beyond
#   full scale the shimmer is six times as large and the spectral flux 1.7 times. process_file does the same with a
#   float WAV. No warning, no error.
# For speech tools: lossy codecs overshoot. A recording that peaks at 0.999 comes out of Vorbis beyond 1, so functionals
#   of decoded loud speech are wrong, and loudness is a cue of emotion. Clip to [-1, 1) first.
set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv" &&
    "$work/venv/bin/pip" install -q --no-cache-dir opensmile==2.6.0 soundfile==0.14.0 2>"$work/pip.log" ||
    { echo "could not install the packages" >&2; exit 2; }
cd "$work" || exit 2
HOME=$work venv/bin/python - <<'PY'
import sys

import numpy as np
import opensmile
import soundfile

RATE = 16_000
t = np.arange(RATE) / RATE
rng = np.random.default_rng(0)
voice = sum(np.sin(2 * np.pi * 120 * k * t + rng.uniform(0, 6)) / k for k in range(1, 30))
voice *= 0.999 / np.abs(voice).max()
soundfile.write("voice.ogg", voice, RATE, format="OGG", subtype="VORBIS")
decoded, _ = soundfile.read("voice.ogg", dtype="float32")
soundfile.write("voice.wav", decoded, RATE, subtype="FLOAT")

smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
clipped = smile.process_signal(np.clip(decoded, -1, 32767 / 32768), RATE).iloc[0]
wrapped = smile.process_signal(decoded, RATE).iloc[0]
from_file = smile.process_file("voice.wav").iloc[0]
by_hand = smile.process_signal(((decoded + 1) % 2 - 1).astype(np.float32), RATE).iloc[0]

beyond = np.abs(decoded) >= 1
before, after = np.abs(voice).max(), np.abs(decoded).max()
print(f"opensmile {opensmile.__version__}; peak before Vorbis {before:.3f}, after {after:.3f}")
print(f"{beyond.sum()} of {len(decoded)} samples beyond full scale")
print("expected: decoded as clipped; seen:")
for name in ("loudness_sma3_amean", "shimmerLocaldB_sma3nz_amean", "spectralFlux_sma3_amean", "HNRdBACF_sma3nz_amean"):
    print(f"  {name:30} clipped {clipped[name]:7.3f}  decoded {wrapped[name]:7.3f}  float WAV {from_file[name]:7.3f}"
          f"  wrapped by hand {by_hand[name]:7.3f}")
name = "shimmerLocaldB_sma3nz_amean"
stands = (
    beyond.any()
    and wrapped[name] > 2 * clipped[name]
    and np.isclose(wrapped[name], by_hand[name], rtol=0.01)
    and np.isclose(from_file[name], wrapped[name], rtol=0.01)
)
print("the finding stands" if stands else "CHANGED")
sys.exit(0 if stands else 1)
PY
