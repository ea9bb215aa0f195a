"""Makes ``stream_ser/assets/demo.flac``: synthetic voices (espeak-ng) in five manners of speaking.

The bundled clip must be free of other people's recordings. Voices, pitches and levels were chosen so that the bundled
network hears different emotions and the view has something to show; the clip says nothing about how well it does.
Run with ``python tests/make_demo_clip.py``.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

SAMPLE_RATE_HZ = 16_000
PAUSE_S = 1.5
#: voice, pitch (0-99), words a minute, level in dBFS (RMS), text
MANNERS = (
    ("en-us+m7", 70, 160, -40.0, "The parcel will be here on Thursday, between nine and ten."),
    ("en-us+f3", 70, 170, -24.0, "No! I have told you three times already, stop doing that!"),
    ("en-us+f4", 5, 100, -40.0, "I do not know. Nobody came, and it has been so long."),
    ("en-us+m7", 99, 110, -32.0, "We won! Can you believe it? This is the best day of the year!"),
    ("en-us+f3", 70, 160, -24.0, "Wait, what was that noise? Somebody is out there, be quiet!"),
)


def speak(voice: str, pitch: int, speed: int, level_dbfs: float, text: str) -> np.ndarray:
    """One utterance, float32 at 16 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = ["espeak-ng", "-v", voice, "-p", str(pitch), "-s", str(speed), "-w", str(path), text]
        subprocess.run(command, check=True)
        samples, rate = soundfile.read(path, dtype="float32")
    samples = soxr.resample(samples, rate, SAMPLE_RATE_HZ)
    return samples * np.float32(10.0 ** (level_dbfs / 20.0) / np.sqrt(np.mean(np.square(samples))))


def main() -> None:
    """Write the clip."""
    rng = np.random.default_rng(0)
    pause = np.zeros(int(PAUSE_S * SAMPLE_RATE_HZ), dtype=np.float32)
    clip = np.concatenate([part for manner in MANNERS for part in (pause, speak(*manner))] + [pause])
    # A room is never digitally silent.
    clip = clip + rng.standard_normal(clip.size).astype(np.float32) * np.float32(10.0 ** (-72.0 / 20.0))
    out = Path(__file__).parents[1] / "stream_ser" / "assets" / "demo.flac"
    soundfile.write(out, np.clip(clip, -1.0, 1.0), SAMPLE_RATE_HZ, subtype="PCM_16")
    print(f"{out}: {clip.size / SAMPLE_RATE_HZ:.1f} s")


if __name__ == "__main__":
    main()
