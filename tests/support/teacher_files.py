"""A teacher's file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from stream_ser.train.data import corpora
from stream_ser.train.data.corpora import EMOTIONS, Clip
from stream_ser.train.data.teacher_scores import key_of


def write_file(path: Path, clips, width: int = 4, seed: int = 0, **other) -> Path:
    rng = np.random.default_rng(seed)
    content = {
        "keys": np.array([key_of(clip) for clip in clips]),
        "labels": np.array(EMOTIONS),
        "posterior": rng.dirichlet(np.ones(6), len(clips)).astype(np.float32),
        "features": rng.standard_normal((len(clips), width)).astype(np.float32),
        "about": "a teacher",
        **other,
    }
    np.savez(path, **content)
    return path


@pytest.fixture
def clips(tiny_crema_d: Path) -> tuple[Clip, ...]:
    return corpora.load("crema-d", tiny_crema_d).clips
