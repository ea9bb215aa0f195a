"""CTC by enumeration of every path: what all else here is held to, for a few frames."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from stream_ser.ctc.batch import as_array

Labelling = tuple[int, ...]
Path = tuple[int, ...]

#: Paths are as many as the frames' power of the classes.
_MOST_PATHS = 1_000_000


def merge(path: Path, blank: int = 0) -> Labelling:
    """What a path spells: repetitions merged, then blanks removed.

    Example:
        >>> merge((0, 1, 1, 0, 1, 2))
        (1, 1, 2)
    """
    return tuple(token for token, _ in itertools.groupby(path) if token != blank)


def paths(log_probs: Any) -> Iterator[tuple[Path, float]]:
    """Every path through ``log_probs (time, classes)`` and its log-probability.

    Raises:
        ValueError: more than a million paths.
    """
    rows = as_array(log_probs).tolist()
    classes = len(rows[0]) if rows else 0
    if classes ** len(rows) > _MOST_PATHS:
        raise ValueError(f"{classes} classes over {len(rows)} frames are too many paths; at most {_MOST_PATHS:,}")
    for path in itertools.product(range(classes), repeat=len(rows)):
        yield path, math.fsum(row[token] for row, token in zip(rows, path, strict=True))


def labellings(log_probs: Any, blank: int = 0) -> dict[Labelling, float]:
    """Log-probability of everything that ``log_probs (time, classes)`` can spell; what is impossible is left out."""
    found: defaultdict[Labelling, list[float]] = defaultdict(list)
    for path, score in paths(log_probs):
        found[merge(path, blank)].append(math.exp(score))
    return {text: math.log(p) for text, shares in found.items() if (p := math.fsum(shares)) > 0}


def best_paths(log_probs: Any, blank: int = 0) -> dict[Labelling, tuple[Path, float]]:
    """The best path of everything that ``log_probs (time, classes)`` can spell, and its log-probability."""
    found: dict[Labelling, tuple[Path, float]] = {}
    for path, score in paths(log_probs):
        text = merge(path, blank)
        if score > found.get(text, ((), -math.inf))[1]:
            found[text] = path, score
    return found
