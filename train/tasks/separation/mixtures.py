"""Mixtures of voices from any corpus with speakers: drawn anew for training, the same ones again for tests.

Speakers are in one part each, training, validation or test, and so are recordings of noise. A mixture is the sum of
its sources and noise; a room is part of a source. All draws hang on a seed and a number alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from stream_ser.audio.decode import read_blocks
from stream_ser.errors import DataError
from stream_ser.train.augment.noise import noise_bank
from stream_ser.train.augment.rooms import convolved
from stream_ser.train.data.corpora import PARTS, Clip, Corpus
from stream_ser.train.data.pcm16 import Wave, to_float32, to_int16

from .config import MixtureConfig
from .mixture_folder import Item, add_up
from .speaker_parts import GENERATED, noise_parts, speaker_parts

#: A mixture is never louder, so that its sum fits 16 bits.
PEAK = 0.95
#: Stretches of speech below its RMS by so much are pauses and do not count for its level.
_PAUSE_DB = 40.0
_BLOCK_S = 0.02
#: Draws of a segment until one is audible.
_TRIES = 20
_QUIET = 1e-4
_TELEPHONE_HZ = 4_000.0
#: Which stretch of the generated noises each part has.
_BANK_SHARES = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}


class Voice(NamedTuple):
    """A decoded clip.

    Attributes:
        name: of the file, without folder and suffix.
        wave: ``(time,)``.
    """

    name: str
    wave: NDArray[np.int16]


@dataclass(frozen=True)
class Pool:
    """Decoded recordings of one part.

    Attributes:
        part: its name.
        sample_rate: Hz.
        voices: of each speaker.
        noises: recordings; empty for none.
    """

    part: str
    sample_rate: int
    voices: Mapping[str, tuple[Voice, ...]]
    noises: tuple[Voice, ...] = ()

    @classmethod
    def load(
        cls,
        part: str,
        clips: Sequence[Clip],
        noises: Sequence[Path],
        sample_rate: int,
        advance: Callable[[], object] = lambda: None,
    ) -> Pool:
        """Decode; silent files are left out.

        Raises:
            DataError: fewer than two speakers.
            AudioError: a file that cannot be decoded.
        """

        def read(path: Path) -> Voice:
            voice = Voice(path.stem, to_int16(np.concatenate(list(read_blocks(path, sample_rate)))))
            advance()
            return voice

        with ThreadPoolExecutor() as pool:
            spoken = list(pool.map(read, [clip.path for clip in clips]))
            heard = tuple(voice for voice in pool.map(read, noises) if np.abs(voice.wave).max(initial=0) > 3)
        voices: dict[str, list[Voice]] = defaultdict(list)
        for clip, voice in zip(clips, spoken, strict=True):
            if np.abs(voice.wave).max(initial=0) > 3:
                voices[clip.speaker].append(voice)
        if len(voices) < 2:
            raise DataError(f"the {part} part has {len(voices)} speaker, expected two or more; add a larger corpus")
        if noises and not heard:
            raise DataError(f"the {part} part's recordings of noise are all silent")
        return cls(part, sample_rate, {speaker: tuple(found) for speaker, found in sorted(voices.items())}, heard)

    @property
    def seconds(self) -> float:
        """Speech, all speakers together."""
        return sum(voice.wave.size for voices in self.voices.values() for voice in voices) / self.sample_rate


def load_pools(
    corpora: Sequence[Corpus],
    noise: str | None,
    sample_rate: int,
    seed: int,
    parts: Sequence[str] = PARTS,
    progress: Callable[[int], Callable[[], object]] = lambda total: lambda: None,
) -> dict[str, Pool]:
    """Decode the recordings of some parts.

    Args:
        corpora: with speakers.
        noise: ``CORPUS=PATH`` or a folder of recordings; None or ``generated`` for none.
        sample_rate: Hz.
        seed: of the speakers' and the noises' parts.
        parts: wanted.
        progress: gets the number of files; what it returns is called after each.

    Raises:
        DataError: unknown or too few speakers, too few noises.
        AudioError: a file that cannot be decoded.
    """
    clips = speaker_parts(corpora, seed)
    noises = noise_parts(noise, seed) if noise not in (None, GENERATED) else dict.fromkeys(PARTS, ())
    advance = progress(sum(len(clips[part]) + len(noises[part]) for part in parts))
    return {part: Pool.load(part, clips[part], noises[part], sample_rate, advance) for part in parts}


@dataclass(frozen=True)
class Drawn:
    """A mixture as it was drawn; it is the sum of ``sources`` and ``noise``.

    Attributes:
        sources: ``(speakers, time)`` float32, rooms included.
        noise: ``(time,)`` float32, None without.
        about: who, where from, how loud.
    """

    sources: NDArray[np.float32]
    noise: Wave | None
    about: Mapping[str, object]

    @property
    def mixture(self) -> Wave:
        """``(time,)`` float32."""
        total: Wave = self.sources.sum(axis=0)
        return total if self.noise is None else total + self.noise


def _rms(wave: Wave) -> float:
    return math.sqrt(float(np.mean(np.square(wave, dtype=np.float64)))) if wave.size else 0.0


def active_rms(wave: Wave, sample_rate: int) -> float:
    """RMS of the parts of ``(time,)`` that are no pauses, so that a late start makes no voice louder."""
    block = max(1, round(_BLOCK_S * sample_rate))
    if wave.size < block:
        return _rms(wave)
    power = np.square(wave[: wave.size - wave.size % block].reshape(-1, block), dtype=np.float64).mean(axis=1)
    kept = power[power > power.max() * 10.0 ** (-_PAUSE_DB / 10.0)]
    return math.sqrt(float(kept.mean())) if kept.size else 0.0


def _segment(voice: Voice, size: int, speed: float, rng: np.random.Generator) -> tuple[Wave, int]:
    """``size`` samples with the clip, or a part of it, at a drawn place; and the offset of clip or part in samples.

    A short clip starts at a positive offset into the window; of a long one, as many samples are skipped (negative).
    """
    wave = to_float32(voice.wave)
    for _ in range(_TRIES):
        need = math.ceil(size * speed) + 1
        skip = int(rng.integers(max(1, wave.size - need + 1)))
        part = wave[skip : skip + need]
        if speed != 1.0:
            part = soxr.resample(part, speed * 1000.0, 1000.0, quality="HQ")
        part = part[:size]
        start = int(rng.integers(size - part.size + 1))
        if _rms(part) > _QUIET:
            break
    window = np.zeros(size, np.float32)
    window[start : start + part.size] = part
    return window, start - skip


def _room(rt60_s: float, sample_rate: int, rng: np.random.Generator) -> Wave:
    """Impulse response of a generated room: direct sound, then noise that decays by 60 dB (Polack 1988)."""
    time_s = np.arange(max(2, int(rt60_s * sample_rate))) / sample_rate
    tail = rng.standard_normal(time_s.size) * np.exp(-6.908 * time_s / rt60_s)
    tail *= rng.uniform(0.15, 0.9) / math.sqrt(float(np.square(tail).sum()))
    tail[0] = 1.0
    return tail.astype(np.float32)


def _narrow(waves: Wave, sample_rate: int) -> Wave:
    """``(..., time)`` without what lies above :data:`_TELEPHONE_HZ`."""
    spectrum = np.fft.rfft(waves)
    spectrum[..., np.fft.rfftfreq(waves.shape[-1], 1.0 / sample_rate) >= _TELEPHONE_HZ] = 0.0
    return np.fft.irfft(spectrum, waves.shape[-1]).astype(np.float32)


def _cut(noise: Wave, size: int, rng: np.random.Generator) -> Wave:
    """``size`` samples from a drawn place on, round and round."""
    start = int(rng.integers(noise.size))
    cut: Wave = np.resize(np.roll(noise, -start) if start + size > noise.size else noise[start:], size)
    return cut


def _noise(pool: Pool, config: MixtureConfig, size: int, rng: np.random.Generator) -> tuple[Wave, str]:
    """``size`` samples of noise of any level, and its name."""
    if config.noise == "generated":
        bank = noise_bank()
        row = int(rng.integers(len(bank)))
        first, last = (round(share * bank.shape[1]) for share in _BANK_SHARES[pool.part])
        return _cut(bank[row, first:last], size, rng), f"generated-{row}"
    for _ in range(_TRIES):
        voice = pool.noises[int(rng.integers(len(pool.noises)))]
        noise = _cut(to_float32(voice.wave), size, rng)
        if _rms(noise) > _QUIET:
            return noise, voice.name
    return noise, voice.name


def draw(pool: Pool, config: MixtureConfig, rng: np.random.Generator) -> Drawn:
    """A mixture.

    Args:
        pool: recordings, at the rate of ``config``.
        config: what to draw.
        rng: source of all randomness.

    Raises:
        DataError: more speakers are wanted than there are.
    """
    size, rate = round(config.duration_s * config.sample_rate), config.sample_rate
    if config.speakers > len(pool.voices):
        raise DataError(f"the {pool.part} part has {len(pool.voices)} speakers, fewer than {config.speakers} at a time")
    names = list(pool.voices)
    chosen = [names[i] for i in rng.choice(len(names), config.speakers, replace=False)]
    room_s = float(rng.uniform(*config.rt60_s)) if rng.random() < config.room_p else 0.0
    levels_db = np.append(0.0, rng.uniform(-config.level_db, config.level_db, config.speakers - 1))
    about: dict[str, object] = {"part": pool.part}
    sources = []
    for number, (speaker, level_db) in enumerate(zip(chosen, levels_db, strict=True), start=1):
        voice = pool.voices[speaker][int(rng.integers(len(pool.voices[speaker])))]
        speed = float(rng.choice(config.speeds))
        wave, offset = _segment(voice, size, speed, rng)
        if room_s:
            wave = convolved(wave, _room(room_s, rate, rng))
        wave = wave * np.float32(10.0 ** (level_db / 20.0) / max(active_rms(wave, rate), _QUIET))
        sources.append(wave)
        about |= {
            f"speaker_{number}": speaker,
            f"clip_{number}": voice.name,
            f"offset_{number}_s": round(offset / rate, 4),
            f"speed_{number}": speed,
            f"level_{number}_db": round(float(level_db), 3),
        }
    stacked = np.stack(sources)
    narrow = config.narrow_p > 0.0 and rng.random() < config.narrow_p
    noise = None
    if config.noise != "none":
        noise, called = _noise(pool, config, size, rng)
        snr_db = float(rng.uniform(*config.snr_db))
        speech = active_rms(stacked.sum(axis=0), rate)
        noise = noise * np.float32(speech / max(_rms(noise), _QUIET) * 10.0 ** (-snr_db / 20.0))
        about |= {"noise_name": called, "snr_db": round(snr_db, 3)}
    about["rt60_s"] = round(room_s, 3)
    if narrow:
        stacked = _narrow(stacked, rate)
        noise = None if noise is None else _narrow(noise, rate)
    drawn = Drawn(stacked, noise, about)
    mixture = drawn.mixture
    # Parts may be louder than their sum where they cancel.
    parts = [mixture, *stacked] if noise is None else [mixture, *stacked, noise]
    gain_db = float(rng.uniform(*config.gain_db))
    wanted = 10.0 ** (gain_db / 20.0) / max(_rms(mixture), _QUIET)
    gain = np.float32(min(wanted, PEAK / max(float(np.abs(part).max()) for part in parts)))
    return Drawn(stacked * gain, None if noise is None else noise * gain, about)


def draw_many(pool: Pool, config: MixtureConfig, seed: int, count: int) -> Iterator[Drawn]:
    """The mixtures of a test: unprocessed speed, number ``n`` the same however many there are."""
    plain = replace(config, speeds=(1.0,))
    for number in range(count):
        yield draw(pool, plain, np.random.default_rng((seed, PARTS.index(pool.part), number)))


def items(pool: Pool, config: MixtureConfig, seed: int, count: int) -> Iterator[Item]:
    """Mixtures to write: see :func:`draw_many` and :mod:`.mixture_folder`."""
    for drawn in draw_many(pool, config, seed, count):
        parts = [*drawn.sources, *([] if drawn.noise is None else [drawn.noise])]
        yield Item(dict(zip(roles(config), add_up(parts), strict=True)), drawn.about)


def roles(config: MixtureConfig) -> tuple[str, ...]:
    """Files of a mixture."""
    sources = tuple(f"source_{number}" for number in range(1, config.speakers + 1))
    return ("mixture", *sources, *(("noise",) if config.noise != "none" else ()))
