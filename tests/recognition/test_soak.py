"""Hours of audio in minutes: memory stays flat, and every position is exact. A week: ``tests/benchmarks/soak.py``."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from soak import soak


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_minutes_are_exact(rate):
    result = soak(900.0, rate=rate)
    assert [fault for fault in result.faults if "memory" not in fault] == []
    assert (result.audio_s, result.gaps) == (900.0, 1)
    assert result.predictions > 3_500
    assert result.decisions > 100


@pytest.mark.slow
@pytest.mark.parametrize(("hours", "rate", "real"), [(6.0, 16_000, False), (2.0, 44_100, False), (0.5, 48_000, True)])
def test_hours_leave_memory_as_it_was(hours, rate, real):
    result = soak(3600 * hours, rate=rate, real=real)
    assert result.faults == []
    assert result.audio_s == 3600 * hours
