"""Generated voices for tests, without torch or data: ``generate.py voice FILE``, ``generate.py crema-d FOLDER``."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
#: Two training and two validation actors of the fixed list, then one more for training.
ACTORS = ("1001", "1002", "1009", "1011", "1003")
SENTENCES = ("DFA", "IEO")
#: First three formants of ah, ee, oo, eh and aw, Hz (Peterson and Barney 1952, men).
VOWELS_HZ = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))
#: emotion: (pitch in Hz, syllables a second, level); far enough apart for a small network.
MANNERS = {
    "ANG": (260.0, 6.0, 0.50),
    "DIS": (110.0, 2.5, 0.20),
    "FEA": (330.0, 8.0, 0.15),
    "HAP": (210.0, 5.0, 0.35),
    "NEU": (140.0, 4.0, 0.20),
    "SAD": (90.0, 1.5, 0.08),
}


def voice(
    seconds: float, seed: int = 0, *, pitch_hz: float = 150.0, syllables_hz: float = 4.0, level: float = 0.3
) -> NDArray[np.float32]:
    """Like enough to speech for voice activity detection: vowels on a wandering pitch, with hisses between them.

    Args:
        seconds: length, 16 kHz.
        seed: the same arguments give the same samples.
        pitch_hz: mean fundamental frequency.
        syllables_hz: rate of the envelope.
        level: peak, full scale is 1.

    Returns:
        ``(samples,)``.
    """
    return _voice(seconds, seed, pitch_hz, syllables_hz, level).copy()


# Many tests ask for the same voice, which takes longer to generate than to recognise.
@functools.lru_cache(maxsize=32)
def _voice(seconds: float, seed: int, pitch_hz: float, syllables_hz: float, level: float) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    samples = round(seconds * RATE_HZ)
    time_s = np.arange(samples) / RATE_HZ
    wander = np.sin(2 * np.pi * (0.7 * time_s + rng.random())) + 0.5 * np.sin(2 * np.pi * (1.9 * time_s + rng.random()))
    f0_hz = pitch_hz * rng.uniform(0.95, 1.05) * (1 + 0.08 * wander)
    phase = 2 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    beat = syllables_hz * time_s + rng.random()
    syllables = round(syllables_hz * seconds) + 3
    # Formants glide through two vowels a syllable, and each begins with a hiss.
    vowels = np.array(VOWELS_HZ)[rng.integers(0, len(VOWELS_HZ), 2 * syllables)]
    tone = np.zeros(samples)
    formants_hz = [np.interp(2 * beat, np.arange(2 * syllables), vowel) for vowel in vowels.T]
    for harmonic in range(1, int(4_000.0 / (1.3 * pitch_hz)) + 1):
        wave = np.sin(harmonic * phase)
        for formant_hz, width_hz, gain in zip(formants_hz, (80.0, 100.0, 150.0), (1.0, 0.6, 0.35), strict=True):
            resonance = gain / (1.0 + ((harmonic * f0_hz - formant_hz) / width_hz) ** 2)
            tone += resonance * wave / np.sqrt(harmonic)
    noise = rng.standard_normal(samples)
    swing = np.sin(2 * np.pi * beat)
    hiss = np.diff(noise, prepend=0.0) * np.clip(-swing - 0.3, 0.0, None)
    sound = (tone + 0.05 * noise) * np.clip(0.3 + swing, 0.0, None) + 0.1 * hiss + 0.003 * noise
    return (level * sound / max(float(np.abs(sound).max(initial=0.0)), 1e-9)).astype(np.float32)


def write_wav(path: Path, samples: NDArray[np.float32], rate_hz: int = RATE_HZ) -> Path:
    """Write 16-bit PCM."""
    import soundfile

    soundfile.write(path, samples, rate_hz, subtype="PCM_16")
    return path


def write_crema_d(
    folder: Path, actors: Iterable[str] = ACTORS, sentences: Iterable[str] = SENTENCES, seconds: float = 1.2
) -> Path:
    """Write a corpus in CREMA-D's layout, in which each emotion has a pitch, a pace and a loudness of its own."""
    audio = folder / "AudioWAV"
    audio.mkdir(parents=True)
    sentences = tuple(sentences)
    for actor in actors:
        for number, sentence in enumerate(sentences):
            for emotion, (pitch_hz, syllables_hz, level) in MANNERS.items():
                seed = 100 * int(actor) + number
                clip = voice(seconds, seed, pitch_hz=pitch_hz, syllables_hz=syllables_hz, level=level)
                write_wav(audio / f"{actor}_{sentence}_{emotion}_XX.wav", clip)
    return folder


if __name__ == "__main__":
    what, where = sys.argv[1:]
    if what == "voice":
        write_wav(Path(where), voice(6.0))
    elif what == "crema-d":
        write_crema_d(Path(where))
    else:
        sys.exit(f"{what}: expected voice or crema-d")
