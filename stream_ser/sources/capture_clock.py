"""Whether a device delivers as much audio as time passes. Status flags miss stalls and losses: samples are counted.

Audio cannot arrive before it was spoken, but it may arrive late. So the earliest arrivals, as time minus samples
delivered, tell when the stream began; an arrival is late by what it lies above them. Lateness that a burst makes good
was a delay; lateness that stays is audio that never came.
"""

from __future__ import annotations

#: Arrivals within this are in time.
TOLERANCE_S = 0.1
#: Lateness that no longer shrinks, for this long, is a loss ...
SETTLE_S = 0.4
#: ... and it shrinks if it does so by this much.
_SHRINK_S = 0.02
#: A stream's first arrivals come in bursts of their own.
WARM_UP_S = 1.0
#: How far a sound card's clock may be off; audio that is lost more slowly than this is not seen.
DRIFT = 300e-6


class CaptureClock:
    """Counts the samples of one capture against the clock.

    Args:
        sample_rate: Hz.

    Attributes:
        position: samples since the start, missing ones included.
        settled: what has arrived so far is in time, or its loss is known; until then, where it lies is open.
    """

    def __init__(self, sample_rate: int) -> None:
        self.position = 0
        self.settled = True
        self._rate = sample_rate
        #: When sample 0 would have arrived at the earliest; None before the first arrival.
        self._origin_s: float | None = None
        self._warm_until_s = 0.0
        self._last_s = 0.0
        self._reopened = False
        self._late_since_s = self._least_s = 0.0

    def reopened(self) -> None:
        """The stream was opened anew: what its first arrival is late by is a loss."""
        self._reopened = True
        self.settled = True

    def due(self, now_s: float) -> int:
        """Samples that a faultless device would have delivered by now; 0 before the first arrival."""
        return 0 if self._origin_s is None else round((now_s - self._origin_s) * self._rate)

    def arrives_in(self, position: int, block: int, now_s: float) -> float:
        """Seconds until a sample arrives at the earliest, of a device that delivers blocks; any thread may ask.

        0 if it may be there, and as long as the device has not found its pace.

        Args:
            position: one past the sample.
            block: samples that are delivered at once.
            now_s: of the clock of :meth:`arrived`.
        """
        arrived, origin_s = self.position, self._origin_s
        blocks = -((arrived - position) // block)
        if origin_s is None or now_s < self._warm_until_s or blocks <= 0:
            return 0.0
        return max(0.0, origin_s + (arrived + blocks * block) / self._rate - now_s)

    def arrived(self, samples: int, now_s: float) -> int:
        """Take an arrival; returns the samples that are missing before what arrived since it was last ``settled``.

        Args:
            samples: that arrived; they count from now on.
            now_s: of a monotonic clock.
        """
        self.position += samples
        start_s = now_s - self.position / self._rate
        if self._origin_s is None:
            self._origin_s, self._warm_until_s, self._reopened = start_s, now_s + WARM_UP_S, False
        elif self._reopened:
            self._reopened, self._warm_until_s = False, now_s + WARM_UP_S
            self._last_s = now_s
            return self._miss(start_s - self._origin_s)
        elif now_s < self._warm_until_s:
            self._origin_s = start_s
        else:
            self._origin_s = min(start_s, self._origin_s + DRIFT * (now_s - self._last_s))
        self._last_s = now_s
        return self._judge(start_s - self._origin_s, now_s)

    def _judge(self, late_s: float, now_s: float) -> int:
        if late_s <= TOLERANCE_S:
            self.settled = True
            return 0
        if self.settled or late_s < self._least_s - _SHRINK_S:
            self.settled = False
            self._late_since_s, self._least_s = now_s, late_s
        elif now_s - self._late_since_s >= SETTLE_S:
            self.settled = True
            return self._miss(self._least_s)
        return 0

    def _miss(self, late_s: float) -> int:
        missing = max(0, round(late_s * self._rate))
        self.position += missing
        return missing
