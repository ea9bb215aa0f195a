"""Two sinusoids, one below and one above a boundary, and their sum."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from stream_ser.audio.wav import MAX_RATE_HZ, MIN_RATE_HZ
from stream_ser.errors import DataError

from .mixture_folder import Item, add_up

Phases = Literal["zero", "random"]
ROLES = ("mixture", "source_1", "source_2")
#: Of each sinusoid; two of them stay below full scale.
AMPLITUDE = 0.45
#: Periods by which every frequency keeps off zero, the boundary and Nyquist, so that two can be told apart in the time
#: there is (a Hann window's main lobe is four periods wide).
GUARD_PERIODS = 2.0
MAX_SETS, MAX_SECONDS = 1_000_000, 600.0


@dataclass(frozen=True)
class SineConfig:
    """What is drawn.

    Attributes:
        sets: number of mixtures.
        sample_rate: Hz.
        duration_s: of each.
        boundary_hz: the first sinusoid lies below, the second above; default: the middle between zero and Nyquist.
        phases: at the first sample: all zero, or drawn.

    Raises:
        DataError: a value out of range, or a boundary that leaves no frequency on one side.
    """

    sets: int = 100
    sample_rate: int = 8_000
    duration_s: float = 1.0
    boundary_hz: float | None = None
    phases: Phases = "zero"

    def __post_init__(self) -> None:
        if not 1 <= self.sets <= MAX_SETS:
            raise DataError(f"{self.sets} sets, expected 1 to {MAX_SETS:,}")
        if not MIN_RATE_HZ <= self.sample_rate <= MAX_RATE_HZ:
            raise DataError(
                f"a sampling frequency of {self.sample_rate} Hz, expected {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz"
            )
        if not 0.0 < self.duration_s <= MAX_SECONDS:
            raise DataError(f"a duration of {self.duration_s:g} s, expected more than 0 and at most {MAX_SECONDS:g} s")
        if self.phases not in get_args(Phases):
            raise DataError(f"phases {self.phases!r} is not one of {', '.join(get_args(Phases))}")
        guard, nyquist = self.guard_hz, self.sample_rate / 2
        lowest, highest = 2 * guard, nyquist - 2 * guard
        if lowest >= highest:
            raise DataError(
                f"{self.duration_s:g} s at {self.sample_rate} Hz are too short for two sinusoids that can be told "
                f"apart; take more than {4 * GUARD_PERIODS / nyquist:.3g} s"
            )
        if self.boundary_hz is not None and not lowest <= self.boundary_hz <= highest:
            raise DataError(
                f"a boundary of {self.boundary_hz:g} Hz leaves no room for a sinusoid on each side, expected "
                f"{lowest:g} to {highest:g} Hz (Nyquist is {nyquist:g} Hz, a sinusoid of {self.duration_s:g} s keeps "
                f"off by {guard:g} Hz); move the boundary, or raise the sampling frequency"
            )

    @property
    def guard_hz(self) -> float:
        """How far every frequency keeps off zero, the boundary and Nyquist."""
        return GUARD_PERIODS / self.duration_s

    @property
    def boundary(self) -> float:
        """The boundary, Hz."""
        return self.sample_rate / 4 if self.boundary_hz is None else self.boundary_hz

    @property
    def ranges_hz(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Lowest and highest frequency of the lower and of the upper sinusoid."""
        guard, boundary = self.guard_hz, self.boundary
        return (guard, boundary - guard), (boundary + guard, self.sample_rate / 2 - guard)


def draw(config: SineConfig, seed: int) -> Iterator[Item]:
    """The sets. Set ``n`` is the same however many there are.

    Args:
        config: what to draw.
        seed: of all draws.
    """
    time_s = np.arange(max(1, round(config.duration_s * config.sample_rate))) / config.sample_rate
    for number in range(config.sets):
        rng = np.random.default_rng((seed, number))
        hz = [float(rng.uniform(low, high)) for low, high in config.ranges_hz]
        phase = rng.uniform(0.0, 2.0 * math.pi, 2) if config.phases == "random" else np.zeros(2)
        parts = [
            (AMPLITUDE * np.sin(2.0 * math.pi * f * time_s + p)).astype(np.float32)
            for f, p in zip(hz, phase, strict=True)
        ]
        about = {f"frequency_{i}_hz": round(f, 6) for i, f in enumerate(hz, start=1)}
        about |= {f"phase_{i}_rad": round(float(p), 6) for i, p in enumerate(phase, start=1)}
        yield Item(dict(zip(ROLES, add_up(parts), strict=True)), about)
