"""Measured runs of many streams through a :class:`RecognizerPool`, at the pace of microphones, on one thread."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from stream_ser.events import Prediction
from stream_ser.recognition.pool import Heard, RecognizerPool
from stream_ser.sinks.jsonl import JsonLines

from .runs import LEAD_S, STAGES, WARM_UP, Clock, Measured, Run, SystemClock, refuse_silence, summarise


@dataclass
class Source:
    """A stream of audio that goes round.

    Attributes:
        position: where in the audio its next block begins.
        began: time at which its first sample was captured.
        pushed: samples so far.
        hops: predictions so far.
    """

    position: int
    began: float
    pushed: int = 0
    hops: int = 0


class PooledRun:
    """One run.

    Args:
        pool: empty; its model's hop is the length of a block, as a server's would be.
        samples: ``(time,)`` float32 at the model's rate; the streams begin at different places.
        streams: opened in the pool.
        sink: where the lines of all go.
        clock: the time.
    """

    def __init__(
        self,
        pool: RecognizerPool,
        samples: NDArray[np.float32],
        streams: int,
        sink: TextIO,
        clock: Clock | None = None,
    ) -> None:
        card = pool.engine.card
        self._pool, self._clock = pool, clock or SystemClock()
        self._rate = card.features.sample_rate
        self._block = card.window.hop * card.features.hop_length
        # Whatever the position, a block is one slice.
        self._samples = np.resize(samples, samples.size + self._block)
        self._period = samples.size
        self._measured = Measured()
        self._sources = [Source(7 * self._block * index % self._period, 0.0) for index in range(streams)]
        self._sinks = []
        for index in range(streams):
            pool.open(index)
            self._sinks.append(JsonLines(sink, flush=True))
            self._sinks[-1].open(pool.recognizer(index).info("bench"))

    def paced(self, seconds: float) -> Run:
        """Push each stream's blocks as they would come, evenly spread over time, for so long."""
        pool, clock, sources = self._pool, self._clock, self._sources
        block_s = self._block / self._rate
        cpu, wall = clock.cpu(), clock.now()
        for index, source in enumerate(sources):
            source.began = wall + LEAD_S + index / len(sources) * block_s
        due = [(source.began + block_s, index) for index, source in enumerate(sources)]
        heapq.heapify(due)
        spent_s = owed_ms = 0.0
        while due or pool.waiting:
            if due and not pool.waiting and (wait := due[0][0] - clock.now()) > 0:
                clock.sleep(wait)
            started = clock.now()
            while due and due[0][0] <= started:
                at, index = heapq.heappop(due)
                self._push(index, at)
                if at + block_s - sources[index].began <= seconds:
                    heapq.heappush(due, (at + block_s, index))
            heard = pool.work()
            spent_s += clock.now() - started
            if any(part.events for part in heard):
                owed_ms = self._deliver(heard, owed_ms + 1e3 * spent_s)
                spent_s = 0.0
        return summarise("speech, paced", sources, self._measured, clock.now() - wall, clock.cpu() - cpu, self._rate)

    def _push(self, index: int, at: float) -> None:
        source = self._sources[index]
        self._pool.push(index, self._samples[source.position : source.position + self._block], captured_at=at)
        source.position = (source.position + self._block) % self._period
        source.pushed += self._block
        refuse_silence(source, self._rate)

    def _deliver(self, heard: list[Heard], spent_ms: float) -> float:
        """Write what came of a call of the network, and note what it cost each stream.

        Args:
            heard: blocks that are done with.
            spent_ms: since the delivery before, and what that one left.

        Returns:
            what the next one has to account for; negative where hops were begun before and ended now.
        """
        asked: list[tuple[Source, Prediction]] = []
        delivery_ms: list[float] = []
        for part in heard:
            if part.error is not None:
                raise part.error
            started = self._clock.now()
            index = int(str(part.stream))
            for event in part.events:
                self._sinks[index].write(event)
            for event in part.events:
                if isinstance(event, Prediction) and event.probabilities and event.timing is not None:
                    asked.append((self._sources[index], event))
                    delivery_ms.append(1e3 * (self._clock.now() - started))
        delivered = self._clock.now()
        if not asked:
            return spent_ms
        # What was asked in company counts by shares.
        known = [(p.timing.features_ms, p.timing.inference_ms) for _, p in asked if p.timing is not None]
        left_ms = spent_ms - sum(map(sum, known))
        rest = max(0.0, left_ms) / len(asked)
        for (source, prediction), own, written in zip(asked, known, delivery_ms, strict=True):
            source.hops += 1
            if source.hops <= WARM_UP:
                continue
            hop = (*own, rest, written)
            for name, value in zip(STAGES, hop, strict=True):
                self._measured.stages[name].append(value)
            self._measured.compute.append(sum(hop[:3]))
            brought_s = -(-prediction.end // self._block) * self._block / self._rate
            self._measured.latency.append(1e3 * (delivered - source.began - brought_s))
            self._measured.age.append(1e3 * (delivered - source.began - prediction.end / self._rate))
        return min(0.0, left_ms)
