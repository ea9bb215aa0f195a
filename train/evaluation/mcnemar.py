"""Comparison of two models on the same clips."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ser.errors import DataError
from stream_ser.runtime.engine import Engine

#: Discordant clips from which the chi-square approximation serves; below, the binomial test is exact.
EXACT_BELOW = 25


@dataclass(frozen=True)
class McNemar:
    """Result of McNemar's test.

    Attributes:
        first_only: clips that only the first model has right.
        second_only: clips that only the second model has right.
        p: two-sided probability of a difference as large as this one between equally good models.
        exact: from the binomial distribution, else from the chi-square one with continuity correction.
    """

    first_only: int
    second_only: int
    p: float
    exact: bool


def mcnemar(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]) -> McNemar:
    """McNemar's test (McNemar 1947; continuity correction: Edwards 1948) of two models on the same clips.

    Only the clips count that one model has right and the other wrong. Clips of one speaker are taken as independent,
    which they are not quite: read a p near the threshold with care.

    Args:
        first_right: whether the first model is right, ``(clips,)``.
        second_right: whether the second model is right on the same clips.

    Raises:
        ValueError: shapes that differ.
    """
    if first_right.shape != second_right.shape or first_right.ndim != 1:
        raise ValueError(f"answers of shape {first_right.shape} and {second_right.shape} are not on the same clips")
    first_only = int((first_right & ~second_right).sum())
    second_only = int((second_right & ~first_right).sum())
    return McNemar(first_only, second_only, *p_value(first_only, second_only))


def pairwise(right: Sequence[NDArray[np.bool_]]) -> list[tuple[int, int, McNemar]]:
    """McNemar's test of each pair of models, given what each has right; models by their position."""
    return [(i, j, mcnemar(right[i], right[j])) for i, j in itertools.combinations(range(len(right)), 2)]


def check_labels(engines: Sequence[Engine]) -> None:
    """Refuse to compare models that tell different labels apart; their order does not matter.

    Raises:
        DataError: two models have different labels.
    """
    first = engines[0]
    for engine in engines[1:]:
        if set(engine.card.labels) != set(first.card.labels):
            raise DataError(
                f"cannot compare: {first.path.name} has the labels {', '.join(first.card.labels)}, {engine.path.name} "
                f"has {', '.join(engine.card.labels)}; compare models of the same labels"
            )


def p_value(first_only: int, second_only: int) -> tuple[float, bool]:
    """McNemar's two-sided p of two discordant counts, and whether it is the exact one."""
    discordant = first_only + second_only
    if discordant < EXACT_BELOW:
        tail = sum(math.comb(discordant, k) for k in range(min(first_only, second_only) + 1))
        return min(1.0, 2.0 * tail / 2.0**discordant), True
    chi_square = max(0, abs(first_only - second_only) - 1) ** 2 / discordant
    # The square of a standard normal: its tail is the complementary error function's.
    return math.erfc(math.sqrt(chi_square / 2.0)), False
