"""Damaged audio files, cards and models: refused in one line or read, but no traceback, crash, hang or full memory.

A failure names the case: ``python tests/support/fuzz_audio.py NUMBER FILE`` and ``fuzz_models.py`` write it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="limits of a process are POSIX's")

WORKER = Path(__file__).parent / "support" / "fuzz_worker.py"
#: Lines that libmpg123 prints by itself about damaged MP3 files; nothing in libsndfile's interface turns them off.
NATIVE_NOISE = ("Note: ", "Warning: Xing stream size off", "[src/libmpg123/", "Warning: Encountered more data")
#: Give up after this many crashes: each costs the start of a process.
MOST_CRASHES = 5


@dataclass
class Found:
    """What a range of cases gave.

    Attributes:
        outcomes: how often each came about.
        failures: case and what was wrong with it.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)


def run(kind: str, first: int, count: int, folder: Path) -> Found:
    """Feed cases to the readers in a process of their own; after a crash, in another one from the next case on."""
    found = Found()
    end = first + count
    state = folder / "state"
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parent), "PYTHONFAULTHANDLER": ""}
    while first < end and len(found.failures) < MOST_CRASHES:
        command = [
            sys.executable,
            "-W",
            "error",
            str(WORKER),
            kind,
            str(first),
            str(end - first),
            str(state),
            str(folder),
        ]
        done = subprocess.run(command, env=env, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode == 0:
            told = json.loads(done.stdout.splitlines()[-1])
            found.outcomes.update(told["outcomes"])
            found.failures += [(number, wrong) for number, wrong in told["failures"] if not is_noise(wrong)]
            break
        assert state.exists(), done.stderr
        number = int(state.read_text())
        why = signal.strsignal(-done.returncode) if done.returncode < 0 else f"exit code {done.returncode}"
        found.failures.append((number, f"ended the process ({why}): {done.stderr[-1_500:]}"))
        first = number + 1
    return found


def is_noise(wrong: str) -> bool:
    """Whether all that a case did wrong is that the MP3 decoder talked."""
    if not wrong.startswith("printed: "):
        return False
    return all(line.startswith(NATIVE_NOISE) for line in wrong.removeprefix("printed: ").splitlines() if line)


def passes(kind: str, count: int, folder: Path, first: int = 0) -> Counter[str]:
    found = run(kind, first, count, folder)
    assert not found.failures, "\n".join(f"{kind} case {number}: {wrong}" for number, wrong in found.failures)
    assert found.outcomes.total() == count
    return found.outcomes


@pytest.mark.parametrize(("kind", "count"), [("audio", 400), ("card", 400), ("scan", 200), ("model", 100)])
def test_some_damaged_files(kind: str, count: int, tmp_path: Path) -> None:
    outcomes = passes(kind, count, tmp_path)
    # Damage of a kind that is always, or never, refused would try nothing.
    refused = outcomes["AudioError"] + outcomes["ModelError"]
    assert 0 < refused < count


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("audio", 20_000), ("card", 20_000), ("scan", 5_000), ("model", 2_000)])
def test_many_damaged_files(kind: str, count: int, tmp_path: Path) -> None:
    passes(kind, count, tmp_path, first=1_000)


def test_memory_is_that_of_the_worker_alone(tmp_path: Path) -> None:
    """A test run that holds more than the limit must not hide what the worker takes."""
    ballast = bytearray(os.urandom(4096)) * (400 * 1024**2 // 4096)
    assert [number for number, _ in run("self-test memory", 10, 3, tmp_path).failures] == [11]
    assert len(ballast) == 400 * 1024**2


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("crash", "Segmentation fault"),
        ("hang", "Profiling timer expired"),
        ("traceback", "ValueError: not ours"),
        ("two lines", "not one short, printable line"),
        ("noise", "torn screen"),
        ("memory", "took"),
    ],
)
def test_the_worker_notices(kind: str, said: str, tmp_path: Path) -> None:
    """What it looks for, made on purpose; the case before and the one after are fine."""
    found = run(f"self-test {kind}", 10, 3, tmp_path)
    assert [number for number, _ in found.failures] == [11]
    assert said in found.failures[0][1]
