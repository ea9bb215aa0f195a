"""No command connects to another machine, looks up a name or writes where docs/privacy.md does not say.

Each runs with an empty home and an emptied environment: where onnxruntime sees continuous integration, it is silent.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import guard
import numpy as np
import pytest
from generate import voice, write_wav
from guard import Guard, Seen
from voice_models import write_listener

import stream_ser
from stream_ser.doctor.checks import FIRST_WITH_TELEMETRY, FLAVOURS, TELEMETRY_SWITCH

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(stream_ser.__file__).parent
DOCUMENT = ROOT / "docs" / "privacy.md"
#: What each process opens, and Python's byte code beside the modules.
ALWAYS = ("/dev/null", "/dev/tty", "/dev/pts/*", "/proc/*", "*/__pycache__/*")
#: onnxruntime's own folder, under the cache folder.
TELEMETRY = ".cache/Microsoft/DeveloperTools/.onnxruntime/"
#: Packages that import onnxruntime.
IMPORTERS = frozenset({"onnxruntime", "torchmetrics"})


def _guard(kind: str, folder: Path) -> Guard:
    found = guard.strace() if kind == "strace" else guard.preload(folder)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(scope="session")
def best_guard(tmp_path_factory: pytest.TempPathFactory) -> Guard:
    """Strace where it works, else the preloaded library; without either nothing can be seen."""
    found = guard.strace()
    reasons = [found]
    if isinstance(found, str):
        found = guard.preload(tmp_path_factory.mktemp("guard"))
        reasons.append(found)
    if isinstance(found, str):
        pytest.skip("; ".join(map(str, reasons)))
    return found


class Place:
    """A machine's folders for one user: an empty home, a temporary folder and a folder to work in."""

    def __init__(self, folder: Path, guard: Guard) -> None:
        self.guard, self.folder = guard, folder
        self.home, self.temporary, self.work = folder / "home", folder / "tmp", folder / "work"
        for made in (self.home, self.temporary, self.work):
            made.mkdir()

    def environment(self, **more: str) -> dict[str, str]:
        """All that a command gets."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "TMPDIR": str(self.temporary), **more}

    def run(self, *command: object, **more: str) -> Seen:
        """Run a command line; ``more`` goes into its environment."""
        log = self.folder / f"log{sum(1 for _ in self.folder.glob('log*'))}"
        return self.guard.run([str(word) for word in command], self.environment(**more), self.work, log)

    def stream_ser(self, *arguments: object, **more: str) -> Seen:
        """Run ``stream-ser``, which must succeed."""
        done = self.run(sys.executable, "-m", "stream_ser", *arguments, **more)
        assert done.returncode == 0, done.stderr
        return done

    def complaints(self, seen: Seen) -> list[str]:
        """What a command did that docs/privacy.md does not allow."""
        home = str(self.home)
        allowed = [pattern.replace("~", home, 1) if pattern.startswith("~") else pattern for pattern in listed()]
        return seen.complaints([self.work, self.temporary], [*ALWAYS, *allowed])


@pytest.fixture
def place(tmp_path: Path, best_guard: Guard) -> Place:
    return Place(tmp_path, best_guard)


def listed() -> list[str]:
    """Patterns of the paths in the first column of the document's table of files."""
    table = DOCUMENT.read_text(encoding="utf-8").partition("<!-- written -->")[2].partition("\n\n## ")[0]
    paths = re.findall(r"^\| `([~/][^`]+)`", table, re.MULTILINE)
    assert "~/.cache/matplotlib/" in paths
    return [f"{path}*" if path.endswith("/") else path for path in paths]


def telemetry_version() -> bool:
    """Whether the onnxruntime that is installed has telemetry."""
    for name in FLAVOURS:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return tuple(map(int, version.split(".")[:2])) >= tuple(map(int, FIRST_WITH_TELEMETRY.split(".")))
    return False


needs_telemetry = pytest.mark.skipif(
    not telemetry_version() or sys.platform != "linux", reason="this onnxruntime is not known to have telemetry"
)


# --- the guards -----------------------------------------------------------------------------------------------

