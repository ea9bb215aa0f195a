"""Splits. Speakers never overlap between parts unless the split's name says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream_ser.errors import DataError

from .corpora import Clip, Corpus


@dataclass(frozen=True, slots=True)
class Split:
    """A training and a validation part.

    Attributes:
        train: clips to learn from.
        validation: clips to choose and calibrate with.
        name: how the split was made, for cards and tables.
    """

    train: tuple[Clip, ...]
    validation: tuple[Clip, ...]
    name: str


def check_disjoint(train: Sequence[Clip], validation: Sequence[Clip]) -> None:
    """Refuse a split that shares a speaker.

    Raises:
        DataError: a part is empty, or a speaker is in both.
    """
    if not train or not validation:
        raise DataError(f"split has {len(train)} training and {len(validation)} validation clips; both are needed")
    shared = {clip.speaker for clip in train} & {clip.speaker for clip in validation}
    if shared:
        raise DataError(f"speaker {min(shared)} is in both parts of a speaker-disjoint split")


def fixed(corpora: Sequence[Corpus]) -> Split:
    """The parts that the corpora's own lists give.

    Raises:
        DataError: a clip without a part, an empty part, or a shared speaker.
    """
    for corpus in corpora:
        if any(not clip.part for clip in corpus.clips):
            raise DataError(f"{corpus.name} has no fixed list of parts; use a split by speaker")
    clips = [clip for corpus in corpora for clip in corpus.clips]
    train = tuple(clip for clip in clips if clip.part == "train")
    validation = tuple(clip for clip in clips if clip.part == "validation")
    check_disjoint(train, validation)
    speakers = len({clip.speaker for clip in train}), len({clip.speaker for clip in validation})
    return Split(train, validation, f"fixed list, speaker-disjoint ({speakers[0]} train / {speakers[1]} validation)")


def by_speaker(corpora: Sequence[Corpus], seed: int, validation_share: float = 0.125) -> Split:
    """Draw validation speakers with a seed; each corpus gives the same share.

    Raises:
        DataError: a corpus with fewer than two speakers.
    """
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for corpus in corpora:
        speakers = sorted({clip.speaker for clip in corpus.clips})
        if len(speakers) < 2:
            raise DataError(f"{corpus.name} has {len(speakers)} speaker; a split by speaker needs two or more")
        count = min(len(speakers) - 1, max(1, round(validation_share * len(speakers))))
        chosen.update(rng.permutation(speakers)[:count].tolist())
    clips = [clip for corpus in corpora for clip in corpus.clips]
    train = tuple(clip for clip in clips if clip.speaker not in chosen)
    validation = tuple(clip for clip in clips if clip.speaker in chosen)
    check_disjoint(train, validation)
    return Split(train, validation, f"by speaker, seed {seed} ({len(chosen)} validation speakers)")
