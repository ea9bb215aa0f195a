"""The commit that a training run notes, read without writing to the checkout."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("torch")

from stream_ser.train.checkpoint import current_commit

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_commit_and_whether_files_were_changed_since(tmp_path: Path) -> None:
    assert current_commit(tmp_path) == ""
    git(tmp_path, "init", "-q")
    assert current_commit(tmp_path) == ""
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")[:12]
    (tmp_path / "untracked").touch()
    (tmp_path / "file").touch()  # a new time is no change
    assert current_commit(tmp_path) == commit
    # The index is not rewritten, though git would like to note the new time, and nobody who commits is locked out.
    index = (tmp_path / ".git" / "index").read_bytes()
    assert current_commit(tmp_path) == commit
    assert (tmp_path / ".git" / "index").read_bytes() == index
    (tmp_path / ".git" / "index.lock").touch()
    (tmp_path / "file").write_text("two!")
    assert current_commit(tmp_path) == f"{commit}+"
