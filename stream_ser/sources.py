"""Where audio comes from: files, pipes and microphones. The only place that knows threads and PortAudio.

Every source is a context manager and an iterable of :class:`~stream_ser.events.Block`, with a ``name``, a
``sample_rate`` and a ``duration_s`` (None where unknown). :func:`resampled` brings any of them to 16 kHz.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from stream_ser.audio import AudioFile, RawFormat, Resampler
from stream_ser.config import SAMPLE_RATE_HZ
from stream_ser.errors import AudioError, DeviceError, OutputError
from stream_ser.events import Block

#: PortAudio clocks that claim a block is older than this are not believed.
_MAX_LATENCY_S = 10.0
#: How often a wait looks up, so that Ctrl-C works where waits cannot be interrupted (Windows).
_POLL_S = 0.25
_WAV_LIMIT_BYTES = 2**32 - 4096
_UNKNOWN_FRAMES = 0x7FFF_F000 // 2
_STDERR_FD = 2
_stderr_lock = threading.RLock()


class Source(Protocol):
    """What :func:`resampled` and the pipeline's driver ask of a source."""

    name: str
    sample_rate: int

    def __iter__(self) -> Iterator[Block]:
        """Blocks until the audio ends."""


class _Closing:
    """``with source:`` closes it."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def resampled(source: Source, sample_rate: int = SAMPLE_RATE_HZ) -> Iterator[Block]:
    """The blocks of a source at another rate, non-empty, with ``lost`` and ``captured_at`` to match.

    Positions count exactly: after any number of input samples and losses the output, losses included, is
    that many times ``sample_rate / source.sample_rate``, rounded once, so nothing drifts. The filter is
    flushed at a loss: the two sides of a gap do not ring into each other.
    """
    if source.sample_rate == sample_rate:
        yield from (block for block in source if len(block.samples))
        return
    resampler = Resampler(source.sample_rate, sample_rate)
    taken = given = pending_lost = 0
    last_captured_at: float | None = None

    def emit(samples: NDArray[np.float32], captured_at: float | None) -> Iterator[Block]:
        nonlocal given, pending_lost
        if not len(samples):
            return
        given += len(samples)
        if captured_at is not None:  # the filter still holds back the newest samples
            captured_at -= max(0.0, taken / source.sample_rate - given / sample_rate)
        yield Block(samples, captured_at, pending_lost)
        pending_lost = 0

    def due() -> int:
        return (2 * taken * sample_rate + source.sample_rate) // (2 * source.sample_rate)

    for block in source:
        if block.lost:
            # Cut to what is due: rounding each stretch by itself would add up over many losses.
            yield from emit(resampler.flush()[: max(0, due() - given)], last_captured_at)
            taken += block.lost
            lost = max(0, due() - given)
            given += lost
            pending_lost += lost
        taken += len(block.samples)
        last_captured_at = block.captured_at
        yield from emit(resampler.push(block.samples), block.captured_at)
    yield from emit(resampler.flush(), last_captured_at)


class FileSource(_Closing):
    """A file, or standard input as ``-``, at 16 kHz.

    Args:
        path: anything libsndfile reads, or ``-``.
        realtime: pace the blocks by the monotonic clock, as a microphone would deliver them.
        block_samples: samples of a block at ``sample_rate``.
        raw: the input has no header and is of this format.
        sample_rate: of the blocks, Hz.

    Attributes:
        duration_s: None where unknown (a pipe).
        warning: what was wrong with a file that could be used all the same; filled at its end.

    Raises:
        AudioError: it cannot be opened or is no audio.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        realtime: bool = False,
        block_samples: int = SAMPLE_RATE_HZ // 10,
        raw: RawFormat | None = None,
        sample_rate: int = SAMPLE_RATE_HZ,
    ) -> None:
        self.name = os.fspath(path)
        self.sample_rate = sample_rate
        self.realtime = realtime
        self._closed = threading.Event()
        if self.name == "-":
            if sys.stdin is None or sys.stdin.isatty():
                raise AudioError("standard input is a terminal, expected audio piped into it: ... | stream-ser file -")
            self._audio = AudioFile(sys.stdin.buffer, sample_rate, block_samples, raw, "standard input")
        else:
            self._audio = AudioFile(path, sample_rate, block_samples, raw)
        self.duration_s = self._audio.duration_s

    @property
    def warning(self) -> str | None:
        """What was wrong with a file that could be used all the same."""
        return self._audio.warning

    def __iter__(self) -> Iterator[Block]:
        """Decode it, once.

        Raises:
            AudioError: as :meth:`stream_ser.audio.AudioFile.blocks`.
        """
        start_s = time.monotonic()
        position = 0
        for samples in self._audio.blocks():
            position += len(samples)
            due_s: float | None = None
            if self.realtime:  # due times count from the start, so that lateness does not add up
                due_s = start_s + position / self.sample_rate
                self._closed.wait(max(0.0, due_s - time.monotonic()))
            if self._closed.is_set():
                return
            yield Block(samples, captured_at=due_s)
            if self._closed.is_set():
                return

    def close(self) -> None:
        """End the iteration and release the file. Standard input stays open."""
        self._closed.set()
        self._audio.close()


