"""The microphone as a source: PortAudio's thread fills a queue, the consumer's thread empties it."""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal, get_args

from stream_ser.config import BLOCK_S, GATHER_S
from stream_ser.errors import DeviceError
from stream_ser.events import Block, NoticeKind
from stream_ser.sources import reconnect
from stream_ser.sources.capture_clock import CaptureClock
from stream_ser.sources.portaudio import DeviceInfo, find_device, native_stderr_to_log, portaudio, quiet_native_stderr
from stream_ser.sources.reconnect import Channels

#: What to do when the consumer is late: ``drop-oldest``, lose audio, a gap; ``skip-hop``, hear all of it but leave out
#: predictions; ``block``, keep it all waiting, in memory.
Overload = Literal["drop-oldest", "skip-hop", "block"]
#: What to do when the device is gone: look for it, or raise.
OnLost = Literal["retry", "exit"]

#: PortAudio clocks that claim a block is older than this are not believed.
_MAX_LATENCY_S = 10.0
#: How often a wait looks up, so that Ctrl-C works where waits cannot be interrupted (Windows).
_POLL_S = 0.25
#: Silence of a device that is told, and that of one that has just been opened: a sound server in good health may take a
#: second to start.
_STALL_NOTICE_S, _SLOW_START_S = 0.5, 2.0
#: What is waited for arrives about when the clock says; without this it would often be looked for a moment too early.
_LATER_S = 0.002
#: How long a device may take to stop.
_CLOSE_S = 2.0
#: Between two tries to open a lost device.
_RETRY_S, _MAX_RETRY_S = 0.5, 8.0
#: ``skip-hop``: predictions are left out from one to the other.
_BEHIND_S, _CAUGHT_UP_S = 1.0, 0.25
#: Notices of one kind that come with the audio are this far apart.
_NOTICE_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class _Captured:
    """What callbacks brought; ``position`` counts the samples before it, whether or not they were dropped."""

    data: bytes
    channels: int
    position: int
    captured_at: float

    @property
    def end(self) -> int:
        """One past the position of the last sample."""
        return self.position + len(self.data) // (2 * self.channels)

    def continues(self, other: _Captured) -> bool:
        """Whether this came right after another."""
        return (self.position, self.channels) == (other.end, other.channels)


Told = tuple[NoticeKind, str]


