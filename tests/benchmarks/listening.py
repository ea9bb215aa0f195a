"""What ``stream-ser listen`` takes of a core, capture and view included: ``python tests/benchmarks/listening.py``.

Plays a quiet room, then speech without a pause, into the null sink of a private PulseAudio server (Debian: pulseaudio,
pulseaudio-utils, libasound2-plugins) and lets the command hear its monitor, with the live view on a pseudo-terminal and
with JSON lines into a file. Processor time is that of the whole process, all threads, after the start. Linux only.

``--block`` measures other lengths of a microphone's block; several take turns.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pty
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from pulse import SINK, pulse_server

from stream_ser.bench import machine, material
from stream_ser.config import BLOCK_S

RATE = 16_000
#: Until the model is loaded, and the device has found its pace.
START_S = 6.0
ROOMS = {"quiet": material.quiet, "speech": material.speech}
_COMMAND = """
import sys
from stream_ser import config
config.BLOCK_S = float(sys.argv.pop(1))
from stream_ser import cli
cli.main()
"""
VIEWS = ("jsonl", "live")


def processor_s(pid: int) -> float:
    """User and system time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def listen(env: dict[str, str], view: str, block_s: float, seconds: float, folder: Path) -> float:
    """Share of a core of one run of the command."""
    out = folder / "out.jsonl"
    command = [sys.executable, "-c", _COMMAND, str(block_s), "listen"]
    if view == "jsonl":
        command += ["--format", "jsonl", "--output", str(out), "--force", "--quiet"]
    leader, follower = pty.openpty()
    with (folder / "stderr").open("wb") as stderr:
        listening = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=follower, stderr=stderr)
    os.close(follower)
    drained = threading.Thread(target=_drain, args=(leader,), daemon=True)
    drained.start()
    try:
        time.sleep(START_S)
        began, spent = time.monotonic(), processor_s(listening.pid)
        time.sleep(seconds)
        return (processor_s(listening.pid) - spent) / (time.monotonic() - began)
    finally:
        listening.send_signal(signal.SIGINT)
        try:
            code = listening.wait(30.0)
        except subprocess.TimeoutExpired:
            listening.kill()
            code = listening.wait()
        drained.join()
        os.close(leader)
        if code != 0:
            raise SystemExit((folder / "stderr").read_text() or f"listen ended with {code}")


def _drain(leader: int) -> None:
    try:
        while os.read(leader, 65_536):
            pass
    except OSError:  # Linux's end of a terminal
        pass


def main() -> None:
    """Print a line for each room, view and block."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind, which take turns")
    parser.add_argument("--block", type=float, nargs="+", default=[1_000 * BLOCK_S], metavar="MS")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    shares: dict[tuple[str, str, float], list[float]] = {}
    with tempfile.TemporaryDirectory() as name, pulse_server() as env:
        folder = Path(name)
        env |= {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
        for room, sound in ROOMS.items():
            samples = sound(RATE)
            every = options.rounds * len(VIEWS) * len(options.block) * (options.seconds + START_S + 10.0)
            soundfile.write(folder / "room.wav", np.resize(samples, int(every * RATE)), RATE)
            with subprocess.Popen(["paplay", "--device", SINK, str(folder / "room.wav")], env=env) as player:
                try:
                    for _, view, block_ms in itertools.product(range(options.rounds), VIEWS, options.block):
                        share = listen(env, view, block_ms / 1_000, options.seconds, folder)
                        shares.setdefault((room, view, block_ms), []).append(share)
                finally:
                    player.terminate()
    runs = [
        {"room": room, "view": view, "block_ms": block_ms, "core": statistics.median(every), "runs": every}
        for (room, view, block_ms), every in shares.items()
    ]
    if options.json:
        print(json.dumps({"machine": machine.describe(), "seconds": options.seconds, "listening": runs}, indent=1))
        return
    for run in runs:
        least, most = min(run["runs"]), max(run["runs"])
        print(
            f"{run['room']:>6}, {run['view']:>5}, blocks of {run['block_ms']:g} ms: "
            f"{100 * run['core']:.1f} % of a core, {100 * least:.1f} to {100 * most:.1f} over {options.rounds} runs"
        )


if __name__ == "__main__":
    main()
