"""Voice activity detection: what it costs, and what it takes for speech.

``python tests/benchmarks/vad.py [speech=FOLDER] [noise=FOLDER] [--files 100] [--seconds 30] [--gain -20]``

Prints the cost of a second of audio, the memory it takes and its threads; then, of each folder of audio files, in how
many clips speech is heard, and in how much of their time. CREMA-D's ``AudioWAV`` and ESC-50's ``audio`` will do.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import numpy as np

from stream_ser.audio import read_blocks
from stream_ser.cli._inputs import AUDIO_SUFFIXES
from stream_ser.vad import VoiceDetector

RATE_HZ = 16_000
CLIP = Path(__file__).parents[2] / "stream_ser" / "assets" / "demo.flac"


def resident_mb() -> tuple[float, int]:
    """Resident memory of this process in MB, and its threads; Linux only, zeros elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0, 0
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024, int(fields["Threads"])


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument("--files", type=int, default=100, help="drawn from each folder")
    parser.add_argument("--seconds", type=float, default=30.0, help="of audio for the cost")
    parser.add_argument("--gain", type=float, default=0.0, help="dB, applied to the files")
    options = parser.parse_args()

    samples = np.resize(np.concatenate(list(read_blocks(CLIP))), round(options.seconds * RATE_HZ))
    before_mb, _ = resident_mb()
    started = time.perf_counter()
    detector = VoiceDetector(RATE_HZ)
    loaded_s = time.perf_counter() - started
    started, busy = time.perf_counter(), time.process_time()
    detector.push(samples)
    wall_ms = 1000.0 * (time.perf_counter() - started) / options.seconds
    cpu_ms = 1000.0 * (time.process_time() - busy) / options.seconds
    after_mb, threads = resident_mb()
    print(
        f"loaded in {loaded_s:.3f} s; a second of audio costs {wall_ms:.2f} ms ({cpu_ms:.2f} ms of processor time); "
        f"{after_mb - before_mb:.1f} MB, {threads} threads in the process"
    )
    for pair in options.folders:
        name, _, folder = pair.partition("=")
        paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
        paths = random.Random(0).sample(paths, min(options.files, len(paths)))
        shares = []
        for path in paths:
            detector.reset()
            wave = np.concatenate(list(read_blocks(path))) * np.float32(10.0 ** (options.gain / 20.0))
            shares.append(np.mean([voice.speaking for voice in detector.push(wave)] or [False]))
        heard = sum(share > 0 for share in shares)
        print(f"{name}: speech in {heard} of {len(paths)} clips, {np.mean(shares):.1%} of the time")


if __name__ == "__main__":
    main()
