"""openSMILE's clip functionals, for classical controls. openSMILE is a development tool: its licence is not ours."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ser.audio.decode import read_blocks
from stream_ser.config import SAMPLE_RATE_HZ
from stream_ser.errors import DataError, OutputError, TrainError
from stream_ser.train.data.corpora import Clip

#: Name of a set and the length of its vectors.
FEATURE_SETS = {"eGeMAPSv02": 88, "ComParE_2016": 6373}


@functools.lru_cache(maxsize=2)
def _smile(feature_set: str) -> Any:
    try:
        import opensmile
    except ModuleNotFoundError:
        raise TrainError("opensmile is missing: the controls need the tools: pip install 'stream-ser[dev]'") from None
    level = opensmile.FeatureLevel.Functionals
    return opensmile.Smile(feature_set=opensmile.FeatureSet[feature_set], feature_level=level, num_workers=1)


def functionals(
    clips: Sequence[Clip],
    feature_set: str,
    cache: Path,
    jobs: int = 1,
    advance: Callable[[], object] | None = None,
) -> NDArray[np.float32]:
    """Functionals of whole clips at 16 kHz, ``(clips, features)``; NaN where openSMILE knows no value.

    Each vector is kept under ``cache``, named by the content of the clip's file: a stopped run goes on where it was.

    Args:
        clips: what to measure.
        feature_set: one of :data:`FEATURE_SETS` (Eyben et al. 2016; Schuller et al. 2016).
        cache: folder.
        jobs: processes, each with one thread and low priority; 1 works in this process.
        advance: called once a clip.

    Raises:
        TrainError: opensmile is not installed, or an unknown set.
        AudioError: a clip that cannot be decoded.
        DataError: a clip without samples.
        OutputError: ``cache`` cannot be written.
    """
    if feature_set not in FEATURE_SETS:
        raise TrainError(f"unknown feature set {feature_set!r}; known: {', '.join(FEATURE_SETS)}")
    folder = cache / feature_set
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); choose another --cache") from None
    work = functools.partial(_vector, feature_set=feature_set, folder=folder)
    paths = [clip.path for clip in clips]
    values = np.empty((len(clips), FEATURE_SETS[feature_set]), dtype=np.float32)
    if jobs == 1:
        _collect(map(work, paths), values, advance)
        return values
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_lower_priority) as pool:
        _collect(pool.map(work, paths, chunksize=8), values, advance)
    return values


def _collect(vectors: Any, values: NDArray[np.float32], advance: Callable[[], object] | None) -> None:
    for row, vector in enumerate(vectors):
        values[row] = vector
        if advance is not None:
            advance()


def _lower_priority() -> None:
    if hasattr(os, "nice"):
        os.nice(10)


def _vector(path: Path, feature_set: str, folder: Path) -> NDArray[np.float32]:
    kept = folder / f"{hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()}.npy"
    if kept.is_file():
        return np.asarray(np.load(kept), dtype=np.float32)
    blocks = list(read_blocks(path, SAMPLE_RATE_HZ))
    if not blocks:
        raise DataError(f"{path}: no samples; remove it")
    vector = _smile(feature_set).process_signal(np.concatenate(blocks), SAMPLE_RATE_HZ).to_numpy(np.float32)[0]
    # openSMILE answers samples that are not numbers with plausible ones; the decoder refuses those. What is left are
    # statistics that a clip does not have, such as those of its voiced stretches.
    vector = np.where(np.isfinite(vector), vector, np.nan).astype(np.float32)
    part = kept.with_suffix(f".{os.getpid()}")
    with part.open("wb") as file:
        np.save(file, vector)
    part.replace(kept)
    return np.asarray(vector)
