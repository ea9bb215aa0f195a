"""PortAudio: its library, what it prints, and the input devices that it finds."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from stream_ser.errors import DeviceError

_STDERR_FD = 2
_stderr_lock = threading.RLock()


@contextlib.contextmanager
def quiet_native_stderr() -> Iterator[None]:
    """Keep what C libraries print (ALSA, PortAudio) off the screen, in the log ``stream_ser.sources.portaudio``.

    File descriptor 2 of the whole process points elsewhere meanwhile, so keep it short: around
    initialisation and opening. What Python prints to stderr during it goes to the log too.
    """
    with _stderr_lock:
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            saved = os.dup(_STDERR_FD)
        except OSError:  # no stderr at all: nothing to keep quiet
            yield
            return
        with _scratch() as catch:
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


def _scratch() -> BinaryIO:
    """Where noise may go; nowhere, if there is no place for temporary files: a full disk ends no capture."""
    try:
        return cast(BinaryIO, tempfile.TemporaryFile())
    except OSError:
        return Path(os.devnull).open("r+b")


@contextlib.contextmanager
def native_stderr_to_log() -> Iterator[None]:
    """Send what C libraries print to the log ``stream_ser.sources.portaudio`` for as long as a stream is open.

    ALSA and PortAudio print from threads of their own, whenever something happens. File descriptor 2 becomes a pipe
    that a thread empties; Python's own standard error goes on writing where it did. Only Linux has such noise.
    """
    if sys.platform != "linux":
        yield
        return
    with _stderr_lock:
        try:
            saved = os.dup(_STDERR_FD)
        except OSError:  # no stderr at all
            saved = -1
        if saved >= 0:
            python = _python_stderr()
            reading, writing = os.pipe()
            os.dup2(writing, _STDERR_FD)
            os.close(writing)
            _write_to(python, saved)
    if saved < 0:
        yield
        return
    reader = threading.Thread(target=_log_lines, args=(reading,), name="native stderr", daemon=True)
    reader.start()
    try:
        yield
    finally:
        with _stderr_lock:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(saved, _STDERR_FD)
            _write_to(python, _STDERR_FD)
            os.close(saved)
        # A child process may hold the other end of the pipe.
        reader.join(1.0)


def _python_stderr() -> io.FileIO | None:
    """What ``sys.stderr`` writes to, if that is the process's own; a test's or a notebook's stream is left alone."""
    buffer = getattr(sys.stderr, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # PYTHONUNBUFFERED leaves the buffer out
    if isinstance(raw, io.FileIO) and not raw.closed and not raw.closefd and raw.fileno() == _STDERR_FD:
        return raw
    return None


def _write_to(raw: io.FileIO | None, descriptor: int) -> None:
    """Change the descriptor of a stream in place, for others keep the object."""
    if sys.stderr is not None:
        sys.stderr.flush()
    if raw is not None:
        raw.__init__(descriptor, "wb", closefd=False)  # type: ignore[misc]


def _log_lines(descriptor: int) -> None:
    logger = logging.getLogger("stream_ser.portaudio")
    with os.fdopen(descriptor, "r", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.strip():
                logger.info("%s", line.strip())


def refresh_devices() -> None:
    """Have PortAudio look for devices again, which it does by itself only when it starts.

    Every open stream of this process ends.
    """
    sd = portaudio()
    with quiet_native_stderr():  # there is no public name for the two
        with contextlib.suppress(sd.PortAudioError):
            sd._terminate()
        with contextlib.suppress(sd.PortAudioError):
            sd._initialize()


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


def portaudio() -> Any:
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
    sd = portaudio()
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
