"""Which settings an input device takes, and how one that was lost is found again while others are heard.

PortAudio looks for devices only when it starts, and to start it anew ends every stream of the process. So while other
microphones are heard, a process of its own looks first: they are interrupted only once the lost device is there, and
only if PortAudio does not know it already. What they miss meanwhile is a gap in their books.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import SAMPLE_RATE_HZ
from stream_ser.errors import DeviceError
from stream_ser.sources.portaudio import DeviceInfo, list_devices, portaudio, quiet_native_stderr, refresh_devices

#: Which channels of a device: the mean of all, one from 0, these, or each that it has.
Channels = int | Sequence[int] | Literal["each"] | None
#: More channels than people have microphones: a sound server's device claims 32 or more of any.
MOST_EACH = 16
_LOOK_S = 20.0
# Isolated, and then with the paths of this process: the working folder is no place to import from.
_LOOK = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); import dataclasses; "
    "from stream_ser.sources.portaudio import list_devices; "
    "print(json.dumps([dataclasses.asdict(device) for device in list_devices()]))"
)

#: Held by whoever opens, closes or looks for devices again: PortAudio is one for the whole process.
LOCK = threading.RLock()
_listening: list[Interruptible] = []


class Interruptible(Protocol):
    """A microphone with an open stream."""

    def interrupt(self) -> None:
        """Close the stream, for PortAudio is about to start anew."""

    def resume(self) -> None:
        """Open it again; where that fails, go on as with a device that was lost."""


def listening(microphone: Interruptible, on: bool) -> None:
    """Note that a microphone has an open stream, or no longer has."""
    with LOCK:
        others = [other for other in _listening if other is not microphone]
        _listening[:] = [*others, microphone] if on else others


def _others(microphone: Interruptible) -> list[Interruptible]:
    return [other for other in _listening if other is not microphone]


def selected(device: DeviceInfo, channel: Channels) -> list[int] | int | None:
    """What to take of ``(time, channel)`` frames: channels, one channel, or None for the mean.

    Raises:
        DeviceError: the device has no such channel, or more than ``each`` takes.
    """
    most = device.input_channels
    if channel is None:
        return None
    if isinstance(channel, str):
        if most > MOST_EACH:
            raise DeviceError(
                f"{device.name} offers {most} channels, more than the {MOST_EACH} that are heard one by one unasked; "
                "name those to hear, as in --channel 1 --channel 2"
            )
        return list(range(most))
    wanted = [channel] if isinstance(channel, int) else list(channel)
    for number in wanted:
        if not 0 <= number < most:
            have = "1 channel" if most == 1 else f"{most} channels"
            raise DeviceError(f"{device.name} has {have}, not {number + 1}; choose another channel or device")
    return channel if isinstance(channel, int) else wanted


def take(data: bytes, channels: int, wanted: list[int] | int | None) -> NDArray[np.float32]:
    """What :func:`selected` wants of interleaved 16-bit frames: ``(time,)``, or ``(time, channel)`` of several."""
    frames = np.frombuffer(data, np.int16).reshape(-1, channels)
    if wanted is not None:
        samples = frames[:, wanted].astype(np.float32)
    elif channels == 1:
        samples = frames[:, 0].astype(np.float32)
    else:  # rounded, so that a recording in 16 bits is what was heard
        samples = np.rint(frames.mean(axis=1)).astype(np.float32)
    return cast(NDArray[np.float32], samples / np.float32(32768.0))


def settings(device: DeviceInfo, sample_rate: int | None, channel: Channels) -> tuple[int, int]:
    """The first rate in Hz and number of channels that the device takes.

    Args:
        device: to be opened.
        sample_rate: Hz; if None, 16 kHz where the device takes it, else the device's default.
        channel: what is wanted; single channels are taken from all of them, for a sound server mixes them into fewer.

    Raises:
        DeviceError: it has no such channel, or takes none.
    """
    sd = portaudio()
    most = device.input_channels
    rates = [sample_rate] if sample_rate else list(dict.fromkeys([SAMPLE_RATE_HZ, device.default_sample_rate]))
    single = selected(device, channel) is not None
    counts = [most] if single else list(dict.fromkeys([1, min(2, most), most]))
    reason = ""
    for rate in rates:
        for channels in counts:
            try:
                with quiet_native_stderr():
                    sd.check_input_settings(device.index, channels, "int16", samplerate=rate)
            except (sd.PortAudioError, ValueError) as error:
                reason = str(error)
            else:
                return rate, channels
    wanted = " or ".join(f"{rate} Hz" for rate in rates)
    raise DeviceError(
        f"{device.name} cannot be opened at {wanted} ({reason}); check that no other program holds it, or choose "
        "another device or rate"
    )


def devices_elsewhere() -> list[DeviceInfo]:
    """The input devices as a process of its own sees them now.

    Raises:
        DeviceError: it cannot be started, or fails.
    """
    command = [sys.executable, "-I", "-c", _LOOK, json.dumps(sys.path)]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_LOOK_S, check=True)
        return [DeviceInfo(**device) for device in json.loads(done.stdout)]
    except (OSError, ValueError, TypeError, subprocess.SubprocessError) as error:
        raise DeviceError(f"cannot look for audio devices again: {error}") from error


def looked(microphone: Interruptible) -> list[DeviceInfo] | None:
    """What devices there are now; None where nobody else is heard, and PortAudio itself can look.

    Takes a while: not to be called while holding :data:`LOCK`.

    Raises:
        DeviceError: as :func:`devices_elsewhere`.
    """
    with LOCK:
        alone = not _others(microphone)
    return None if alone else devices_elsewhere()


def found_again(
    microphone: Interruptible,
    find: Callable[[list[DeviceInfo] | None], DeviceInfo],
    there: list[DeviceInfo] | None,
) -> DeviceInfo:
    """The lost device, known to PortAudio. To be called while holding :data:`LOCK`, until it is open.

    Args:
        microphone: that lost it.
        find: chooses among devices, PortAudio's if None.
        there: of :func:`looked`.

    Raises:
        DeviceError: it is not there.
    """
    if there is not None:
        wanted = find(there)
        known = [(device.index, device.name, device.host_api) for device in list_devices()]
        if (wanted.index, wanted.name, wanted.host_api) in known:
            return wanted
    others = _others(microphone)
    for other in others:
        other.interrupt()
    try:
        refresh_devices()
    finally:
        for other in others:
            other.resume()
    return find(None)
