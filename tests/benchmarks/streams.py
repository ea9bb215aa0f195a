"""Memory of streams: ``python tests/benchmarks/streams.py [--streams 200] [--model NAME]``.

Opens streams in a :class:`RecognizerPool`, has each hear two seconds of speech, and prints what each of them holds.
Linux only.
"""

from __future__ import annotations

from pathlib import Path

import click

from stream_ser.bench import material
from stream_ser.recognition.pool import RecognizerPool
from stream_ser.runtime.engine import DEFAULT_MODEL, load

#: What the first streams take is the runtime's own.
FIRST = 20


def resident_mb() -> float:
    """Resident memory of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@click.command()
@click.option("--streams", type=click.IntRange(min=1), default=200)
@click.option("--model", default=DEFAULT_MODEL)
def main(streams: int, model: str) -> None:
    """Print the memory of a stream."""
    engine = load(model, "cpu")
    pool = RecognizerPool(engine, batch=8)
    rate = engine.card.features.sample_rate
    speech = material.speech(rate)

    def hear(first: int, count: int) -> float:
        for stream in range(first, first + count):
            pool.open(stream)
            start = 997 * stream % (speech.size - 2 * rate)
            pool.push(stream, speech[start : start + 2 * rate])
        pool.drain()
        return resident_mb()

    before_mb = hear(0, FIRST)
    after_mb = hear(FIRST, streams)
    print(f"{(after_mb - before_mb) / streams:.2f} MB a stream; {after_mb:.0f} MB with {FIRST + streams}")


if __name__ == "__main__":
    main()
