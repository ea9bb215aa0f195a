"""Measured runs: streams of speech pushed at the pace of a microphone or as fast as they go.

All streams of a run share one thread and one engine, as a server would that owns one core.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import GATHER_S
from stream_ser.events import Event, Prediction
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.sinks.jsonl import JsonLines

#: What a hop consists of, in order. ``features`` holds voice activity detection, ``decision`` all that is neither
#: features nor network, ``delivery`` one line of JSON an event.
STAGES = ("features", "inference", "decision", "delivery")
#: Predictions of a stream that are not counted: caches and branch predictors are cold.
WARM_UP = 4
#: Between the streams of a paced run being set up and its first block.
LEAD_S = 0.05


class Clock(Protocol):
    """Time, so that tests need none."""

    def now(self) -> float:
        """Seconds of a clock that never goes back; that of ``Block.captured_at``."""

    def cpu(self) -> float:
        """Seconds of processor time of this process, all threads."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The real one."""

    now = staticmethod(time.monotonic)
    cpu = staticmethod(time.process_time)
    sleep = staticmethod(time.sleep)


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles and maximum, in milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value; percentiles are linear interpolations between order statistics (numpy's default)."""
        return cls(*(float(value) for value in np.percentile(values, [50, 95, 99, 100])))


@dataclass(frozen=True, slots=True)
class Run:
    """What one run came to.

    Attributes:
        name: ``speech, paced``, ``speech, flat out`` or ``quiet, paced``.
        streams: pushed at once.
        hops: predictions that were measured, over all streams.
        audio_s: audio that was pushed, over all streams.
        wall_s: how long it took.
        stages: by name of :data:`STAGES`, a hop.
        compute: features, inference and decision together, a hop.
        latency: from the capture of a block's last sample to the delivery of what it brought; None flat out.
        age: from the capture of the last sample that a prediction saw to its delivery; None flat out.
        rtf: processor time for a second of audio of one stream.
        cpu_share: processor time over wall time: 1 is one core.
    """

    name: str
    streams: int
    hops: int
    audio_s: float
    wall_s: float
    stages: dict[str, Spread]
    compute: Spread
    latency: Spread | None
    age: Spread | None
    rtf: float
    cpu_share: float


@dataclass
class Measured:
    """Milliseconds of every hop so far."""

    stages: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in STAGES})
    compute: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    age: list[float] = field(default_factory=list)


class Stream:
    """One stream of a run: a recogniser, its sink, and audio that goes round.

    Args:
        recognizer: fresh or reset.
        samples: ``(time,)`` float32 at the model's rate.
        block: samples in a push.
        sink: where its lines go.
        first: where in ``samples`` the stream begins, so that streams do not all say the same at once.
    """

    def __init__(
        self, recognizer: Recognizer, samples: NDArray[np.float32], block: int, sink: TextIO, first: int = 0
    ) -> None:
        if block < 1 or samples.size < block:
            raise ValueError(f"block is {block}, expected 1 to {samples.size}")
        self.block = block
        self.pushed = 0
        self.hops = 0
        self._recognizer = recognizer
        # Whatever the position, what is pushed at once is one slice.
        most = round(GATHER_S * recognizer.card.features.sample_rate) + block
        self._samples = np.resize(samples, samples.size + most)
        self._period = samples.size
        self._position = first % samples.size
        self._sink = JsonLines(sink, flush=True)
        self._sink.open(recognizer.info("bench"))
        self._rate = recognizer.card.features.sample_rate
        self._spent_ms = 0.0

    @property
    def gathers(self) -> int:
        """Blocks that a microphone would give out together next: what it leaves lying, and the block that ends that."""
        needed_s = min(self._recognizer.needs_s, GATHER_S)
        return max(1, math.ceil(round(needed_s * self._rate) / self.block))

    def step(
        self,
        measured: Measured,
        clock: Clock,
        captured_at: float | None,
        counts: Callable[[Event], bool],
        blocks: int = 1,
    ) -> None:
        """Push what comes next and deliver what comes of it.

        Args:
            measured: gets the milliseconds of each hop that counts.
            clock: the time.
            captured_at: when the last sample was captured; None where that means nothing.
            counts: whether a prediction is a hop of this run.
            blocks: that are pushed as one.
        """
        size = blocks * self.block
        samples = self._samples[self._position : self._position + size]
        self._position = (self._position + size) % self._period
        started = clock.now()
        events = self._recognizer.push(samples, captured_at=captured_at)
        recognised = clock.now()
        for event in events:
            self._sink.write(event)
        delivered = clock.now()
        self.pushed += size
        self._spent_ms += 1e3 * (recognised - started)
        predictions = [e for e in events if isinstance(e, Prediction) and e.timing is not None]
        if not predictions:
            return
        # A block longer than a hop completes several: each has its share of what is not timed one by one.
        spent_ms, self._spent_ms = self._spent_ms / len(predictions), 0.0
        for prediction in predictions:
            if not counts(prediction):
                continue
            self.hops += 1
            timing = prediction.timing
            if self.hops <= WARM_UP or timing is None:
                continue
            known = (timing.features_ms, timing.inference_ms)
            rest = max(0.0, spent_ms - sum(known))
            hop = (*known, rest, 1e3 * (delivered - recognised) / len(predictions))
            for name, value in zip(STAGES, hop, strict=True):
                measured.stages[name].append(value)
            measured.compute.append(sum(known) + rest)
            if captured_at is not None:
                measured.latency.append(1e3 * (delivered - captured_at))
                unseen_s = (self.pushed - prediction.end) / self._rate
                measured.age.append(1e3 * (delivered - captured_at + unseen_s))


