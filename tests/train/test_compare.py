import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ser.train.evaluation.mcnemar import EXACT_BELOW, mcnemar, p_value


def test_counts_what_differs() -> None:
    result = mcnemar(np.array([1, 1, 1, 0, 0, 1], bool), np.array([1, 0, 0, 1, 0, 0], bool))
    assert (result.first_only, result.second_only, result.exact) == (3, 1, True)
    # Four tosses, one or fewer heads, both sides: 2 (1 + 4) / 16.
    assert result.p == pytest.approx(10 / 16)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (0, 0, 1.0),  # no difference at all
        (2, 2, 1.0),  # 2 (1 + 4 + 6) / 16 is more than one
        (6, 0, 2 / 64),
        (1, 9, 2 * 11 / 1024),
    ],
)
def test_few_differences_by_hand(first: int, second: int, p: float) -> None:
    assert p_value(first, second) == (pytest.approx(p), True)


def test_many_differences_by_hand() -> None:
    # (|10 - 30| - 1)^2 / 40 = 9.025; the .05 limit of chi-square with one degree of freedom is 3.841459.
    p, exact = p_value(10, 30)
    assert not exact
    assert p == pytest.approx(0.002663, abs=5e-7)
    assert p_value(20, 20)[0] == 1.0  # the correction must not make a difference out of none
    assert p_value(0, 1_000_000)[0] == 0.0


def test_the_limit_is_where_chi_square_takes_over() -> None:
    half = EXACT_BELOW // 2
    assert p_value(half, EXACT_BELOW - 1 - half)[1]
    assert not p_value(half, EXACT_BELOW - half)[1]


@given(first=st.integers(0, 300), second=st.integers(0, 300))
def test_p_is_symmetric_and_a_probability(first: int, second: int) -> None:
    p, _ = p_value(first, second)
    assert 0.0 <= p <= 1.0
    assert p == p_value(second, first)[0]
    assert p_value(first + second, 0)[0] <= p or math.isclose(p_value(first + second, 0)[0], p)


@pytest.mark.parametrize(("first", "second"), [(3, 9), (0, 5), (7, 17), (5, 30), (100, 140)])
def test_as_scipy_has_it(first: int, second: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    total = first + second
    if total < EXACT_BELOW:
        expected = stats.binomtest(first, total).pvalue
    else:
        expected = stats.chi2.sf((abs(first - second) - 1) ** 2 / total, 1)
    assert p_value(first, second)[0] == pytest.approx(expected, rel=1e-9)


def test_answers_on_other_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="not on the same clips"):
        mcnemar(np.ones(3, bool), np.ones(4, bool))
