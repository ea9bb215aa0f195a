"""Cost of a hop, flat out: ``python tests/benchmarks/hop.py [--model septr] [--minutes 2]``.

Prints percentiles of features and inference a hop, and the real-time factor, on the demo clip repeated.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from stream_ser import Prediction, Recognizer, load
from stream_ser.audio.decode import read_blocks

CLIP = Path(__file__).parents[2] / "stream_ser" / "assets" / "demo.flac"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="septr")
    parser.add_argument("--minutes", type=float, default=2.0)
    options = parser.parse_args()
    recognizer = Recognizer(load(options.model, "cpu"))
    clip = np.concatenate(list(read_blocks(CLIP)))
    samples = np.resize(clip, round(options.minutes * 60 * 16_000))
    started = time.perf_counter()
    events = [event for first in range(0, samples.size, 1_600) for event in recognizer.push(samples[first:][:1_600])]
    elapsed_s = time.perf_counter() - started
    timings = [e.timing for e in events if isinstance(e, Prediction) and e.timing is not None]
    for name in ("features_ms", "inference_ms"):
        values = [getattr(timing, name) for timing in timings]
        p50, p95, p99 = np.percentile(values, [50, 95, 99])
        print(f"{name:>12}: p50 {p50:.2f}, p95 {p95:.2f}, p99 {p99:.2f} over {len(values)} hops of 250 ms, one thread")
    print(f"{'RTF':>12}: {elapsed_s / (options.minutes * 60):.4f}")


if __name__ == "__main__":
    main()