class Microphone:
    """An input device on the grid of 16-bit samples; see :class:`~stream_ser.sources.recorder.WavRecorder`.

    One stream, or with a choice of channels one a channel: blocks are then ``(time, channel)``, see
    :mod:`stream_ser.sources.merge`.

    Captures from ``with`` on. Iteration ends after ``duration_s``, or once what was captured before
    :meth:`close` is through; any thread may call that. The books balance, unless ``duration_s`` cut off the rest:
    samples given out + ``lost_samples`` = ``captured_samples`` + ``missing_samples``.

    A device that delivers less than time passes is watched over (:mod:`stream_ser.sources.capture_clock`): what is
    missing becomes ``lost`` of the next block. One that is gone is looked for by its name, in longer and longer
    intervals, see :mod:`stream_ser.sources.reconnect`.

    Args:
        device: index, name or part of a name; the system's default input if None.
        sample_rate: Hz; if None, 16 kHz where the device takes it, else the device's default.
        channel: one of the device's channels, from 0; the mean of what is opened if None; several, or ``each``, as
            streams of their own.
        duration_s: seconds after which the iteration ends, exact to the sample.
        queue_seconds: audio that may wait for the consumer under ``drop-oldest``.
        block_seconds: audio in a block.
        stall_seconds: how long to wait for a block before the device counts as lost.
        overload: what to do when the consumer is late.
        on_lost: whether to look for a device that is lost, or to raise.

    Attributes:
        needs_s: tells how many seconds of audio must come before the consumer can make anything of them. Until then
            blocks are left lying, but for 200 ms at most, and then given out as one: a wake-up costs more than what is
            done in it. None: each is given out at once.
        name: the device's.
        parts: what tells its streams apart, ``("#1", "#2")``; ``("",)`` for one.
        sample_rate: Hz, once opened.
        overflows: how often PortAudio said that audio was lost before it got here (it does not say how much).
        lost_samples: dropped because the consumer was late, or missing, as counted in the blocks so far.
        captured_samples: delivered by the device.
        missing_samples: that the device should have delivered by the clock, and did not.

    Raises:
        DeviceError: no such device, or it cannot be opened.
    """

    warning = None

    def __init__(
        self,
        device: int | str | None = None,
        sample_rate: int | None = None,
        channel: Channels = None,
        duration_s: float | None = None,
        queue_seconds: float = 10.0,
        block_seconds: float = BLOCK_S,
        stall_seconds: float = 5.0,
        overload: Overload = "drop-oldest",
        on_lost: OnLost = "exit",
    ) -> None:
        if min(queue_seconds, block_seconds, stall_seconds) <= 0 or (duration_s is not None and duration_s <= 0):
            raise ValueError("durations must be positive")
        if overload not in get_args(Overload) or on_lost not in get_args(OnLost):
            raise ValueError(f"no such policy: overload {overload!r}, on_lost {on_lost!r}")
        self._sd = portaudio()
        self.device = find_device(device)
        self.name = self.device.name
        self._is_default = device is None or device == ""
        self.duration_s = duration_s
        self._channel = channel
        self._stall_s, self._overload, self._on_lost = stall_seconds, overload, on_lost
        self.sample_rate, self._channels = reconnect.settings(self.device, sample_rate, channel)
        self._taken = taken = reconnect.selected(self.device, channel)
        self.parts = tuple(f"#{number + 1}" for number in taken) if isinstance(taken, list) else ("",)
        self._block_frames = max(1, round(block_seconds * self.sample_rate))
        self._queue_blocks = max(1, math.ceil(queue_seconds * self.sample_rate / self._block_frames))
        #: What was captured; the number of a stream that ended; None once closed.
        self._queue: queue.SimpleQueue[_Captured | int | None] = queue.SimpleQueue()
        #: The one that was taken from the queue and did not belong to those before it.
        self._following: list[_Captured | int | None] = []
        self._clock = CaptureClock(self.sample_rate)
        self._held: list[_Captured] = []
        self._stream: Any = None
        self._streams = 0
        self._closing = threading.Event()
        self._closed_s = math.inf
        self._noise = contextlib.ExitStack()
        self._heard_s, self._opened_s, self._delivers = 0.0, math.inf, False
        self._behind = False
        self._told_s: dict[str, float] = {}
        self._told_overflows = 0
        #: Samples given out, or lost.
        self._given = 0
        self.needs_s: Callable[[], float] | None = None
        self.overflows = self.lost_samples = self.captured_samples = self.missing_samples = 0

    def _callback(self, data: Any, frames: int, times: Any, status: Any) -> None:
        # PortAudio's thread: copy, count and enqueue. A position rather than a count of drops keeps the sums exact.
        arrived_s = self._heard_s = time.monotonic()
        self._delivers = True
        # PortAudio's clock names the first sample; where it makes no sense, arrival counts.
        age_s = times.currentTime - times.inputBufferAdcTime - frames / self.sample_rate
        captured_at = arrived_s - age_s if 0.0 <= age_s <= _MAX_LATENCY_S else arrived_s
        self._held.append(_Captured(bytes(data), self._channels, self._clock.position, captured_at))
        missing = self._clock.arrived(frames, arrived_s)
        self.captured_samples += frames
        self.missing_samples += missing
        self.overflows += bool(status.input_overflow)
        # What comes late waits until it is known whether something is missing before it.
        if self._clock.settled:
            self._release(missing)

    def _release(self, missing: int = 0) -> None:
        held, self._held = self._held, []
        for item in held:
            if self._overload == "drop-oldest" and self._queue.qsize() >= self._queue_blocks:
                # A tenth of all that waits: block by block, every other one would go, and every word with them.
                for _ in range(max(1, self._queue_blocks // 10)):
                    with contextlib.suppress(queue.Empty):
                        self._queue.get_nowait()
            self._queue.put(replace(item, position=item.position + missing) if missing else item)

    def _open(self) -> None:
        self._streams += 1
        number = self._streams
        self._heard_s, self._delivers = time.monotonic(), False
        self._opened_s = min(self._opened_s, self._heard_s)
        try:
            with quiet_native_stderr():
                stream = self._stream = self._sd.RawInputStream(
                    samplerate=self.sample_rate,
                    blocksize=self._block_frames,
                    device=self.device.index,
                    channels=self._channels,
                    dtype="int16",
                    latency="high",
                    callback=self._callback,
                    finished_callback=lambda: self._queue.put(number),
                )
                stream.start()  # another thread may have taken it from self
            reconnect.listening(self, True)
        except self._sd.PortAudioError as error:
            self._stop()
            raise DeviceError(
                f"{self.name} cannot be opened ({error}); check that it is plugged in and that no other "
                "program holds it, or choose another of stream-ser devices"
            ) from error

    def __enter__(self) -> Microphone:
        """Start the capture.

        Raises:
            DeviceError: the device cannot be opened.
        """
        try:
            self._noise.enter_context(native_stderr_to_log())
            with reconnect.LOCK:
                self._open()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._noise.close()

    def __iter__(self) -> Iterator[Block]:
        """Blocks as they are captured, and empty ones that tell something.

        Raises:
            DeviceError: the device stopped delivering, and shall not be looked for.
        """
        self._given = 0
        end = None if self.duration_s is None else round(self.duration_s * self.sample_rate)
        for item in self._items(end):
            if not isinstance(item, _Captured):
                yield Block(reconnect.take(b"", self._channels, self._taken), notices=(item,))
                continue
            samples = reconnect.take(item.data, item.channels, self._taken)
            lost = item.position - self._given
            if end is not None:
                lost = min(lost, end - self._given)
                samples = samples[: end - self._given - lost]
            self.lost_samples += lost
            self._given += lost + len(samples)
            yield Block(samples, item.captured_at, lost, 0, self._is_behind(), self._news())
            if end is not None and self._given >= end:
                return

    def _items(self, end: int | None) -> Iterator[_Captured | Told]:
        """What was captured, and what is to be told; ends at ``end``, by the clock if need be, or once closed."""
        state: Literal["heard", "stalled", "lost"] = "heard"
        reason, retry_s = "", _RETRY_S
        while True:
            self._leave_lying(end)
            try:
                item = self._next()
            except queue.Empty:
                now_s = time.monotonic()
                if self._closing.is_set():
                    if now_s - self._closed_s < _CLOSE_S:  # what was held back is on its way
                        continue
                    break
                patience_s = _STALL_NOTICE_S if self._delivers else _SLOW_START_S
                if now_s - self._heard_s < min(patience_s, self._stall_s):
                    continue
                if end is not None and self._is_over(end, now_s):
                    break
                if state == "heard":
                    state = "stalled"
                    yield "stalled", f"{self.name} has delivered no audio for {now_s - self._heard_s:.1f} s"
                if now_s - self._heard_s < self._stall_s:
                    continue
                reason = f"no audio for {self._stall_s:g} s"
            else:
                if item is None and self._closing.is_set():
                    break
                if isinstance(item, _Captured):
                    if state != "heard":
                        kind: NoticeKind = "resumed" if state == "stalled" else "attached"
                        yield kind, f"{self.name} delivers audio again"
                    state, reason, retry_s = "heard", "", _RETRY_S
                    yield item
                    continue
                if item != self._streams:  # a stream that was given up
                    continue
                if end is not None and state == "lost" and self._is_over(end, time.monotonic()):
                    break
                reason = "the stream ended"
            lost = f"{self.name} was lost: {reason}"
            if self._on_lost == "exit":
                raise DeviceError(f"{lost}, expected it to go on; check the device and its cable")
            if state != "lost":
                state = "lost"
                yield "lost", f"{lost}; looking for it"
            yield from self._reopen(retry_s)
            retry_s = min(2 * retry_s, _MAX_RETRY_S)
        self._stop()
        while self._following or not self._queue.empty():
            if isinstance(item := self._next(), _Captured):
                yield item
        # The device that should have filled the rest of the time is silent.
        until = end or 0
        if self._closing.is_set():
            until = 0 if state == "heard" else self._clock.due(self._closed_s)
        if (missing := until - self._clock.position) > 0:
            self.missing_samples += missing
            yield _Captured(b"", self._channels, until, time.monotonic())

    def _leave_lying(self, end: int | None) -> None:
        """Sleep until what the consumer needs has arrived, or is about to."""
        if self.needs_s is None or self._following or not self._queue.empty():
            return
        needed = self._given + math.ceil(self.needs_s() * self.sample_rate)
        if end is not None:
            needed = min(needed, end)
        wait_s = self._clock.arrives_in(needed, self._block_frames, time.monotonic())
        if wait_s > 0:
            self._closing.wait(min(wait_s + _LATER_S, GATHER_S))

    def _next(self) -> _Captured | int | None:
        """The next of the queue; what was left lying, and follows one on the other, as one.

        Raises:
            queue.Empty: nothing comes.
        """
        item = self._following.pop() if self._following else self._queue.get(timeout=_POLL_S)
        if self.needs_s is None or not isinstance(item, _Captured):
            return item
        joined = [item]
        with contextlib.suppress(queue.Empty):
            while joined[-1].end - item.position < GATHER_S * self.sample_rate:
                following = self._queue.get_nowait()
                if not (isinstance(following, _Captured) and following.continues(joined[-1])):
                    self._following.append(following)
                    break
                joined.append(following)
        return replace(joined[-1], data=b"".join(part.data for part in joined), position=item.position)

    def _is_over(self, end: int, now_s: float) -> bool:
        """Whether audio that comes now, or is on its way since a second, lies behind the end."""
        return self._clock.due(now_s - 1.0) >= end or now_s - 1.0 - self._opened_s >= end / self.sample_rate

    def _reopen(self, retry_s: float) -> Iterator[Told]:
        """Try once, after a while, to open the device anew."""
        self._stop()
        self._heard_s = time.monotonic()
        if self._closing.wait(retry_s):
            return
        try:
            there = reconnect.looked(self)
            with reconnect.LOCK:
                if self._closing.is_set():
                    return
                self.device = reconnect.found_again(self, self._find, there)
                self._open_again()
            if self.device.name != self.name:
                yield "lost", f"{self.name} is gone; the default is now {self.device.name}"
                self.name = self.device.name
        except DeviceError as error:
            logging.getLogger("stream_ser.microphone").info("%s", error)
            if self._tells(str(error), 300.0):
                yield "lost", str(error)
            self._queue.put(self._streams)  # try again

    def _open_again(self) -> None:
        _, self._channels = reconnect.settings(self.device, self.sample_rate, self._channel)
        self._clock.reopened()
        self._open()

    def interrupt(self) -> None:
        """PortAudio is about to start anew, for another microphone; see :mod:`stream_ser.sources.reconnect`."""
        self._stop()

    def resume(self) -> None:
        """PortAudio has started anew."""
        if self._closing.is_set():
            return
        try:
            self.device = self._find()
            self._open_again()
        except DeviceError:
            self._queue.put(self._streams)

    def _find(self, devices: list[DeviceInfo] | None = None) -> DeviceInfo:
        """The device of the same name; if none was named, the default one where that is gone."""
        try:
            return find_device(self.name, devices)
        except DeviceError:
            if not self._is_default:
                raise
            return find_device(None, devices)

    def _tells(self, what: str, every_s: float = _NOTICE_EVERY_S) -> bool:
        """Whether something was not told a moment ago."""
        now_s = time.monotonic()
        if now_s - self._told_s.get(what, -math.inf) < every_s:
            return False
        self._told_s = {what: now_s} if len(self._told_s) > 10 else self._told_s | {what: now_s}
        return True

    def _is_behind(self) -> bool:
        if self._overload == "skip-hop":
            self._behind = self.backlog_s > (_CAUGHT_UP_S if self._behind else _BEHIND_S)
        return self._behind

    def _news(self) -> tuple[Told, ...]:
        news: list[Told] = []
        if self.overflows > self._told_overflows and self._tells("overflow"):
            self._told_overflows = self.overflows
            news.append(("overflow", f"{self.name} reports lost audio (overflow {self.overflows})"))
        if self._behind and self._tells("behind"):
            news.append(("behind", f"the recogniser is {self.backlog_s:.1f} s late: predictions are left out"))
        return tuple(news)

    @property
    def backlog_s(self) -> float:
        """Audio that waits for the consumer, in seconds."""
        return self._queue.qsize() * self._block_frames / self.sample_rate

    def _stop(self) -> None:
        self._streams += 1  # that it ends is no news
        reconnect.listening(self, False)
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(self._sd.PortAudioError), quiet_native_stderr():
                stream.close()
        self._release()

    def close(self) -> None:
        """Stop the capture; what is queued can still be iterated."""
        self._closed_s = min(self._closed_s, time.monotonic())
        self._closing.set()
        with reconnect.LOCK:
            self._stop()
        self._queue.put(None)
