"""Who is trained on and who is held out: no speaker and no recording of noise is in two parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stream_ser.errors import DataError
from stream_ser.train.data.corpora import CORPORA, PARTS, UNKNOWN_SPEAKER, Clip, Corpus, audio_files, load

#: Of speakers and of noise recordings, for validation and for test each, where the corpus has no parts of its own.
HELD_OUT = 0.1
GENERATED = "generated"


def _parts_of(owners: Sequence[str], seed: int) -> dict[str, str]:
    """A part for each owner: a tenth validation, a tenth test, the rest training.

    Raises:
        DataError: fewer than three.
    """
    if len(owners) < 3:
        raise DataError(f"{len(owners)} to share out among {', '.join(PARTS)}, expected 3 or more")
    order = np.random.default_rng((seed, 7)).permutation(sorted(owners)).tolist()
    count = max(1, round(HELD_OUT * len(order)))
    return {
        **dict.fromkeys(order[2 * count :], "train"),
        **dict.fromkeys(order[:count], "validation"),
        **dict.fromkeys(order[count : 2 * count], "test"),
    }


def speaker_parts(corpora: Sequence[Corpus], seed: int) -> dict[str, tuple[Clip, ...]]:
    """Clips by part, no speaker in two of them.

    A corpus's own parts count. Where it has no test part, its validation part is the test, so that nobody who is held
    out elsewhere is trained on; what is missing is drawn with the seed from its training speakers. Without parts that
    keep speakers apart, all are drawn.

    Raises:
        DataError: unknown speakers, or too few.
    """
    parts: dict[str, list[Clip]] = defaultdict(list)
    for corpus in corpora:
        if any(clip.speaker.partition("/")[2] == UNKNOWN_SPEAKER for clip in corpus.clips):
            raise DataError(f"{corpus.name}: has clips of unknown speakers, which cannot be kept apart; name them")
        try:
            part_of = _speakers(corpus, seed)
        except DataError as error:
            raise DataError(f"{corpus.name}: speakers: {error}; add a corpus with more") from None
        for clip in corpus.clips:
            parts[part_of[clip.speaker]].append(clip)
    return {part: tuple(parts[part]) for part in PARTS}


def _speakers(corpus: Corpus, seed: int) -> dict[str, str]:
    """The part of each speaker of a corpus.

    Raises:
        DataError: too few speakers to draw from.
    """
    parts: dict[str, set[str]] = defaultdict(set)
    for clip in corpus.clips:
        parts[clip.speaker].add(clip.part)
    there = set().union(*parts.values())
    if len(there) == 1 or "train" not in there or any(len(found) > 1 for found in parts.values()):
        return _parts_of(list(parts), seed)
    own = {speaker: next(iter(found)) for speaker, found in parts.items()}
    if "test" not in there:
        own = {speaker: "test" if part == "validation" else part for speaker, part in own.items()}
    missing = set(PARTS) - set(own.values())
    if missing:
        drawn = _parts_of([speaker for speaker, part in own.items() if part == "train"], seed)
        own |= {speaker: part for speaker, part in drawn.items() if part in missing}
    return own


def noise_parts(option: str, seed: int) -> dict[str, tuple[Path, ...]]:
    """Recordings of noise by part: of a corpus with folds the last two are held out, else files are drawn.

    Args:
        option: ``CORPUS=PATH``, or a folder.
        seed: of the draw.

    Raises:
        DataError: no such corpus or folder, or too few recordings.
    """
    name, equals, path = option.partition("=")
    if equals and name in CORPORA:
        corpus = load(name, Path(path).expanduser())
        folds = sorted({clip.fold for clip in corpus.clips} - {0})
        if len(folds) >= 3:
            held = {folds[-1]: "test", folds[-2]: "validation"}
            found = [(clip.path, held.get(clip.fold, "train")) for clip in corpus.clips]
            return {part: tuple(path for path, of in found if of == part) for part in PARTS}
        files = [clip.path for clip in corpus.clips]
    else:
        files = audio_files(Path(option).expanduser(), deep=True)
    try:
        drawn = _parts_of([str(file) for file in files], seed)
    except DataError as error:
        raise DataError(f"{option}: recordings of noise: {error}") from None
    return {part: tuple(file for file in files if drawn[str(file)] == part) for part in PARTS}


def noise_licence(option: str | None) -> dict[str, str]:
    """Licence of recorded noise by the name of its corpus; of a folder it is not known."""
    name, equals, path = (option or "").partition("=")
    if equals and name in CORPORA:
        return {name: load(name, Path(path).expanduser()).licence}
    return {"noise": "not known"} if option and option != GENERATED else {}
