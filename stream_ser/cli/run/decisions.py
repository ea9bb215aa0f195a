"""The decider's settings that were asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream_ser.config import DeciderConfig


@dataclass(frozen=True, slots=True)
class Decisions:
    """The decider's settings as asked for; None for the model's own."""

    threshold: float | None
    hold: float | None
    min_duration: float | None
    changes: bool
    steady: bool

    def config(self, own: DeciderConfig) -> DeciderConfig:
        """A model's settings with what was asked for."""
        from dataclasses import replace

        config = own.steadied() if self.steady else own
        asked = {
            "abstain_below": self.threshold,
            "hold_s": self.hold,
            "min_duration_s": self.min_duration,
            "change_distance": None if self.changes else 1.0,
        }
        return replace(config, **{name: value for name, value in asked.items() if value is not None})
