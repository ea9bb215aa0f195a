"""What :mod:`stream_ser.doctor.checks` looks at: the installation and the machine around it, as they are."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal

from stream_ser.runtime import cuda
from stream_ser.sources.portaudio import DeviceInfo, list_devices, portaudio


@dataclass(frozen=True, slots=True)
class Terminal:
    """Standard output.

    Attributes:
        is_terminal: rather than a file or a pipe.
        encoding: such as ``utf-8``.
        width: columns.
        colours: ``truecolor``, ``256``, ``standard``, or None.
    """

    is_terminal: bool
    encoding: str
    width: int
    colours: str | None


@dataclass(frozen=True, slots=True)
class Session:
    """A bundled network that was loaded and run: the provider that the session really got, and how long a run took."""

    provider: str
    run_ms: float


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _portaudio_version() -> str:
    return str(portaudio().get_portaudio_version()[1])


def _bundled() -> list[Path]:
    from stream_ser.runtime.engine import bundled

    return bundled()


def _separators() -> list[Path]:
    from stream_ser.separation.separator import bundled_separators

    return bundled_separators()


def _onnxruntime_providers() -> list[str]:
    from stream_ser.runtime.engine import available_providers

    return available_providers()


def _session(model: Path, provider: Literal["auto", "cpu"]) -> Session:
    import numpy as np

    from stream_ser.runtime.engine import load

    engine = load(model, provider)
    sound = np.zeros((engine.frames, engine.card.features.n_mels), np.float32)
    state = engine.initial_state()
    run_ms = _median_ms(lambda: engine.step(sound, state) if state else engine.probabilities(sound))
    return Session(engine.provider, run_ms)


def _separate(model: Path) -> Session:
    import numpy as np

    from stream_ser.runtime.engine import CPU
    from stream_ser.separation.separator import Separator

    separator = Separator(model)
    sound, state = np.zeros(separator.card.hop_length, np.float32), separator.initial_state()
    return Session(CPU, _median_ms(lambda: separator.separate(sound, state)))


def _median_ms(run: Callable[[], object]) -> float:
    took = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        took.append(time.perf_counter() - start)
    return 1000.0 * sorted(took)[2]


def _hears_voices() -> None:
    from stream_ser.vad.silero import SileroNetwork

    SileroNetwork(16_000)


def _write(folder: Path) -> int:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(1024))
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class World:
    """All that the checks look at; what a function raises is what is wrong.

    Attributes:
        terminal: standard output.
        python: version.
        bits: of a pointer.
        system: as ``sys.platform``.
        machine: as ``platform.machine()``.
        version: of an installed package, or None.
        variable: of the environment, or None.
        portaudio: its version.
        devices: the audio inputs.
        build: providers that onnxruntime was built with.
        driver: whether there is an NVIDIA driver.
        missing: CUDA libraries that cannot be loaded, after a session was tried.
        cuda: CUDA's major version that onnxruntime is built for.
        bundled: the bundled models.
        session: load and run a model on ``auto`` or ``cpu``.
        separators: the bundled ones.
        separate: load and run a separator.
        voices: run voice activity detection.
        write: write into a folder; returns the free bytes.
        current, temporary: folders.
        resolution_s: of the monotonic clock.
        monotonic: that clock, seconds.
        unix: time of day, seconds since 1970.
    """

    terminal: Terminal
    python: tuple[int, ...] = tuple(sys.version_info[:3])
    bits: int = 64 if sys.maxsize > 2**32 else 32
    system: str = sys.platform
    machine: str = field(default_factory=platform.machine)
    version: Callable[[str], str | None] = _version
    variable: Callable[[str], str | None] = os.environ.get
    portaudio: Callable[[], str] = _portaudio_version
    devices: Callable[[], list[DeviceInfo]] = list_devices
    build: Callable[[], list[str]] = _onnxruntime_providers
    driver: Callable[[], bool] = cuda.driver_present
    missing: Callable[[], list[str]] = cuda.missing_libraries
    cuda: Callable[[], int | None] = cuda.cuda_major
    bundled: Callable[[], list[Path]] = _bundled
    session: Callable[[Path, Literal["auto", "cpu"]], Session] = _session
    separators: Callable[[], list[Path]] = _separators
    separate: Callable[[Path], Session] = _separate
    voices: Callable[[], None] = _hears_voices
    write: Callable[[Path], int] = _write
    current: Callable[[], Path] = Path.cwd
    temporary: Callable[[], str] = tempfile.gettempdir
    resolution_s: float = field(default_factory=lambda: time.get_clock_info("monotonic").resolution)
    monotonic: Callable[[], float] = time.monotonic
    unix: Callable[[], float] = time.time