class WavRecorder(_Closing):
    """Keeps what was captured as 16-bit PCM WAV, zeros where audio was lost.

    Blocks of a 16-bit source come back bit for bit when the recording is decoded.

    Args:
        path: file to write.
        sample_rate: of the blocks, Hz.
        force: overwrite an existing file.

    Raises:
        OutputError: the file exists, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate: int, force: bool = False) -> None:
        self.path = Path(path)
        self.samples = 0
        try:
            self._stream = self.path.open("wb" if force else "xb")
        except FileExistsError:
            raise OutputError(f"{self.path} exists already; choose another name or overwrite it explicitly") from None
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}; choose another place") from error
        self._wav = wave.open(self._stream, "wb")  # noqa: SIM115 - closed by close()
        # Until close() mends it the header says "to the end", so that
        # a recording that a crash cut short can be read.
        self._wav.setparams((1, 2, sample_rate, _UNKNOWN_FRAMES, "NONE", "not compressed"))

    def write(self, block: Block) -> None:
        """Append a block, after the zeros for what was lost before it.

        Raises:
            OutputError: the disk is full, or the recording reaches WAV's 4 GiB.
        """
        lost = block.lost
        while lost > 0:
            zeros = np.zeros(min(lost, SAMPLE_RATE_HZ), np.float32)
            self._write(zeros)
            lost -= len(zeros)
        self._write(block.samples)

    def _write(self, samples: NDArray[np.float32]) -> None:
        self.samples += len(samples)
        if 2 * self.samples > _WAV_LIMIT_BYTES:
            raise OutputError(f"{self.path} has reached 4 GiB, the most a WAV can hold; record in parts")
        pcm = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("<i2")
        try:
            self._wav.writeframesraw(pcm.tobytes())
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}; free some space") from error

    def close(self) -> None:
        """Complete the header and close the file.

        Raises:
            OutputError: the disk is full.
        """
        if self._stream.closed:
            return
        try:
            try:
                self._wav.close()
            finally:
                self._stream.close()
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}; free some space") from error


@contextlib.contextmanager
def quiet_native_stderr(log_path: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Keep what C libraries print (ALSA, PortAudio) off the screen, in the log ``stream_ser.portaudio``.

    File descriptor 2 of the whole process points elsewhere meanwhile, so keep it short: around
    initialisation and opening. What Python prints to stderr during it goes to the log too.

    Args:
        log_path: file to which the text is appended as well.
    """
    with _stderr_lock:
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            saved = os.dup(_STDERR_FD)
        except OSError:  # no stderr at all: nothing to keep quiet
            yield
            return
        with tempfile.TemporaryFile() as catch:
            os.dup2(catch.fileno(), _STDERR_FD)
            try:
                yield
            finally:
                if sys.stderr is not None:
                    sys.stderr.flush()
                os.dup2(saved, _STDERR_FD)
                os.close(saved)
                catch.seek(0)
                text = catch.read().decode("utf-8", "replace")
                for line in filter(None, map(str.strip, text.splitlines())):
                    logging.getLogger("stream_ser.portaudio").info("%s", line)
                if log_path is not None and text:
                    # A log that cannot be written must not end the capture.
                    with contextlib.suppress(OSError), open(log_path, "a", encoding="utf-8") as log:
                        log.write(text)


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One input device.

    Attributes:
        index: PortAudio's, valid until devices are plugged or unplugged.
        name: the device's.
        host_api: ALSA, Core Audio, Windows WASAPI, ...
        input_channels: as many as it claims; ``pulse`` and ``default`` claim 32.
        default_sample_rate: Hz.
        is_default: whether it is the system's default input.
    """

    index: int
    name: str
    host_api: str
    input_channels: int
    default_sample_rate: int
    is_default: bool


def _portaudio() -> Any:
    """The sounddevice module; importing it initialises PortAudio and freezes the list of devices."""
    try:
        with quiet_native_stderr():
            import sounddevice
    except (OSError, ImportError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DeviceError(
            f"the PortAudio library cannot be loaded ({reason}), expected for microphones: install the "
            "package libportaudio2 (Debian, Ubuntu) or run brew install portaudio (macOS); files work without it"
        ) from error
    return sounddevice


def list_devices() -> list[DeviceInfo]:
    """The input devices, in PortAudio's order; empty if there are none.

    Raises:
        DeviceError: PortAudio is missing or fails.
    """
    sd = _portaudio()
    try:
        with quiet_native_stderr():
            apis = sd.query_hostapis()
            devices = sd.query_devices()
            default = -1
            with contextlib.suppress(sd.PortAudioError, ValueError):  # there is none, or it has no input
                default = int(sd.query_devices(kind="input")["index"])
    except sd.PortAudioError as error:
        raise DeviceError(f"PortAudio cannot list the devices ({error}); check the system's audio service") from error
    return [
        DeviceInfo(
            int(device["index"]),
            str(device["name"]),
            str(apis[device["hostapi"]]["name"]),
            int(device["max_input_channels"]),
            round(device["default_samplerate"]),
            int(device["index"]) == default,
        )
        for device in devices
        if device["max_input_channels"] > 0
    ]


def _candidates(devices: list[DeviceInfo]) -> str:
    return "; ".join(f"{device.index}: {device.name} ({device.host_api})" for device in devices)


def find_device(wanted: int | str | None = None, devices: list[DeviceInfo] | None = None) -> DeviceInfo:
    """The device of an index, of a name or a part of it (case does not matter), or the default one.

    Args:
        wanted: index, text, or None for the system's default input.
        devices: to choose from; :func:`list_devices` by default.

    Raises:
        DeviceError: there is no input device, none fits, or several do; the message lists them.
    """
    devices = list_devices() if devices is None else devices
    if not devices:
        raise DeviceError(
            "no audio input device found, expected at least one: connect a microphone, check that the "
            "system's audio service is running, or recognise a file with stream-ser file"
        )
    if wanted is None or wanted == "":
        return next((device for device in devices if device.is_default), devices[0])
    if isinstance(wanted, int) or wanted.strip().isdecimal():
        for device in devices:
            if device.index == int(wanted):
                return device
        raise DeviceError(f"no input device has the index {int(wanted)}; there are {_candidates(devices)}")
    text = wanted.strip().casefold()
    exact = [device for device in devices if device.name.casefold() == text]
    found = exact or [device for device in devices if text in f"{device.name}, {device.host_api}".casefold()]
    # Windows lists each microphone once for every host API.
    if len(found) > 1 and len({device.name for device in found}) == 1:
        preferred = {device.host_api for device in devices if device.is_default}
        found = [device for device in found if device.host_api in preferred] or found
    if not found:
        raise DeviceError(f"no input device is called {wanted!r}; there are {_candidates(devices)}")
    if len(found) > 1:
        raise DeviceError(f"{wanted!r} fits several input devices; give the index of one: {_candidates(found)}")
    return found[0]


@dataclass(frozen=True, slots=True)
class _Captured:
    """One callback's worth; ``position`` counts the samples before it, whether or not they were dropped."""

    data: bytes
    position: int
    arrived_s: float
    age_s: float


class Microphone(_Closing):
    """An input device, mono, on the grid of 16-bit samples; see :class:`WavRecorder`.

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
        self._sd = _portaudio()
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
