"""The microphone as a source: PortAudio's thread fills a queue, the consumer's thread empties it."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import SAMPLE_RATE_HZ
from stream_ser.errors import DeviceError
from stream_ser.events import Block
from stream_ser.portaudio import find_device, portaudio, quiet_native_stderr

#: PortAudio clocks that claim a block is older than this are not believed.
_MAX_LATENCY_S = 10.0
#: How often a wait looks up, so that Ctrl-C works where waits cannot be interrupted (Windows).
_POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class _Captured:
    """One callback's worth; ``position`` counts the samples before it, whether or not they were dropped."""

    data: bytes
    position: int
    arrived_s: float
    age_s: float


class Microphone:
    """An input device, mono, on the grid of 16-bit samples; see :class:`~stream_ser.sources.WavRecorder`.

    Captures from ``with`` on. Iteration ends after ``duration_s``, or once what was captured before
    :meth:`close` is through; any thread may call that. When the consumer falls behind by more than
    ``queue_seconds`` the oldest blocks are dropped, and ``lost`` of the next one counts them exactly.

    Args:
        device: index, name or part of a name; the system's default input if None.
        sample_rate: Hz; if None, 16 kHz where the device takes it, else the device's default.
        channel: which of the device's channels, from 0; the mean of what is opened if None.
        duration_s: seconds after which the iteration ends, exact to the sample.
        queue_seconds: audio that may wait for the consumer.
        block_seconds: audio in a block.
        stall_seconds: how long to wait for a block before the device counts as lost.

    Attributes:
        name: the device's.
        sample_rate: Hz, once opened.
        overflows: how often PortAudio said that audio was lost before it got here (it does not say how much).
        lost_samples: dropped because the consumer was late, as counted in the blocks so far.
        captured_samples: delivered by the device.

    Raises:
        DeviceError: no such device, or it cannot be opened.
    """

    def __init__(
        self,
        device: int | str | None = None,
        sample_rate: int | None = None,
        channel: int | None = None,
        duration_s: float | None = None,
        queue_seconds: float = 10.0,
        block_seconds: float = 0.02,
        stall_seconds: float = 5.0,
    ) -> None:
        if min(queue_seconds, block_seconds, stall_seconds) <= 0 or (duration_s is not None and duration_s <= 0):
            raise ValueError("durations must be positive")
        self._sd = portaudio()
        self.device = find_device(device)
        self.name = self.device.name
        self.duration_s = duration_s
        if channel is not None and not 0 <= channel < self.device.input_channels:
            raise DeviceError(f"{self.name} has no channel {channel}, expected 0 to {self.device.input_channels - 1}")
        self._channel = channel
        self._stall_s = stall_seconds
        with quiet_native_stderr():
            self.sample_rate, self._channels = self._settings(sample_rate)
        self._block_frames = max(1, round(block_seconds * self.sample_rate))
        self._queue_blocks = max(1, math.ceil(queue_seconds * self.sample_rate / self._block_frames))
        self._queue: queue.SimpleQueue[_Captured | None] = queue.SimpleQueue()
        self._stream: Any = None
        self._closing = threading.Event()
        self.overflows = self.lost_samples = self.captured_samples = 0

    def _settings(self, sample_rate: int | None) -> tuple[int, int]:
        """The first rate and channel count that the device takes."""
        default_rate = self.device.default_sample_rate
        rates = [sample_rate] if sample_rate else list(dict.fromkeys([SAMPLE_RATE_HZ, default_rate]))
        most = self.device.input_channels
        counts = [most] if self._channel is not None else list(dict.fromkeys([1, min(2, most), most]))
        reason = ""
        for rate in rates:
            for channels in counts:
                try:
                    self._sd.check_input_settings(self.device.index, channels, "int16", samplerate=rate)
                except (self._sd.PortAudioError, ValueError) as error:
                    reason = str(error)
                else:
                    return rate, channels
        wanted = " or ".join(f"{rate} Hz" for rate in rates)
        raise DeviceError(
            f"{self.name} cannot be opened at {wanted} ({reason}); check that no other program holds it, or "
            "choose another device or rate"
        )

    def _callback(self, data: Any, frames: int, times: Any, status: Any) -> None:
        # PortAudio's thread: copy and enqueue. A position rather than a count of drops keeps the sums exact.
        arrived_s = time.monotonic()
        if self._queue.qsize() >= self._queue_blocks:
            with contextlib.suppress(queue.Empty):
                self._queue.get_nowait()
        age_s = times.currentTime - times.inputBufferAdcTime
        self._queue.put(_Captured(bytes(data), self.captured_samples, arrived_s, age_s))
        self.captured_samples += frames
        self.overflows += bool(status.input_overflow)

    def __enter__(self) -> Microphone:
        """Start the capture.

        Raises:
            DeviceError: the device cannot be opened.
        """
        try:
            with quiet_native_stderr():
                self._stream = self._sd.RawInputStream(
                    samplerate=self.sample_rate,
                    blocksize=self._block_frames,
                    device=self.device.index,
                    channels=self._channels,
                    dtype="int16",
                    latency="high",
                    callback=self._callback,
                    finished_callback=lambda: self._queue.put(None),
                )
                self._stream.start()
        except self._sd.PortAudioError as error:
            self.close()
            raise DeviceError(
                f"{self.name} cannot be opened ({error}); check that it is plugged in and that no other "
                "program holds it, or choose another of stream-ser devices"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Block]:
        """Blocks as they are captured.

        Raises:
            DeviceError: the device stopped delivering.
        """
        expected = 0
        end = None if self.duration_s is None else round(self.duration_s * self.sample_rate)
        while end is None or expected < end:
            item = self._next()
            if item is None:
                return
            samples = self._mono(item.data)
            lost = item.position - expected
            if end is not None:
                lost = min(lost, end - expected)
                samples = samples[: end - expected - lost]
            self.lost_samples += lost
            expected += lost + len(samples)
            yield Block(samples, self._captured_at(item), lost)

    def _next(self) -> _Captured | None:
        deadline_s = time.monotonic() + self._stall_s
        while True:
            try:
                item = self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                if self._closing.is_set():
                    return None
                if time.monotonic() < deadline_s:
                    continue
                reason = f"no audio for {self._stall_s:g} s"
            else:
                if item is not None or self._closing.is_set():
                    return item
                reason = "the stream ended"
            raise DeviceError(f"{self.name} was lost: {reason}, expected it to go on; check the device and its cable")

    def _mono(self, data: bytes) -> NDArray[np.float32]:
        frames = np.frombuffer(data, np.int16).reshape(-1, self._channels)
        if self._channel is not None:
            mono = frames[:, self._channel].astype(np.float32)
        elif self._channels == 1:
            mono = frames[:, 0].astype(np.float32)
        else:  # rounded, so that a recording in 16 bits is what was heard
            mono = np.rint(frames.mean(axis=1)).astype(np.float32)
        return cast(NDArray[np.float32], mono / np.float32(32768.0))

    def _captured_at(self, item: _Captured) -> float:
        """When the last sample was captured; when it arrived, if PortAudio's clock makes no sense."""
        length_s = len(item.data) / (2 * self._channels * self.sample_rate)
        age_s = item.age_s - length_s  # the clock names the first sample
        return item.arrived_s - age_s if 0.0 <= age_s <= _MAX_LATENCY_S else item.arrived_s

    def close(self) -> None:
        """Stop the capture; what is queued can still be iterated."""
        self._closing.set()
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(self._sd.PortAudioError):
                stream.close()
        self._queue.put(None)