CHILD = """
import socket, subprocess, sys
if len(sys.argv) > 2:
    subprocess.run([sys.executable, *sys.argv[:2]], check=True)
else:
    open(sys.argv[1], "a").close()
    open("relative", "w").close()
    open("/etc/hostname").close()
    # Datagrams: to connect sends nothing. 192.0.2.0/24 and 2001:db8::/32 are nobody's.
    for host in ("192.0.2.1", "2001:db8::1", "127.0.0.1"):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect_ex((host, 443))
    with socket.socket(socket.AF_UNIX) as s:
        s.connect_ex("/nowhere")
    try:
        socket.getaddrinfo("localhost", 80)
    except OSError:
        pass
"""


@pytest.mark.parametrize("kind", ["strace", "preload"])
def test_a_guard_sees_what_a_grandchild_does(kind: str, tmp_path: Path) -> None:
    place = Place(tmp_path, _guard(kind, tmp_path))
    (place.work / "child.py").write_text(CHILD)
    outside = tmp_path / "outside"
    seen = place.run(sys.executable, "child.py", outside, "grandchild")
    assert seen.returncode == 0, seen.stderr
    told = seen.complaints([place.work], ALWAYS)
    assert [line for line in told if not line.startswith("lookup")] == [
        "address 192.0.2.1 443",
        "address 2001:db8::1 443",
        f"write {outside}",
    ]
    assert [line for line in told if line.startswith("lookup")]
    assert ("127.0.0.1", 443) in seen.addresses
    assert str(place.work / "relative") in seen.written
    assert place.run(sys.executable, "-c", "pass").complaints([place.work], ALWAYS) == []


def test_a_resolver_on_this_machine_is_no_excuse() -> None:
    seen = Seen(0, "", "", frozenset({("127.0.0.53", 53), ("::1", 6006)}), frozenset(), frozenset())
    assert seen.complaints([], []) == ["address 127.0.0.53 53"]


# --- telemetry is off -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("", "1"), ("0", "0"), ("true", "true")])
def test_the_user_decides_and_else_it_is_off(before: str | None, after: str) -> None:
    env = {"PATH": os.environ["PATH"]} | ({} if before is None else {TELEMETRY_SWITCH: before})
    code = f"import os, stream_ser; print(os.environ[{TELEMETRY_SWITCH!r}])"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == after


