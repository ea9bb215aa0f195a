"""Tests in real time never run two at once, and the tests of a file stay together: looked at, not assumed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from scheduling import group_of

TESTS = Path(__file__).parent
CONFTEST = """
import pytest
from scheduling import GroupScheduling

def pytest_xdist_make_scheduler(config, log):
    return GroupScheduling(config, log)
"""
#: Long enough that both workers take part.
MODULE = """
import os, pathlib, time
import pytest
{mark}
@pytest.mark.parametrize("number", range(6))
def test_it(number):
    time.sleep(0.05)
    with pathlib.Path("said.txt").open("a") as file:
        file.write(f"{{__name__}} {{os.environ['PYTEST_XDIST_WORKER']}}\\n")
"""


def test_all_files_with_a_sound_server_or_signals_are_one_group() -> None:
    groups = {path.stem: group_of(path) for path in TESTS.rglob("test_*.py")}
    found = {name for name, group in groups.items() if group == "real_time"}
    assert found == {"test_endings", "test_live", "test_live_capture", "test_live_faults", "test_live_streams"}
    assert groups["test_train"] == groups["test_pretrained"] == "septr_run"
    assert groups["test_audio"] is None


def test_groups_and_files_stay_on_one_worker(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    marks = {"test_sound": "audio_server", "test_signal": "signals", "test_a": "", "test_b": ""}
    for name, mark in marks.items():
        (tmp_path / f"{name}.py").write_text(MODULE.format(mark=mark and f"@pytest.mark.{mark}"))
    options = ["-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider", "-n", "2", "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS / "support")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    workers = defaultdict(set)
    for line in (tmp_path / "said.txt").read_text().splitlines():
        name, worker = line.split()
        workers[name].add(worker)
    assert [len(workers[name]) for name in marks] == [1, 1, 1, 1]
    assert workers["test_sound"] == workers["test_signal"]
