"""``stream-ser doctor`` in worlds that are broken on purpose."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import Terminal as Screen
from cli_fakes import call  # noqa: F401 - fixture
from separators import write_tiny_separator

from stream_ser.doctor import checks as doctor
from stream_ser.doctor.checks import REQUIRED, Check, examine, report, verdict
from stream_ser.doctor.environment import Session, Terminal, World
from stream_ser.errors import DeviceError, ModelError
from stream_ser.runtime import cuda
from stream_ser.sources.portaudio import DeviceInfo
from stream_ser.vad.silero import PACKAGE

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = dict.fromkeys((*REQUIRED, PACKAGE, "onnxruntime-gpu"), "99.1")
GOOD = World(
    terminal=Terminal(True, "utf-8", 100, "truecolor"),
    python=(3, 12, 1),
    bits=64,
    system="linux",
    machine="x86_64",
    version=VERSIONS.get,
    variable={"ORT_DISABLE_TELEMETRY": "1"}.get,
    portaudio=lambda: "PortAudio V19",
    devices=lambda: [DeviceInfo(3, "Desk microphone", "ALSA", 1, 48_000, True)],
    build=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
    driver=lambda: False,
    missing=lambda: [],
    cuda=lambda: 13,
    bundled=lambda: [Path("septr.onnx")],
    session=lambda path, provider: Session("CPUExecutionProvider", 7.5),
    separators=lambda: [Path("enhancer.onnx")],
    separate=lambda path: Session("CPUExecutionProvider", 0.5),
    voices=lambda: None,
    write=lambda folder: 10**12,
    current=lambda: Path("/here"),
    temporary=lambda: "/tmp",
    resolution_s=1e-9,
    monotonic=iter(range(10**6)).__next__,
    unix=lambda: 1.8e9,
)


def raising(error: Exception) -> Any:
    def probe(*_: object) -> Any:
        raise error

    return probe


def without(*names: str) -> Any:
    return {name: version for name, version in VERSIONS.items() if name not in names}.get


def named(checks: list[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found


def test_all_is_well_in_a_good_world() -> None:
    checks = examine(GOOD)
    assert {check.status for check in checks} == {"ok"}
    assert not any(check.remedy for check in checks)
    assert verdict(checks) == "all is well"
    assert report(checks)["ok"] is True


@pytest.mark.parametrize(
    ("broken", "name", "status", "found", "remedy"),
    [
        ({"python": (3, 9, 2)}, "python", "error", "3.9.2, .*needs 3.11 or newer", "install Python 3.11"),
        ({"bits": 32}, "python", "error", "needs 64 bit", "64-bit Python"),
        ({"version": without("soxr", "rich")}, "packages", "error", "rich is missing, soxr is missing",
         r'pip install "rich>=14\.3" "soxr>=0\.5"'),
        ({"version": (VERSIONS | {"numpy": "1.26.4"}).get}, "packages", "error", "numpy 1.26.4 is too old",
         r'pip install "numpy>=2\.3\.5"$'),
        ({"version": (VERSIONS | {"onnxruntime": "1.2"}).get}, "onnxruntime", "error",
         r"several flavours are installed \(onnxruntime 1.2, onnxruntime-gpu 99.1\), which overwrite each other",
         "^pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu$"),
        ({"version": (VERSIONS | {"onnxruntime": "1.2"}).get, "machine": "riscv64"}, "onnxruntime", "error", "several",
         "pip install onnxruntime$"),
        ({"version": without("onnxruntime-gpu")}, "onnxruntime", "error", "not installed", "onnxruntime-gpu>=1.23.2"),
        ({"version": (VERSIONS | {"onnxruntime-gpu": "1.9.0"}).get}, "onnxruntime", "error", "1.9.0 is too old", "pip"),
        ({"variable": {"ORT_DISABLE_TELEMETRY": "0"}.get}, "telemetry", "warning",
         "^on, because you set ORT_DISABLE_TELEMETRY=0: .* to Microsoft$", "unset"),
        ({"variable": {}.get}, "telemetry", "warning", "^on, because ORT_DISABLE_TELEMETRY is not set", "=1"),
        ({"driver": lambda: True, "missing": lambda: ["libcudart.so.13", "libcudnn.so.9"]}, "provider", "warning",
         "auto takes CPUExecutionProvider: CUDA cannot be used, for libcudart.so.13, libcudnn.so.9 cannot be loaded",
         r'pip install "stream-ser\[cuda\]"'),
        ({"driver": lambda: True, "missing": lambda: [cuda.DRIVER]}, "provider", "warning",
         "libcuda.so.1, the driver's", "install the NVIDIA driver"),
        ({"driver": lambda: True}, "provider", "warning", "all libraries load, but CUDA does not",
         "nvidia-smi .*CUDA 13"),
        ({"driver": lambda: True, "build": lambda: ["CPUExecutionProvider"]}, "provider", "warning",
         "built without CUDA",
         r"pip uninstall -y onnxruntime && pip install .stream-ser\[cuda\]"),
        ({"bundled": list}, "models", "error", "none is bundled", "--force-reinstall"),
        ({"session": raising(ModelError("septr.onnx: cut\noff"))}, "model septr", "error", "^septr.onnx: cut off$",
         "force-reinstall"),
        ({"separate": raising(ModelError("enhancer.onnx: cut\noff"))}, "separator enhancer", "error",
         "^enhancer.onnx: cut off$", "force-reinstall"),
        ({"version": without(PACKAGE)}, "voice activity detection", "warning", "is not installed",
         f"pip install {PACKAGE}"),
        ({"voices": raising(ModelError("broken"))}, "voice activity detection", "error", "broken", "--no-vad"),
        ({"portaudio": raising(DeviceError("no library"))}, "portaudio", "error", "no library", "libportaudio2"),
        ({"portaudio": raising(DeviceError("no library")), "system": "darwin"}, "portaudio", "error", "no", "brew"),
        ({"devices": list}, "devices", "warning", "no audio input", "connect a microphone"),
        ({"devices": raising(DeviceError("host error"))}, "devices", "error", "host error", "audio service"),
        ({"write": raising(PermissionError(13, "Permission denied"))}, "temporary folder", "error",
         r"/tmp: cannot be written \(Permission denied\)", "set TMPDIR"),
        ({"write": raising(PermissionError(13, "Permission denied"))}, "current folder", "warning",
         "^/here: cannot", "--out"),
        ({"current": raising(FileNotFoundError(2, "No such file"))}, "current folder", "warning",
         "^it: cannot be", "go to"),
        ({"write": lambda folder: 1024**2}, "temporary folder", "warning", "0.0 GiB free", "free some space"),
        ({"monotonic": iter(range(200, 0, -1)).__next__}, "clock", "error", "goes backwards", "kernel"),
        ({"unix": lambda: 0.0}, "clock", "warning", "the time of day is 1970-01-01", "set the system's clock"),
        ({"resolution_s": 0.015625}, "clock", "warning", "ticks every 15.625 ms", "positions count samples"),
        ({"terminal": Terminal(True, "ascii", 80, None)}, "terminal", "warning", "ascii, no colours: bars",
         "PYTHONUTF8"),
        ({"terminal": Terminal(True, "UTF-8", 40, None)}, "terminal", "warning", "40 columns", "60 columns wide"),
    ],
)  # fmt: skip
def test_a_broken_world_is_named_with_its_remedy(
    broken: dict[str, Any], name: str, status: str, found: str, remedy: str
) -> None:
    check = named(examine(replace(GOOD, **broken)), name)
    assert check.status == status
    assert re.search(found, check.found), check.found
    assert re.search(remedy, check.remedy), check.remedy
    assert "\n" not in check.found + check.remedy


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        ({"session": lambda path, provider: Session("CUDAExecutionProvider", 1.0)}, "auto takes CUDAExecutionProvider"),
        ({"build": lambda: ["CPUExecutionProvider"]}, "this onnxruntime is built without CUDA"),
        ({"missing": lambda: ["libcudart.so.13"]}, "no NVIDIA driver here"),
    ],
)
def test_auto_says_which_provider_it_took(broken: dict[str, Any], found: str) -> None:
    check = named(examine(replace(GOOD, **broken)), "provider")
    assert (check.status, check.remedy) == ("ok", "")
    assert found in check.found


@pytest.mark.parametrize("value", ["1", "true", "Yes", " ON ", "y"])
def test_telemetry_is_off_by_each_value_that_onnxruntime_takes(value: str) -> None:
    check = named(examine(replace(GOOD, variable={"ORT_DISABLE_TELEMETRY": value}.get)), "telemetry")
    assert (check.status, check.found) == ("ok", f"off (ORT_DISABLE_TELEMETRY={value})")
    assert check.data == {"on": False, "ORT_DISABLE_TELEMETRY": value}


def test_an_onnxruntime_without_telemetry_needs_no_variable() -> None:
    old = VERSIONS | {"onnxruntime-gpu": "1.28.2"}
    check = named(examine(replace(GOOD, version=old.get, variable={}.get)), "telemetry")
    assert (check.status, check.found) == ("ok", "off: onnxruntime 1.28.2 has none")


@pytest.mark.parametrize(
    "probe", ["version", "variable", "portaudio", "devices", "build", "session", "voices", "write", "monotonic"]
)
def test_whatever_breaks_the_others_are_still_checked(probe: str) -> None:
    checks = examine(replace(GOOD, **{probe: raising(RuntimeError("what\x1b[2J nobody expected"))}))
    errors = [check for check in checks if check.status == "error"]
    assert errors
    assert all(check.remedy and check.found.isprintable() for check in errors)
    assert {"python", "terminal"} <= {check.name for check in checks if check.status == "ok"}


def test_the_cpu_build_alone_is_right_where_there_is_a_gpu_build() -> None:
    """A lean installation: onnxruntime in the place of onnxruntime-gpu."""
    lean = {**VERSIONS, "onnxruntime": "1.32.0"}
    del lean["onnxruntime-gpu"]
    checks = examine(replace(GOOD, version=lean.get, build=lambda: ["CPUExecutionProvider"]))
    check = named(checks, "onnxruntime")
    assert (check.status, check.remedy) == ("ok", "")
    assert check.found.startswith("onnxruntime 1.32.0, the CPU build")
    assert verdict(checks) == "all is well"


def test_what_is_required_is_what_the_project_declares() -> None:
    requirements = pytest.importorskip("packaging.requirements")
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert declared
    lines = re.findall(r'^ +"(.*)",$', declared[1], re.MULTILINE)
    found: dict[str, list[str]] = {}
    for line in lines:
        requirement = requirements.Requirement(line)
        oldest = next(each.version for each in requirement.specifier if each.operator == ">=")
        found.setdefault(requirement.name, []).append(oldest)
    assert found.pop(PACKAGE)
    # The lowest of each: a platform may ask for a newer one.
    assert {found.pop("onnxruntime")[0], found.pop("onnxruntime-gpu")[0]} == {doctor.OLDEST_ONNXRUNTIME}
    assert {name: oldest for name, (oldest,) in found.items()} == REQUIRED
    assert f'requires-python = ">={".".join(map(str, doctor.OLDEST_PYTHON))}"' in text


# --- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    def become(**broken: Any) -> None:
        monkeypatch.setattr(
            "stream_ser.doctor.environment.World", lambda terminal: replace(GOOD, terminal=terminal, **broken)
        )

    become()
    return become


def test_plain_lines_where_nobody_watches(world: Any, call: Any) -> None:
    code, out, err = call("doctor")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "ok\tpython\t3.12.1, 64 bit, linux x86_64\t"
    assert lines[-1] == "all is well"
    assert "\x1b" not in out


def test_an_error_is_exit_code_1_a_warning_is_not(world: Any, call: Any) -> None:
    world(devices=list)
    code, out, _ = call("doctor")
    assert (code, out.splitlines()[-1]) == (0, "1 warning")
    world(devices=list, bits=32, portaudio=raising(DeviceError("none")))
    code, out, _ = call("doctor")
    assert (code, out.splitlines()[-1]) == (1, "2 errors")


def test_json_for_programs(world: Any, call: Any) -> None:
    world(python=(3, 8, 0))
    code, out, err = call("doctor", "--json")
    assert (code, err) == (1, "")
    told = json.loads(out)
    assert (told["schema"], told["ok"]) == (1, False)
    assert {tuple(check) for check in told["checks"]} == {("name", "status", "found", "remedy", "data")}
    by_name = {check["name"]: check for check in told["checks"]}
    assert by_name["python"]["data"]["version"] == "3.8.0"
    assert by_name["provider"]["data"] == {
        "build": ["CUDAExecutionProvider", "CPUExecutionProvider"],
        "auto": "CPUExecutionProvider",
        "driver": False,
        "missing": [],
    }
    assert by_name["devices"]["data"]["devices"][0]["name"] == "Desk microphone"


def test_a_terminal_gets_colours(world: Any, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world(devices=lambda: [DeviceInfo(0, "a\x1b[2Jb [red]", "ALSA", 1, 48_000, True)], python=(3, 8, 0))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Screen()
    monkeypatch.setattr(sys, "stdout", out)
    assert call("doctor")[0] == 1
    said = out.getvalue()
    assert "\x1b[32mok" in said
    assert "\x1b[1;31merror" in said
    # What a device is called is text.
    assert "a\\x1b[2Jb [red]" in said


# --- this machine ---------------------------------------------------------------------------------------------


def test_the_real_world_is_looked_at(call: Any) -> None:
    code, out, err = call("doctor", "--json")
    assert err == ""
    by_name = {check["name"]: check for check in json.loads(out)["checks"]}
    assert code == (0 if all(check["status"] != "error" for check in by_name.values()) else 1)
    for name in ("python", "packages", "onnxruntime", "telemetry", "model septr", "clock", "temporary folder"):
        assert by_name[name]["status"] == "ok", by_name[name]
    assert by_name["model septr"]["data"]["run_ms"] > 0
    assert by_name["provider"]["data"]["auto"] in by_name["provider"]["data"]["build"]


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="ELF files are Linux's")


@needs_linux
def test_the_names_of_an_elf_file_are_read() -> None:
    import _ctypes

    path = Path(getattr(_ctypes, "__file__", None) or sys.executable)
    assert any(name.startswith("libc.so") for name in cuda.needed_libraries(path))


@needs_linux
def test_a_damaged_elf_file_is_a_value_error(tmp_path: Path) -> None:
    import _ctypes

    path = tmp_path / "cut.so"
    for data in (b"", b"MZ" * 100, Path(getattr(_ctypes, "__file__", None) or sys.executable).read_bytes()[:300]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"cut\.so"):
            cuda.needed_libraries(path)


@needs_linux
@pytest.mark.skipif(cuda.provider_library() is None, reason="this onnxruntime has no CUDA provider")
def test_what_the_cuda_provider_needs_and_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    library = cuda.provider_library()
    assert library is not None
    assert any(name.startswith("libcudart.so.") for name in cuda.needed_libraries(library))
    assert isinstance(cuda.cuda_major(), int)

    def load(name: str) -> None:
        if not name.startswith("libcudart"):
            raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(cuda.ctypes, "CDLL", load)
    missing = cuda.missing_libraries()
    assert cuda.CUDNN in missing
    # onnxruntime up to 1.24 loads the driver's library by itself and does not name it.
    assert (cuda.DRIVER in missing) == (cuda.DRIVER in cuda.needed_libraries(library))
    assert not any(name.startswith(("libcudart", "libc.so", "libstdc")) for name in missing)


def test_every_kind_of_network_is_run(tiny_model: Path, speller: Path, tmp_path: Path) -> None:
    world = World(Terminal(False, "utf-8", 80, None))
    for path in (tiny_model, speller):
        assert world.session(path, "cpu").run_ms > 0.0
    assert world.separate(write_tiny_separator(tmp_path / "separator.onnx")).provider == "CPUExecutionProvider"
    with pytest.raises(ModelError, match="separator"):
        world.separate(tiny_model)