def lines_that_set_it() -> list[str]:
    """Of all modules of the package."""
    folders = (PACKAGE, ROOT / "train", ROOT / "export")
    texts = [path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py")]
    return [line for text in texts for line in text.splitlines() if re.search(rf"environ.*{TELEMETRY_SWITCH}", line)]


def imports(node: ast.AST) -> Iterator[str]:
    """Top packages of the import statements in a module, first to last, and of ``pytest.importorskip``."""
    found = [n for n in ast.walk(node) if isinstance(n, (ast.Import, ast.ImportFrom, ast.Call))]
    for part in sorted(found, key=lambda n: n.lineno):
        if isinstance(part, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in part.names)
        elif isinstance(part, ast.ImportFrom):
            yield (part.module or "").partition(".")[0]
        elif isinstance(part.func, ast.Attribute) and part.func.attr in {"importorskip", "import_module"}:
            yield from (a.value.partition(".")[0] for a in part.args[:1] if isinstance(a, ast.Constant))


def too_early(text: str) -> bool:
    """Whether a script imports onnxruntime, or what imports it, before stream_ser."""
    if not any(name in text for name in IMPORTERS):
        return False
    names = list(imports(ast.parse(text)))
    early = names[: names.index("stream_ser")] if "stream_ser" in names else names
    return bool(IMPORTERS & set(early))


def test_scripts_outside_the_package_import_it_before_onnxruntime() -> None:
    """Modules of the package need not: Python runs the package's own ``__init__`` before any of them."""
    modules = {"stream_ser", "train", "export", "build", "dist"}
    folders = [path for path in ROOT.iterdir() if path.is_dir() and path.name not in modules and path.name[0] != "."]
    scripts = [path for folder in folders for path in folder.rglob("*.py")]
    assert ROOT / "tests" / "benchmarks" / "hop.py" in scripts
    assert [str(path) for path in scripts if too_early(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("text", "early"),
    [
        ("import onnxruntime\nimport stream_ser", True),
        ("from torchmetrics.functional import audio", True),
        ("def f():\n    pytest.importorskip('onnxruntime')", True),
        ("import stream_ser\ndef f():\n    import onnxruntime", False),
        ("from stream_ser.runtime.engine import load\nimport torchmetrics", False),
    ],
)
def test_the_rule_can_fail(text: str, early: bool) -> None:
    assert too_early(text) == early


# --- the commands ---------------------------------------------------------------------------------------------


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "voice.wav", voice(2.0))


def test_demo_keeps_to_itself(place: Place) -> None:
    assert place.complaints(place.stream_ser("demo", "--fast")) == []
    assert list(place.home.rglob("*")) == []


def test_file_keeps_to_itself(place: Place, sound: Path, tiny_model: Path) -> None:
    seen = place.stream_ser("file", sound, "--model", tiny_model, "--format", "jsonl", "--output", "out.jsonl")
    assert str(place.work / "out.jsonl") in seen.written
    assert place.complaints(seen) == []
    assert list(place.home.rglob("*")) == []


def test_enroll_writes_a_profile_and_nothing_else(place: Place) -> None:
    model = write_listener(place.folder / "listener.onnx")
    quiet = np.zeros(16_000, np.float32)
    talk = write_wav(place.folder / "talk.wav", np.concatenate((voice(4.0), quiet, voice(2.0))))
    seen = place.stream_ser("enroll", "me", talk, "--model", model)
    assert place.complaints(seen) == []
    written = [path for path in place.home.rglob("*") if path.is_file()]
    assert [path.relative_to(place.home).parts[-3:] for path in written] == [("stream-ser", "voices", "me.json")]
    assert place.complaints(place.stream_ser("file", talk, "--model", model, "--voice", "me")) == []
    place.stream_ser("enroll", "--delete", "me")
    assert [path for path in place.home.rglob("*") if path.is_file()] == []


@needs_telemetry
@pytest.mark.parametrize("kind", ["strace", "preload"])
def test_without_the_one_line_each_guard_sees_the_telemetry(
    kind: str, tmp_path: Path, sound: Path, tiny_model: Path
) -> None:
    """A copy of the package, by links, in which the line is missing."""
    (line,) = lines_that_set_it()
    copy = tmp_path / "copy" / "stream_ser"
    copy.mkdir(parents=True)
    for path in PACKAGE.iterdir():
        if path.name not in {"__init__.py", "__pycache__"}:
            (copy / path.name).symlink_to(path)
    text = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    assert f"\n{line}\n" in text
    (copy / "__init__.py").write_text(text.replace(f"{line}\n", ""), encoding="utf-8")

    place = Place(tmp_path, _guard(kind, tmp_path))
    seen = place.stream_ser("file", sound, "--model", tiny_model, PYTHONPATH=str(copy.parent))
    told = place.complaints(seen)
    assert told
    assert all(said.startswith(f"write {place.home / TELEMETRY}") for said in told if not said.endswith(".pyc"))
    assert any("deviceid" in said for said in told)
    assert (place.home / TELEMETRY / "deviceid").is_file()


@needs_telemetry
@pytest.mark.parametrize(("value", "on"), [("0", True), (None, False)])
def test_a_user_may_have_the_telemetry(value: str | None, on: bool, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | ({} if value is None else {TELEMETRY_SWITCH: value})
    subprocess.run([sys.executable, "-c", "import stream_ser, onnxruntime"], env=env, check=True)
    assert (tmp_path / TELEMETRY / "deviceid").is_file() == on


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [("bench", "--hops", "2"), ("models",), ("doctor",), ("schema",)], ids=lambda c: c[0]
)
def test_other_commands_keep_to_themselves(command: tuple[str, ...], place: Place) -> None:
    assert place.complaints(place.stream_ser(*command)) == []


@pytest.mark.slow
def test_training_export_and_evaluation_keep_to_themselves(place: Place, tiny_crema_d: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from training import options

    data = ("--data", f"crema-d={tiny_crema_d}")
    small = options("train.epochs=1")
    trained = place.stream_ser("train", "septr", *data, "--out", "runs/tiny", *small, "--tensorboard")
    exported = place.stream_ser("export", "--model", "septr", "--out", "tiny.onnx")
    smaller = ("export", "--model", "septr", "--from", "tiny.onnx", "--precision", "int8-dynamic", *data)
    quantised = place.stream_ser(*smaller, "--out", "small.onnx")
    evaluated = place.stream_ser("evaluate", "tiny.onnx", *data, "--json")
    streamed = place.stream_ser("evaluate", "tiny.onnx", *data, "--stream")
    for seen in (trained, exported, quantised, evaluated, streamed):
        assert place.complaints(seen) == []
    assert (place.work / "small.onnx").stat().st_size < (place.work / "tiny.onnx").stat().st_size
