"""Many streams, one engine: whoever has waited longest is served first, and what waits is bounded.

A server holds one pool for each core or GPU. It pushes blocks as they arrive and calls
:meth:`RecognizerPool.work` while something waits; each call takes streams to their next question, of voice activity
detection or of the model, and has each network answer all that ask it at once. A stream gets the events that a
recogniser of its own would give it, whoever else is there: with ``batch=1`` to the last bit, else with probabilities
that differ by rounding (1e-5).

Turns are those of start-time fair queueing (P. Goyal, H. Vin, H. Cheng, IEEE/ACM Trans. Networking 5(5), 1997), each
piece of at most a hop counting as one: streams at the pace of speech are served in the order of arrival, and one that
pushes faster takes turns with the others instead of passing them.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import DEFAULT_VAD, DeciderConfig, VadConfig
from stream_ser.errors import ModelError, OverloadError, StreamSerError
from stream_ser.events import Block, Event
from stream_ser.recognition.inference import Answer, Asking, ModelRequest, Request, answer, answered, answers
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.recognition.voice_profile import VoiceProfile
from stream_ser.runtime.engine import DEFAULT_MODEL, Engine, load
from stream_ser.vad.detector import VadRequest

#: What to do with audio for which a stream's queue has no room: ``drop-oldest``, lose what has waited longest, a gap in
#: the events; ``refuse``, take nothing and raise, so that whoever pushes waits.
PoolOverload = Literal["drop-oldest", "refuse"]
#: Streams that are asked about at once, at most, where the pool measures what is fastest.
MOST_AT_ONCE = 64
#: Streams whose chunks voice activity detection hears at once, where the pool decides: each then takes half of what it
#: takes alone, and more of them would save little.
_LISTENS = 32
#: A hop is several such chunks (five of the default model's) and one question to the model's network, which waits until
#: as many ask as are answered at once: while there is more to listen to, but for no more calls than this.
_PATIENCE = 6
#: Batches are as good as the quickest if a window takes no more than this share longer: nothing finer can be measured.
_WORTH = 0.05
#: No further round of measuring after this.
_MEASURED_S = 0.3
#: More bytes than the caches of a core hold.
_CACHES = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of one block of a stream.

    Attributes:
        stream: its name.
        events: as :meth:`Recognizer.push` returns them.
        error: why the stream was given up; it is closed then. Others go on.
    """

    stream: Hashable
    events: list[Event]
    error: StreamSerError | None = None


@dataclass
class _Stream:
    """One stream: what waits for it, and its place in line."""

    name: Hashable
    recognizer: Recognizer
    #: Blocks and the turn of each.
    queue: deque[tuple[int, Block]] = field(default_factory=deque)
    waiting: int = 0
    turn: int = 0
    #: In line, or being worked on.
    busy: bool = False
    work: Asking[list[Event]] | None = None
    ask: Request | None = None


