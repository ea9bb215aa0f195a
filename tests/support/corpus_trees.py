"""Trees of empty files in a corpus' layout, and the real corpora where they are beside the clone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from tiny_models import shared_data

from stream_ser.train.data import corpora
from stream_ser.train.data.corpora import Corpus


def tree(root: Path, files: Iterable[str]) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def clip_of(corpus: Corpus, stem: str) -> corpora.Clip:
    return next(clip for clip in corpus.clips if clip.path.stem == stem)


def real(name: str) -> Path:
    folder = shared_data(name)
    if folder is None:
        pytest.skip(f"no ../shared/data/{name}")
    return folder
