"""Recordings that augmentation mixes in: noises and the impulse responses of rooms."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_ser.audio.decode import read_blocks
from stream_ser.errors import DataError
from stream_ser.train.data.corpora import AUDIO_SUFFIXES
from stream_ser.train.data.pcm16 import Wave, to_int16

from .config import AugmentConfig

#: Of the noise recordings so much is kept: two hours are 230 MB.
LONGEST_NOISE_S = 7_200
#: Of an impulse response so much is kept.
LONGEST_ROOM_S = 1.0
#: Blocks of a noise recording below this RMS (-70 dBFS) are pauses and left out, so that no slice is silent.
QUIET = 3e-4
_BLOCK_S = 0.1
#: Files that are decoded before their length is looked at.
_AT_ONCE = 64


def _read(path: Path, sample_rate: int) -> Wave:
    blocks = list(read_blocks(path, sample_rate))
    return np.concatenate(blocks) if blocks else np.empty(0, np.float32)


def _audible(wave: Wave, block: int) -> Wave:
    blocks = wave[: wave.size - wave.size % block].reshape(-1, block)
    kept: Wave = blocks[np.square(blocks).mean(axis=1) > QUIET**2].reshape(-1)
    return kept


def _files(folder: str, pattern: str, option: str) -> list[Path]:
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DataError(f"augment.{option}: {folder} is not a folder; give one with .wav, .flac, .ogg or .mp3 files")
    try:
        matches = sorted(root.rglob(pattern))
    except (ValueError, NotImplementedError):
        raise DataError(f"augment.{option}: {pattern!r} is no pattern of file names; give one such as *") from None
    # Names that start with a dot are left by other systems' archivers (._x.wav) and hold no audio.
    found = [p for p in matches if p.suffix.lower() in AUDIO_SUFFIXES and not p.name.startswith(".") and p.is_file()]
    if not found:
        raise DataError(f"augment.{option}: no .wav, .flac, .ogg or .mp3 file {pattern!r} in {folder}")
    return found


@dataclass(frozen=True)
class Sounds:
    """What is mixed in.

    Attributes:
        noises: all noise recordings one after the other, ``(time,)``, without their pauses; None where there are none.
        rooms: impulse responses, direct sound first, each ``(taps,)``.
    """

    noises: NDArray[np.int16] | None = None
    rooms: tuple[Wave, ...] = ()

    @classmethod
    def load(cls, config: AugmentConfig, sample_rate: int, seed: int = 0) -> Sounds:
        """Read the folders that ``config`` names, in an order that hangs on ``seed``, up to :data:`LONGEST_NOISE_S`.

        Raises:
            DataError: a folder that is missing, or has nothing usable in it.
            AudioError: a file that cannot be decoded.
        """
        noises: NDArray[np.int16] | None = None
        wanted = config.noise_p > 0.0 or "noise" in config.expand
        if config.noise_folder and wanted and config.noise_recorded > 0.0:
            files = _files(config.noise_folder, config.noise_files, "noise_folder")
            order = np.random.default_rng((seed, 2)).permutation(len(files))
            block, longest = int(_BLOCK_S * sample_rate), LONGEST_NOISE_S * sample_rate
            kept: list[NDArray[np.int16]] = []
            with ThreadPoolExecutor() as pool:
                for first in range(0, len(order), _AT_ONCE):
                    chosen = [files[index] for index in order[first : first + _AT_ONCE]]
                    kept += pool.map(lambda path: to_int16(_audible(_read(path, sample_rate), block)), chosen)
                    if sum(part.size for part in kept) >= longest:
                        break
            noises = np.concatenate(kept)[:longest]
            if noises.size < sample_rate:
                raise DataError(f"augment.noise_folder: less than a second of sound in {config.noise_folder}")
        rooms: tuple[Wave, ...] = ()
        if config.reverb_folder and config.reverb_p > 0.0:
            files = _files(config.reverb_folder, "*", "reverb_folder")
            with ThreadPoolExecutor() as pool:
                read = list(pool.map(lambda path: _read(path, sample_rate), files))
            # From the direct sound on, so that a room delays nothing.
            taps = int(LONGEST_ROOM_S * sample_rate)
            rooms = tuple(room[int(np.abs(room).argmax()) :][:taps] for room in read if room.any())
            if not rooms:
                raise DataError(f"augment.reverb_folder: all files in {config.reverb_folder} are silent")
        return cls(noises, rooms)