def asked(event: Event) -> bool:
    """Whether the network was asked: a hop of speech."""
    return isinstance(event, Prediction) and bool(event.probabilities)


def any_prediction(event: Event) -> bool:
    """A hop of speech or of silence."""
    return isinstance(event, Prediction)


def flat_out(stream: Stream, hops: int, rate: int, clock: Clock | None = None) -> Run:
    """Push one stream as fast as it goes until ``hops`` hops of speech were measured."""
    clock = clock or SystemClock()
    measured = Measured()
    cpu, wall = clock.cpu(), clock.now()
    while len(measured.compute) < hops:
        stream.step(measured, clock, None, asked)
        refuse_silence(stream, rate)
    return summarise("speech, flat out", [stream], measured, clock.now() - wall, clock.cpu() - cpu, rate)


def paced(
    streams: Sequence[Stream],
    rate: int,
    *,
    hops: int | None = None,
    seconds: float | None = None,
    quiet: bool = False,
    clock: Clock | None = None,
) -> Run:
    """Push streams at the pace of microphones, evenly spread over time, on this thread.

    As a microphone does, blocks of which nothing can come are left lying until there are enough, and pushed as one.

    Args:
        streams: fresh, with blocks of one length.
        rate: Hz.
        hops: go on until each stream has measured this many.
        seconds: or for so long.
        quiet: nobody speaks: every prediction is a hop, though the network is not asked.
        clock: the time.

    Raises:
        ValueError: neither or both of ``hops`` and ``seconds``.
    """
    if (hops is None) == (seconds is None):
        raise ValueError("expected either hops or seconds")
    clock = clock or SystemClock()
    counts = any_prediction if quiet else asked
    measured = Measured()
    block_s = streams[0].block / rate
    begin = clock.now() + LEAD_S
    # A block is there when its last sample is; each stream is a little later than the one before.
    waking = [stream.gathers for stream in streams]
    due = [(begin + (1 + index / len(streams)) * waking[index] * block_s, index) for index in range(len(streams))]
    heapq.heapify(due)
    cpu, wall = clock.cpu(), clock.now()
    while due:
        at, index = due[0]
        if (wait := at - clock.now()) > 0:
            clock.sleep(wait)
        stream = streams[index]
        stream.step(measured, clock, at, counts, waking[index])
        if not quiet:
            refuse_silence(stream, rate)
        done = stream.hops >= hops + WARM_UP if hops is not None else at - begin >= (seconds or 0.0)
        waking[index] = stream.gathers
        heapq.heappop(due) if done else heapq.heapreplace(due, (at + waking[index] * block_s, index))
    name = "quiet, paced" if quiet else "speech, paced"
    return summarise(name, streams, measured, clock.now() - wall, clock.cpu() - cpu, rate)


class Pushed(Protocol):
    """Audio on its way into a run: samples that were pushed, and hops that came of them."""

    pushed: int
    hops: int


def refuse_silence(stream: Pushed, rate: int) -> None:
    """End a run that measures nothing; a user's model may have thresholds that the clip never meets.

    Raises:
        ValueError: a minute without a hop.
    """
    if stream.hops == 0 and stream.pushed > 60 * rate:
        raise ValueError("no hop of speech in a minute of it: the model's silence_dbfs or its window leave none")


def summarise(name: str, streams: Sequence[Pushed], measured: Measured, wall_s: float, cpu_s: float, rate: int) -> Run:
    """What a run came to; the times as in :class:`Run`."""
    audio_s = sum(stream.pushed for stream in streams) / rate
    return Run(
        name=name,
        streams=len(streams),
        hops=len(measured.compute),
        audio_s=audio_s,
        wall_s=wall_s,
        stages={stage: Spread.of(values) for stage, values in measured.stages.items()},
        compute=Spread.of(measured.compute),
        latency=Spread.of(measured.latency) if measured.latency else None,
        age=Spread.of(measured.age) if measured.age else None,
        rtf=cpu_s / audio_s,
        cpu_share=cpu_s / wall_s,
    )


@dataclass(frozen=True, slots=True)
class Trial:
    """Streams at once, the 99th percentile of their latency in ms, and whether that was below the hop."""

    streams: int
    p99_ms: float
    cpu_share: float
    held: bool


def capacity(run: Callable[[int], Run], hop_ms: float, guess: int = 1, limit: int = 4_096) -> list[Trial]:
    """Find the largest number of streams whose 99th percentile of latency stays below the hop, by trying.

    Args:
        run: a paced run of so many streams.
        hop_ms: a prediction must be there before the next one is due.
        guess: where to begin; a good one saves time and changes nothing else.
        limit: most streams that are tried.

    Returns:
        Every trial, in order. The answer is the largest one that held; none did if the machine is too slow for one.
        Neighbouring trials differ by at most 5 %, or by one stream.
    """
    trials: list[Trial] = []

    def holds(streams: int) -> bool:
        result = run(streams)
        assert result.latency is not None
        trials.append(Trial(streams, result.latency.p99, result.cpu_share, result.latency.p99 < hop_ms))
        return trials[-1].held

    good, bad, streams = 0, limit + 1, min(max(1, guess), limit)
    while bad - good > max(1, good // 20):
        if holds(streams):
            good = streams
            streams = min(limit, 2 * good) if bad > limit else (good + bad) // 2
        else:
            bad = streams
            streams = max(1, bad // 2) if good == 0 else (good + bad) // 2
    return trials


def most_streams(trials: Sequence[Trial]) -> int:
    """The answer of :func:`capacity`; 0 if none held."""
    return max((trial.streams for trial in trials if trial.held), default=0)
