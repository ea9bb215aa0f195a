"""What the live view knows: updated by events and by the audio itself, drawn elsewhere."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream_ser.events import TOO_SHORT, Decision, Event, Gap, Notice, Prediction, Provisional, StreamInfo, Transcript
from stream_ser.sinks.draw.timeline import GAP
from stream_ser.text import printable

#: The timeline shows this much.
HISTORY_S = 60.0
#: Predictions over which latency and real-time factor are taken.
COSTS_KEPT = 100
#: Bottom of the level meter.
FLOOR_DBFS = -72.0
#: A peak stays this long, then falls this fast.
PEAK_HOLD_S = 1.5
PEAK_FALL_DB_PER_S = 20.0
#: The level falls no faster than this; it rises at once.
LEVEL_FALL_DB_PER_S = 60.0
#: A notice stays this long, and one of what still lasts until another comes.
NOTICE_S = 15.0
#: Lines of words that are kept: more than are shown.
LINES_KEPT = 8
_LASTING = frozenset({"stalled", "lost"})


@dataclass(frozen=True, slots=True)
class Moment:
    """What holds up to sample ``end``, for the timeline; the moment before it says since when."""

    end: int
    label: str
    confidence: float
    final: bool = False

    @property
    def shown(self) -> tuple[str, float, bool]:
        """What is shown, without the time."""
        return self.label, self.confidence, self.final


@dataclass
class LiveState:
    """Everything that a frame of the live view is drawn from.

    Attributes:
        model: name of the model.
        provider: execution provider that the session really got.
        source: device or file.
        labels: the model's labels.
        sample_rate: Hz, of every position.
        heard: samples since the stream's start, and what stands for lost ones.
        duration_s: of a file, to show the progress; None live.
        probabilities: calibrated, in the order of the labels; empty in silence and before the first prediction.
        current: what is shown now; None before the first prediction.
        moments: the last minute: what is final, then what is shown of what goes on.
        transcribes: the model says what is said, too.
        said: the newest lines of words; only the last one may go on.
        level_dbfs: RMS level of the input, falling softly.
        peak_dbfs: peak level, held.
        costs_ms: ``(end, milliseconds)`` of features and inference of the last predictions.
        age_ms: from the capture of a sample to its effect; None where the input is not live.
        lost: lost samples.
        overflows: times that the device reported an overflow.
        warning: what a person should know now, "" for nothing.
        warned_at: sample at which that became known, None while it lasts.
    """

    model: str = ""
    provider: str = ""
    source: str = ""
    labels: tuple[str, ...] = ()
    sample_rate: int = 1
    heard: int = 0
    duration_s: float | None = None
    probabilities: tuple[float, ...] = ()
    current: Provisional | None = None
    moments: deque[Moment] = field(default_factory=deque)
    transcribes: bool = False
    said: deque[Transcript] = field(default_factory=lambda: deque(maxlen=LINES_KEPT))
    level_dbfs: float = FLOOR_DBFS
    peak_dbfs: float = FLOOR_DBFS
    peak_at: int = 0
    costs_ms: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=COSTS_KEPT))
    age_ms: float | None = None
    lost: int = 0
    overflows: int = 0
    warning: str = ""
    warned_at: int | None = None

    def begin(self, info: StreamInfo) -> None:
        """Take over what is known of a new stream and forget the one before."""
        fresh = LiveState(
            model=info.model,
            provider=self.provider,
            source=printable(info.name),
            labels=info.labels,
            sample_rate=info.sample_rate,
            duration_s=self.duration_s,
            transcribes=info.transcribes,
        )
        self.__dict__.update(fresh.__dict__)

    def take(self, event: Event) -> None:
        """Note the costs of a prediction, the place of a gap, what a notice or a speaker says."""
        if isinstance(event, Prediction):
            if event.timing is not None:
                self.costs_ms.append((event.end, event.timing.features_ms + event.timing.inference_ms))
                self.age_ms = event.timing.age_ms
        elif isinstance(event, Decision):
            self._repaint(event)
        elif isinstance(event, Gap):
            # Up to the loss, what was shown before it went on.
            last = self.moments[-1] if self.moments else Moment(0, "", 0.0)
            if event.start > last.end:
                self.moments.append(Moment(event.start, last.label if last.label != GAP else "", last.confidence))
            self.moments.append(Moment(event.start + event.length, GAP, 0.0))
            self.lost += event.length
        elif isinstance(event, Transcript):
            if self.said and not self.said[-1].final:
                self.said.pop()
            self.said.append(event)
        elif isinstance(event, Notice):
            self.warn(event.text)
            if event.kind in _LASTING:
                self.warned_at = None

    def _repaint(self, decision: Decision) -> None:
        """Put a verdict in the place of what was shown live. Lost audio stays lost."""
        moments: deque[Moment] = deque()
        start = 0

        def add(end: int, moment: Moment) -> None:
            if moments and moments[-1].shown == moment.shown:
                moments.pop()
            moments.append(Moment(end, *moment.shown))

        final = Moment(decision.end, decision.label, decision.confidence, final=True)
        for moment in self.moments:
            first, last = max(start, decision.start), min(moment.end, decision.end)
            if first >= last or moment.label == GAP:
                add(moment.end, moment)
            else:
                if start < first:
                    add(first, moment)
                add(last, final)
                if last < moment.end:
                    add(moment.end, moment)
            start = moment.end
        if decision.end > start:
            add(decision.end, final)
        self.moments = moments

    def warn(self, text: str) -> None:
        """Show a line for a while."""
        self.warning, self.warned_at = printable(text), self.heard

    def hear(self, samples: NDArray[np.float32]) -> None:
        """Move the level meter.

        Args:
            samples: ``(time,)`` float32, full scale at 1.0; not empty.
        """
        self.heard += samples.size
        passed_s = samples.size / self.sample_rate
        power = float(np.mean(np.square(samples, dtype=np.float64)))
        self.level_dbfs = max(_dbfs(power), self.level_dbfs - LEVEL_FALL_DB_PER_S * passed_s, FLOOR_DBFS)
        peak = _dbfs(float(np.max(np.abs(samples))) ** 2)
        if peak >= self.peak_dbfs:
            self.peak_dbfs, self.peak_at = peak, self.heard
        elif (self.heard - self.peak_at) / self.sample_rate > PEAK_HOLD_S:
            self.peak_dbfs = max(peak, self.peak_dbfs - PEAK_FALL_DB_PER_S * passed_s, FLOOR_DBFS)

    def show(self, current: Provisional | None, probabilities: tuple[float, ...]) -> None:
        """Note what is decided now, and what has scrolled out of the timeline."""
        self.current = current
        self.probabilities = probabilities
        if current is not None:
            last = self.moments[-1].end if self.moments else 0
            if self.heard > last:
                moment = Moment(self.heard, "" if self.listening else current.label, current.confidence)
                if self.moments and moment.shown == self.moments[-1].shown:
                    self.moments.pop()
                self.moments.append(moment)
        if self.warned_at is not None and self.heard - self.warned_at > NOTICE_S * self.sample_rate:
            self.warning = ""
        oldest = self.heard - HISTORY_S * self.sample_rate
        while len(self.moments) > 1 and self.moments[1].end <= oldest:
            self.moments.popleft()

    @property
    def listening(self) -> bool:
        """True where nothing can be said yet: at the start, and at the onset of speech."""
        return self.current is None or self.current.label == TOO_SHORT

    @property
    def latency_ms(self) -> tuple[float, float] | None:
        """Median and 95th percentile of features and inference; None before the first prediction."""
        if not self.costs_ms:
            return None
        costs = sorted(cost for _, cost in self.costs_ms)
        return costs[(len(costs) - 1) // 2], costs[math.ceil(0.95 * len(costs)) - 1]

    @property
    def real_time_factor(self) -> float | None:
        """Time spent computing by time heard, over the predictions kept; None before the second one."""
        if len(self.costs_ms) < 2:
            return None
        span_s = (self.costs_ms[-1][0] - self.costs_ms[0][0]) / self.sample_rate
        spent_s = sum(cost for _, cost in list(self.costs_ms)[1:]) / 1000
        return spent_s / span_s if span_s > 0 else None


def _dbfs(power: float) -> float:
    return 10.0 * math.log10(power) if power > 0.0 else -math.inf
