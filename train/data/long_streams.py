"""Long streams with a known timeline, made of a corpus' clips: one speaker, many emotions, pauses, noise. No torch.

A stream holds all clips of one speaker in a drawn order, with a drawn pause before each and one at the end, under noise
of one level. The noise's level is set against the mean power of the stream's speech, so that soft clips have less of a
margin than loud ones, as in a room.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream_ser.audio.decode import read_blocks
from stream_ser.errors import AudioError, DataError

from .corpora import Clip, audio_files
from .pcm16 import Wave, coloured_noise

#: Names of generated noise, and the exponents of their spectra ``1 / f**exponent``.
COLOURS = {"white": 0.0, "pink": 1.0}
#: Generated noise of this length repeats; it is periodic, so no seam is heard.
NOISE_PERIOD_S = 60
#: Of a folder of recordings so much is kept.
LONGEST_NOISE_S = 600
#: Speech reaches from the first to the last frame that is at most so much softer than the loudest one, dB, ...
SPEECH_RANGE_DB = 30.0
#: ... and so far above the clip's quiet, as a share of what lies between the two levels in dB. The quiet is the level
#: under which a tenth of the frames is.
SPEECH_RISE, QUIET_SHARE = 0.25, 0.1
#: Length and hop of those frames, seconds.
SPEECH_FRAME_S, SPEECH_HOP_S = 0.032, 0.01


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """How streams are made.

    Attributes:
        pause_s: shortest and longest pause between two clips, drawn evenly; what is quiet at the clips' ends comes on
            top.
        snr_db: mean power of the stream's speech over that of the noise; infinite for no noise.
        noise: ``white``, ``pink``, or a folder of recordings.
        seed: of the order, the pauses and the noise.
    """

    pause_s: tuple[float, float] = (0.5, 3.0)
    snr_db: float = 30.0
    noise: str = "pink"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.pause_s[0] <= self.pause_s[1] < float("inf"):
            shortest, longest = self.pause_s
            raise DataError(f"pauses are {shortest:g} to {longest:g} s, expected 0 or more and in this order")
        if np.isnan(self.snr_db) or self.snr_db == -np.inf:
            raise DataError(f"SNR is {self.snr_db} dB, expected a number, or inf for no noise")

    def describe(self) -> str:
        """In words, for protocols."""
        noise = "no noise" if np.isinf(self.snr_db) else f"{self.noise} noise at {self.snr_db:g} dB"
        shortest, longest = self.pause_s
        return f"pauses of {shortest:g} to {longest:g} s, {noise}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Placed:
    """A clip in a stream; positions in samples of the stream.

    Attributes:
        clip: which one.
        start: its first sample.
        end: one past its last.
        onset: where its speech begins.
        offset: one past where its speech ends.
    """

    clip: Clip
    start: int
    end: int
    onset: int
    offset: int


@dataclass(frozen=True)
class Stream:
    """A stream with its timeline.

    Attributes:
        speaker: of all its clips.
        samples: ``(time,)``.
        rate: Hz.
        placed: the clips, in their order.
    """

    speaker: str
    samples: Wave
    rate: int
    placed: tuple[Placed, ...]


def speech_span(wave: Wave, rate: int) -> tuple[int, int]:
    """First sample of speech and one past the last, by level alone: no detector that is to be measured takes part.

    A clip that is digital silence is all speech: nothing tells where it might be.

    Args:
        wave: ``(time,)``, before any noise.
        rate: Hz.
    """
    size, hop = min(wave.size, round(SPEECH_FRAME_S * rate)), round(SPEECH_HOP_S * rate)
    if not wave.any():
        return 0, wave.size
    energy = np.concatenate(([0.0], np.cumsum(np.square(wave, dtype=np.float64))))
    starts = np.arange(0, wave.size - size + 1, hop)
    level_db = 10.0 * np.log10(np.maximum((energy[starts + size] - energy[starts]) / size, 1e-12))
    top, quiet = float(level_db.max()), float(np.quantile(level_db, QUIET_SHARE))
    loud = np.flatnonzero(level_db >= max(top - SPEECH_RANGE_DB, quiet + SPEECH_RISE * (top - quiet)))
    return int(starts[loud[0]]), int(starts[loud[-1]]) + size


def build(clips: Sequence[Clip], rate: int, config: StreamConfig, noise: Wave | None) -> Stream:
    """One stream of one speaker's clips; the other speakers make no difference to it.

    Args:
        clips: all of one speaker.
        rate: Hz.
        config: order, pauses, noise.
        noise: of :func:`load_noise`.

    Raises:
        AudioError: a clip that cannot be decoded or holds nothing.
    """
    speaker = clips[0].speaker
    rng = np.random.default_rng((config.seed, zlib.crc32(speaker.encode())))
    parts: list[Wave] = []
    placed: list[Placed] = []
    position, energy, spoken = 0, 0.0, 0
    for index in rng.permutation(len(clips)):
        wave, pause = read_clip(clips[index], rate), _pause(config, rate, rng)
        first, last = speech_span(wave, rate)
        start = position + pause.size
        placed.append(Placed(clips[index], start, start + wave.size, start + first, start + last))
        parts += [pause, wave]
        position = start + wave.size
        energy += float(np.square(wave[first:last], dtype=np.float64).sum())
        spoken += last - first
    parts.append(_pause(config, rate, rng))
    samples = np.concatenate(parts)
    if noise is not None:
        gain = np.sqrt(energy / spoken / _power(noise)) * 10.0 ** (-config.snr_db / 20.0)
        shift = int(rng.integers(noise.size))
        samples += np.float32(gain) * np.resize(np.roll(noise, -shift), samples.size)
        np.clip(samples, -1.0, 1.0, out=samples)
    return Stream(speaker, samples, rate, tuple(placed))


def streams(clips: Iterable[Clip], rate: int, config: StreamConfig) -> Iterator[Stream]:
    """A stream a speaker, in the order of their names, made when it is asked for.

    Args:
        clips: of any speakers.
        rate: Hz.
        config: order, pauses, noise.

    Raises:
        AudioError: a clip or a noise that cannot be decoded.
        DataError: as :func:`load_noise`.
    """
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        groups.setdefault(clip.speaker, []).append(clip)
    noise = load_noise(config, rate)
    for _, group in sorted(groups.items()):
        yield build(group, rate, config, noise)


def load_noise(config: StreamConfig, rate: int) -> Wave | None:
    """What is mixed under all streams, ``(time,)``; None where there shall be none.

    Raises:
        DataError: no such folder, or nothing to be heard in it.
        AudioError: a recording that cannot be decoded.
    """
    if np.isinf(config.snr_db):
        return None
    rng = np.random.default_rng((config.seed, zlib.crc32(b"noise")))
    if config.noise in COLOURS:
        return coloured_noise(NOISE_PERIOD_S * rate, COLOURS[config.noise], rng)
    folder = Path(config.noise).expanduser()
    if not folder.is_dir():
        known = ", ".join(COLOURS)
        raise DataError(f"--noise {config.noise}: no such folder; expected {known} or a folder of recordings")
    files = audio_files(folder, deep=True)
    waves: list[Wave] = []
    for index in rng.permutation(len(files)):
        waves.append(_samples(files[index], rate))
        if sum(wave.size for wave in waves) >= LONGEST_NOISE_S * rate:
            break
    noise = np.concatenate(waves)
    if not noise.any():
        raise DataError(f"--noise {config.noise}: nothing but silence in it; choose another folder")
    return noise


def _power(wave: Wave) -> float:
    return float(np.mean(np.square(wave, dtype=np.float64)))


def _pause(config: StreamConfig, rate: int, rng: np.random.Generator) -> Wave:
    return np.zeros(round(rng.uniform(*config.pause_s) * rate), dtype=np.float32)


def _samples(path: Path, rate: int) -> Wave:
    blocks = list(read_blocks(path, rate))
    return np.concatenate(blocks) if blocks else np.empty(0, dtype=np.float32)


def read_clip(clip: Clip, rate: int) -> Wave:
    """The samples of a clip, ``(time,)``.

    Raises:
        AudioError: it cannot be decoded, or holds nothing.
    """
    wave = _samples(clip.path, rate)
    if not wave.size:
        raise AudioError(f"{clip.path}: holds no samples; remove it")
    return wave
