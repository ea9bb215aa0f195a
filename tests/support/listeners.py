"""`stream-ser listen` as a process, and its sound server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


class Listener:
    """``stream-ser listen`` in a process of its own, read line by line."""

    def __init__(
        self, env: dict[str, str], model: Path, folder: Path, *options: str, device: str | None = "default"
    ) -> None:
        self.log = folder / "log.txt"
        command = [sys.executable, "-m", "stream_ser", "listen", "--model", str(model)]
        command += [] if device is None else ["--device", device]
        command += ["--format", "jsonl", "--no-view", "--no-vad", "--log-file", str(self.log), *options]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True)
        self.lines: list[dict] = []

    def until(self, **wanted: object) -> dict:
        """Read up to the line that has these values."""
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self.lines.append(json.loads(text))
            if wanted.items() <= self.lines[-1].items():
                return self.lines[-1]
        raise AssertionError(f"no {wanted} in {self.lines[-3:]}, {self.process.communicate()[1]}")

    def end(self) -> str:
        """Stop it; returns what it wrote to standard error."""
        self.process.terminate()
        return self.rest()

    def rest(self) -> str:
        """Read to the end; returns what it wrote to standard error, which is little."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.lines += [json.loads(text) for text in self.process.stdout]
        err = self.process.stderr.read()
        self.process.wait(60)
        return err

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def pactl(env: dict[str, str], *arguments: str) -> None:
    subprocess.run(["pactl", *arguments], env=env, check=True, capture_output=True, timeout=20)