class RecognizerPool:
    """Recognises many streams of mono samples with one engine, in batches where these are faster.

    :meth:`push` may be called from any thread, all else from one.

    Args:
        engine: a loaded model, or what :func:`stream_ser.load` takes.
        decider: smoothing and thresholds of all streams; default: those of the model's card.
        vad: voice activity detection of each stream; None for none.
        adapt: each stream gets to know its voice; see :class:`Recognizer`.
        batch: most streams in one call of a network; None measures what is fastest here. On one core that is 1 for
            ``septr``, whose window fills a core alone; small networks, such as the default one and that of voice
            activity detection, and GPUs gain.
        queue_s: audio of a stream that may wait; at least a hop.
        overload: what happens beyond.
        most_streams: open at once; each takes less than a megabyte.

    Raises:
        ModelError: see :func:`stream_ser.load` and :class:`Recognizer`.
        ValueError: a number is out of range.

    Example:
        >>> pool = RecognizerPool(vad=None, batch=4)
        >>> for caller in ("first", "second"):
        ...     pool.open(caller)
        ...     pool.push(caller, np.zeros(24_000, dtype=np.float32))
        >>> heard = pool.drain()
        >>> sorted({part.stream for part in heard}), heard[-1].events[-1].end
        (['first', 'second'], 23392)
        >>> pool.close("first")[-1].label
        'silence'
    """

    def __init__(
        self,
        engine: Engine | str | os.PathLike[str] = DEFAULT_MODEL,
        decider: DeciderConfig | None = None,
        *,
        vad: VadConfig | None = DEFAULT_VAD,
        adapt: bool = True,
        batch: int | None = None,
        queue_s: float = 2.0,
        overload: PoolOverload = "drop-oldest",
        most_streams: int = 10_000,
    ) -> None:
        self.engine = engine = load(engine) if isinstance(engine, (str, os.PathLike)) else engine
        features, window = engine.card.features, engine.card.window
        self._hop = window.hop * features.hop_length
        self._rate = features.sample_rate
        self._room = round(queue_s * self._rate)
        if overload not in get_args(PoolOverload):
            raise ValueError(f"overload {overload!r} is not one of {', '.join(get_args(PoolOverload))}")
        if self._room < self._hop:
            raise ValueError(f"queue_s is {queue_s:g}, expected at least a hop of {self._hop / self._rate:g} s")
        if most_streams < 1 or (batch is not None and batch < 1):
            raise ValueError("batch and most_streams must be at least 1")
        self.batch = fastest_batch(engine) if batch is None else batch
        self._listens = _LISTENS if batch is None else batch
        # Who is answered one by one need not wait for the others.
        self._asks = self.batch if engine.batches else 1
        self._overload, self._most = overload, most_streams
        self._settings: dict[str, Any] = {"decider": decider, "vad": vad, "adapt": adapt}
        self._streams: dict[Hashable, _Stream] = {}
        self._line: list[tuple[int, int, _Stream]] = []
        self._order = itertools.count()
        self._turn = 0
        #: Streams whose question waits for others that ask the model's network too, and how many calls it still may.
        self._held: list[_Stream] = []
        self._patience = _PATIENCE
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Open streams."""
        return len(self._streams)

    @property
    def waiting(self) -> bool:
        """Whether there is anything to :meth:`work` on."""
        return bool(self._line or self._held)

    def open(self, stream: Hashable, voice: VoiceProfile | None = None) -> None:
        """Begin a stream, with a voice that is known already or without.

        Raises:
            OverloadError: there are ``most_streams`` already.
            ValueError: it is open.
            VoiceError: the voice is of another model, or the model has no memory of one.
        """
        if stream in self._streams:
            raise ValueError(f"stream {stream!r} is open already")
        if len(self._streams) >= self._most:
            raise OverloadError(f"{self._most} streams are open, the most that this pool takes; close some")
        self._streams[stream] = _Stream(stream, Recognizer(self.engine, voice=voice, **self._settings))

    def recognizer(self, stream: Hashable) -> Recognizer:
        """The recogniser of a stream, to be read: ``info``, ``current``, ``posterior``, ``voice``, ``summary``.

        Raises:
            KeyError: it is not open.
        """
        return self._streams[stream].recognizer

    def push(
        self, stream: Hashable, samples: NDArray[np.float32], *, lost: int = 0, captured_at: float | None = None
    ) -> None:
        """Put a block in line. It is copied.

        Args:
            stream: an open one.
            samples: ``(time,)`` float32 at the card's sample rate, full scale at 1.0.
            lost: samples that were lost right before; see :meth:`Recognizer.push`.
            captured_at: ``time.monotonic()`` at the capture of the last sample.

        Raises:
            AudioError: a sample is NaN or infinite; nothing is taken.
            KeyError: the stream is not open.
            OverloadError: no room, under ``refuse``; nothing is taken.
            ValueError: not one-dimensional, or whole numbers.
        """
        state = self._streams[stream]
        samples = np.array(state.recognizer.checked(samples))
        with self._lock:
            if state.waiting + samples.size > self._room:
                if self._overload == "refuse":
                    raise OverloadError(
                        f"stream {stream!r}: {state.waiting / self._rate:.2f} s wait already, at most "
                        f"{self._room / self._rate:.2f} s may; push more slowly, or use a second pool"
                    )
                samples, lost = self._make_room(state, samples, lost)
            for first in range(0, max(1, samples.size), self._hop):
                piece = samples[first : first + self._hop]
                behind_s = (samples.size - first - piece.size) / self._rate
                at = None if captured_at is None else captured_at - behind_s
                state.turn = max(self._turn, state.turn) + 1
                state.queue.append((state.turn, Block(piece, at, 0 if first else lost)))
            state.waiting += samples.size
            if not state.busy:
                self._stand_in_line(state)

    def work(self) -> list[Heard]:
        """Serve those whose turn it is, with at most one call of each network.

        Returns:
            the blocks that are done with, those of a stream in order; most have no events.
        """
        done: list[Heard] = []
        listening: list[_Stream] = []
        while len(listening) < self._listens and len(self._held) < self._asks and len(done) < MOST_AT_ONCE:
            if (state := self._next()) is None:
                break
            if state.ask is None:
                self._advance(state, None, done)
            if state.ask is not None:
                (listening if isinstance(state.ask, VadRequest) else self._held).append(state)
        self._serve(listening, done)
        self._patience = self._patience - 1 if self._held else _PATIENCE
        if len(self._held) >= self._asks or not (self._line and self._patience):
            held, self._held, self._patience = self._held, [], _PATIENCE
            self._serve(held, done)
        return done

    def drain(self) -> list[Heard]:
        """:meth:`work` until nothing waits."""
        done = []
        while self.waiting:
            done += self.work()
        return done

    def close(self, stream: Hashable) -> list[Event]:
        """End a stream, out of turn: what waits of it, its last window and its open decision.

        Raises:
            AudioError: the stream is too short for a prediction; it is closed all the same.
            KeyError: it is not open.
            ModelError: the network cannot be run; it is closed all the same.
        """
        with self._lock:
            state = self._streams.pop(stream)
            self._line = [place for place in self._line if place[2] is not state]
            heapq.heapify(self._line)
            self._held = [held for held in self._held if held is not state]
            state.busy = True
            # Who looked it up before may still push: into a queue that nobody reads.
            queue, state.queue = state.queue, deque()
        events: list[Event] = []
        if state.work is not None and state.ask is not None:
            events += answered(state.work, self.engine, state.ask)
        for _, block in queue:
            events += answered(state.recognizer.asking(block), self.engine)
        return events + answered(state.recognizer.ending(), self.engine)

    def _make_room(self, state: _Stream, samples: NDArray[np.float32], lost: int) -> tuple[NDArray[np.float32], int]:
        """Drop what has waited longest: what is left of the new samples, and how many were lost before them."""
        over = state.waiting + samples.size - self._room
        gone = 0
        while state.queue and gone < over:
            _, block = state.queue.popleft()
            gone += block.samples.size
            state.waiting -= block.samples.size
            lost_before = block.lost + block.samples.size
            if state.queue:
                turn, following = state.queue[0]
                state.queue[0] = turn, Block(following.samples, following.captured_at, following.lost + lost_before)
            else:
                lost += lost_before
        cut = max(0, over - gone)
        return samples[cut:], lost + cut

    def _stand_in_line(self, state: _Stream) -> None:
        state.busy = True
        turn = state.queue[0][0] if state.work is None else self._turn
        heapq.heappush(self._line, (turn, next(self._order), state))

    def _next(self) -> _Stream | None:
        """The stream whose turn it is, with work or a question in hand."""
        with self._lock:
            while self._line:
                turn, _, state = heapq.heappop(self._line)
                self._turn = max(self._turn, turn)
                if state.work is None and state.queue:
                    _, block = state.queue.popleft()
                    state.waiting -= block.samples.size
                    state.work = state.recognizer.asking(block)
                if state.work is not None:
                    return state
                state.busy = False
            return None

    def _advance(self, state: _Stream, said: Answer | None, done: list[Heard]) -> None:
        """Do the work of a stream up to its next question or to its end; then it stands in line again."""
        assert state.work is not None
        try:
            state.ask = next(state.work) if said is None else state.work.send(said)
        except StopIteration as end:
            state.work = None
            done.append(Heard(state.name, end.value))
        except StreamSerError as error:
            self._give_up(state, error, done)
            return
        if said is None and state.ask is not None:
            return  # about to be answered
        with self._lock:
            if state.work is not None or state.queue:
                self._stand_in_line(state)
            else:
                state.busy = False

    def _serve(self, asking: list[_Stream], done: list[Heard]) -> None:
        """Have the network that they all ask answer them, and do the work up to their next questions."""
        if not asking:
            return
        for state, said in zip(asking, self._answers(asking, done), strict=True):
            if said is not None:
                state.ask = None
                self._advance(state, said, done)

    def _answers(self, asking: list[_Stream], done: list[Heard]) -> list[Answer | None]:
        """What the networks say to each; None for one that they fail on, which alone is given up."""
        asks = [state.ask for state in asking if state.ask is not None]
        try:
            return list(answers(self.engine, asks))
        except ModelError:
            found: list[Answer | None] = []
            for state, ask in zip(asking, asks, strict=True):
                try:
                    found.append(answer(self.engine, ask))
                except ModelError as error:
                    self._give_up(state, error, done)
                    found.append(None)
            return found

    def _give_up(self, state: _Stream, error: StreamSerError, done: list[Heard]) -> None:
        with self._lock:
            self._streams.pop(state.name, None)
            state.busy = True
            state.queue.clear()
        done.append(Heard(state.name, [], error))


def fastest_batch(engine: Engine, most: int = MOST_AT_ONCE, rounds: int = 6) -> int:
    """The number of streams at once with which one takes hardly longer than with any other, by trying.

    Of several such numbers it is the largest whose call lasts no longer than a tenth of a hop: too many cost a moment
    of waiting, too few cost streams.

    Args:
        engine: of any network; 1 for one that takes one stream at a time.
        most: streams that are tried at once. Numbers are doubled until two in a row save nothing.
        rounds: of which the quickest counts, fewer of a network that is slow. All numbers take turns in them, for a
            machine has its moods.
    """
    if not engine.batches:
        return 1
    features = engine.card.features
    silence = float(np.log(features.log_floor))
    ask = ModelRequest(np.full((engine.frames, features.n_mels), silence, np.float32), engine.initial_state())
    # What streams do between two calls goes over the caches, and the first of a batch finds the weights out of them.
    others = np.zeros(_CACHES // 4, dtype=np.float32)

    def each_s(size: int) -> float:
        others.sum()
        started = time.perf_counter()
        answers(engine, [ask] * size)
        return (time.perf_counter() - started) / size

    quickest_s: dict[int, float] = {}
    size = best = 1
    enough = time.perf_counter() + _MEASURED_S
    for turn in range(rounds):
        # In later rounds too: a hiccup may have hidden that larger ones pay.
        while size <= min(most, 4 * best):
            each_s(size)  # the first run of a size allocates
            quickest_s[size] = each_s(size)
            best = min(quickest_s, key=quickest_s.__getitem__)
            size *= 2
        if turn and time.perf_counter() >= enough:
            break
        for tried in quickest_s:
            quickest_s[tried] = min(quickest_s[tried], each_s(tried))
        best = min(quickest_s, key=quickest_s.__getitem__)
    least_s = min(quickest_s.values())
    good = [size for size, seconds in quickest_s.items() if (1.0 - _WORTH) * seconds <= least_s]
    short_s = 0.1 * engine.card.window.hop * features.hop_length / features.sample_rate
    return max((size for size in good if size * quickest_s[size] <= short_s), default=min(good))
