"""Splits. Speakers never overlap between parts unless the split's name says so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stream_ser.errors import DataError

from .corpora import UNKNOWN_SPEAKER, Clip, Corpus

OVERLAP = "speakers overlap"
DEFAULT_FOLDS = 5
#: Training, validation and test share of a random split of the clips, by name.
RANDOM_SHARES = {"70/15/15": (0.70, 0.15, 0.15), "70/30": (0.665, 0.035, 0.30)}


@dataclass(frozen=True, slots=True)
class Split:
    """Clips in two or three parts.

    Attributes:
        train: clips to learn from.
        validation: clips to choose and calibrate with.
        name: how the split was made, for cards and tables.
        test: clips to measure with, once, at the end; empty where the split has none.
        overlap: a speaker may be in more than one part; the name says so too.
    """

    train: tuple[Clip, ...]
    validation: tuple[Clip, ...]
    name: str
    test: tuple[Clip, ...] = ()
    overlap: bool = False


def check_disjoint(train: Sequence[Clip], validation: Sequence[Clip], test: Sequence[Clip] = ()) -> None:
    """Refuse a split that shares a speaker.

    Raises:
        DataError: the training or the validation part is empty, or a speaker is in two parts.
    """
    _check_filled(train, validation)
    _check_apart(_shared(train, validation, test))


def fixed(corpora: Sequence[Corpus]) -> Split:
    """The parts that the corpora's own lists give.

    Clips of unknown speakers may lie in several parts: the split's name then says that speakers overlap.

    Raises:
        DataError: a clip without a part, an empty part, or a shared speaker.
    """
    for corpus in corpora:
        if any(not clip.part for clip in corpus.clips):
            raise DataError(f"{corpus.name} has no fixed list of parts; use a split by speaker (--split speaker)")
    parts = _group(_clips(corpora), lambda clip: clip.part)
    train, validation, test = (tuple(parts[part]) for part in ("train", "validation", "test"))
    if any(map(_is_unknown, _shared(train, validation, test))):
        _check_filled(train, validation)
        _check_apart(speaker for speaker in _shared(train, validation, test) if not _is_unknown(speaker))
        return Split(train, validation, f"fixed list, clips of unknown speakers: {OVERLAP}", test, overlap=True)
    check_disjoint(train, validation, test)
    return Split(train, validation, f"fixed list, speaker-disjoint ({_count(train, validation, test)})", test)


def by_speaker(corpora: Sequence[Corpus], seed: int, validation_share: float = 0.125) -> Split:
    """Draw validation speakers with a seed; each corpus gives the same share. Official test clips stay test.

    Raises:
        DataError: a corpus with fewer than two speakers.
    """
    rng = np.random.default_rng(seed)
    clips = [clip for clip in _clips(corpora) if clip.part != "test"]
    test = tuple(clip for clip in _clips(corpora) if clip.part == "test")
    chosen: set[str] = set()
    for corpus in corpora:
        speakers = sorted({clip.speaker for clip in corpus.clips if clip.part != "test"})
        if len(speakers) < 2:
            raise DataError(
                f"{corpus.name} has {len(speakers)} speaker; a split by speaker needs two or more: "
                f"name the speakers, or use --split random"
            )
        count = min(len(speakers) - 1, max(1, round(validation_share * len(speakers))))
        chosen.update(rng.permutation(speakers)[:count].tolist())
    train = tuple(clip for clip in clips if clip.speaker not in chosen)
    validation = tuple(clip for clip in clips if clip.speaker in chosen)
    check_disjoint(train, validation, test)
    return Split(train, validation, f"by speaker, seed {seed} ({len(chosen)} validation speakers)", test)


def folds_of(corpora: Sequence[Corpus], seed: int, count: int | None = None) -> dict[Clip, int]:
    """Fold of every clip, from 1.

    Official folds are kept (ESC-50's; RAVDESS' groups of four actors). Other corpora get theirs by speaker, shuffled
    with the seed.

    Args:
        corpora: to be cross-validated together.
        seed: of the shuffles.
        count: number of folds; by default the official one, or five.

    Raises:
        DataError: official folds in another number, or fewer speakers than folds.
    """
    official = {c.name: sorted({clip.fold for clip in c.clips}) for c in corpora if _has_folds(c)}
    count = count or max(map(len, official.values()), default=DEFAULT_FOLDS)
    folds: dict[Clip, int] = {}
    rng = np.random.default_rng(seed)
    for corpus in corpora:
        if numbers := official.get(corpus.name):
            if len(numbers) != count:
                raise DataError(f"{corpus.name} comes with {len(numbers)} folds, not {count}; ask for {len(numbers)}")
            folds.update({clip: numbers.index(clip.fold) + 1 for clip in corpus.clips})
            continue
        speakers = sorted({clip.speaker for clip in corpus.clips})
        if len(speakers) < count:
            raise DataError(f"{corpus.name} has {len(speakers)} speakers, too few for {count} folds; ask for fewer")
        groups = enumerate(np.array_split(rng.permutation(speakers), count), start=1)
        group_of = {speaker: index for index, group in groups for speaker in group.tolist()}
        folds.update({clip: group_of[clip.speaker] for clip in corpus.clips})
    return folds


def fold_count(corpora: Sequence[Corpus], count: int | None = None) -> int:
    """How many folds :func:`fold` offers.

    Raises:
        DataError: as :func:`folds_of`.
    """
    return max(folds_of(corpora, 0, count).values())


def fold(corpora: Sequence[Corpus], number: int, seed: int, count: int | None = None, *, nested: bool = False) -> Split:
    """Hold fold ``number`` out and train on the others, the field's usual protocol.

    The held-out fold is the validation part: what is chosen or stopped by it is chosen on what is reported. A
    ``nested`` fold is free of that: the next fold validates and the held-out one is the test part.

    Args:
        corpora: to be cross-validated together.
        number: from 1.
        seed: of the folds by speaker; official folds need none.
        count: number of folds; by default the official one, or five.
        nested: keep the held-out fold for the test.

    Raises:
        DataError: as :func:`folds_of`, no such fold, or a speaker in two folds by speaker.
    """
    folds = folds_of(corpora, seed, count)
    total = max(folds.values())
    if not 1 <= number <= total:
        raise DataError(f"fold {number}: expected 1 to {total}")
    if nested and total < 3:
        raise DataError(f"{total} folds: a nested split needs three or more, one each to train, validate and test")
    following = number % total + 1
    held = tuple(clip for clip, where in folds.items() if where == number)
    validation = tuple(clip for clip, where in folds.items() if where == following) if nested else held
    train = tuple(clip for clip, where in folds.items() if where not in {number, following if nested else number})
    test = held if nested else ()
    kinds = {"official" if _has_folds(corpus) else f"by speaker, seed {seed}" for corpus in corpora}
    role = f"validation on fold {following}, test on this one" if nested else "held out for validation"
    _check_filled(train, validation)
    shared = _shared(train, validation, test)
    if shared and "official" not in kinds:
        raise DataError(f"speaker {min(shared)} is in two folds by speaker; name the speakers of each corpus apart")
    # ESC-50: four of its 1,524 recordings gave clips to two of the official folds.
    note = f"{len(shared)} speakers or recordings in both" if shared else "speaker-disjoint"
    name = f"fold {number} of {total}, {' + '.join(sorted(kinds))}, {role}, {note} ({_count(train, validation, test)})"
    return Split(train, validation, name, test, overlap=bool(shared))


def random_clips(corpora: Sequence[Corpus], seed: int, shares: str = "70/15/15") -> Split:
    """Draw clips, not speakers: scores on such a split are higher than anybody new will see.

    Each label of each corpus is split in the same shares.

    Args:
        corpora: whose clips are drawn.
        seed: of the draw.
        shares: ``70/15/15`` training, validation and test; ``70/30`` training and test, with 5 % of the 70 for
            validation.

    Raises:
        DataError: too few clips.
    """
    rng = np.random.default_rng(seed)
    places: dict[Clip, int] = {}
    ends = np.cumsum(RANDOM_SHARES[shares])
    for corpus in corpora:
        for _, clips in sorted(_group(corpus.clips, lambda clip: clip.label).items()):
            # Rounded up or down by chance, so that many small labels do not all lose the same part of a clip.
            cuts = np.floor(ends[:-1] * len(clips) + rng.random()).astype(int)
            for place, index in enumerate(rng.permutation(len(clips))):
                places[clips[index]] = int(np.searchsorted(cuts, place, side="right"))
    train, validation, test = (tuple(c for c in _clips(corpora) if places[c] == part) for part in range(3))
    _check_filled(train, validation)
    return Split(train, validation, f"random clips {shares}, seed {seed}, {OVERLAP}", test, overlap=True)


def leave_out(split: Split, corpora: Sequence[Corpus]) -> Split:
    """Give a split of other corpora a test part: every clip of ``corpora``, which then took no part in training.

    An official test part of the other corpora is left aside.

    Raises:
        DataError: a speaker of theirs is in the split's training or validation part.
    """
    test = tuple(_clips(corpora))
    check_disjoint(split.train, split.validation, test)
    names = " + ".join(corpus.name for corpus in corpora)
    speakers = len({clip.speaker for clip in test})
    return Split(
        split.train,
        split.validation,
        f"{split.name}; tested on {names}, left out of training ({speakers} speakers)",
        test,
        split.overlap,
    )


def _clips(corpora: Sequence[Corpus]) -> list[Clip]:
    return [clip for corpus in corpora for clip in corpus.clips]


def _has_folds(corpus: Corpus) -> bool:
    return bool(corpus.clips) and all(clip.fold for clip in corpus.clips)


def _shared(*parts: Iterable[Clip]) -> set[str]:
    """Speakers in more than one part."""
    seen: set[str] = set()
    shared: set[str] = set()
    for part in parts:
        speakers = {clip.speaker for clip in part}
        shared |= seen & speakers
        seen |= speakers
    return shared


def _is_unknown(speaker: str) -> bool:
    return speaker.partition("/")[2] == UNKNOWN_SPEAKER


def _check_apart(shared: Iterable[str]) -> None:
    if speakers := sorted(shared):
        raise DataError(f"speaker {speakers[0]} is in two parts of a speaker-disjoint split; use another split")


def _check_filled(train: Sequence[Clip], validation: Sequence[Clip]) -> None:
    if not train or not validation:
        raise DataError(
            f"split has {len(train)} training and {len(validation)} validation clips; both are needed: "
            f"use another --split"
        )


def _count(train: Sequence[Clip], validation: Sequence[Clip], test: Sequence[Clip]) -> str:
    """Speakers a part."""
    parts: Mapping[str, Sequence[Clip]] = {"train": train, "validation": validation, "test": test}
    return " / ".join(f"{len({clip.speaker for clip in clips})} {name}" for name, clips in parts.items() if clips)


def _group(clips: Iterable[Clip], key: Callable[[Clip], str]) -> defaultdict[str, list[Clip]]:
    groups: defaultdict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        groups[key(clip)].append(clip)
    return groups
