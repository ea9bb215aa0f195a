"""Wall time of whole commands, start-up included: ``python tests/benchmarks/startup.py [--runs 10]``.

Prints the median and the extremes for ``--help`` and for ``file`` on the first 3 s of the demo clip.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile

CLIP = Path(__file__).parents[2] / "stream_ser" / "assets" / "demo.flac"


def measure(runs: int, *arguments: str) -> list[float]:
    """Seconds of each run of ``stream-ser ARGUMENTS``, after one that fills the disk cache."""
    seconds = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "stream_ser", *arguments], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    return sorted(seconds[1:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        samples, rate = soundfile.read(CLIP, frames=3 * 16_000)
        clip = str(Path(folder) / "clip.wav")
        soundfile.write(clip, samples, rate)
        for name, arguments in (("--help", ("--help",)), ("file, 3 s", ("file", clip))):
            seconds = measure(runs, *arguments)
            print(
                f"{name:>10}: median {statistics.median(seconds):.3f} s, "
                f"{seconds[0]:.3f} to {seconds[-1]:.3f} s over {runs} runs"
            )


if __name__ == "__main__":
    main()
