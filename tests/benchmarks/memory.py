"""What a hop of streaming SepTr costs by how long it remembers: ``memory.py [--memories 1,10] [--json]``.

Untrained networks of the default recipe, one thread. Their hops take turns, so that whatever else the machine does
meets both alike; the ratio of the medians is what counts. Beside them the bundled model, which sees a window anew each
time, on windows of the same lengths.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from stream_ser.runtime.card.recognition import Card
from stream_ser.runtime.engine import Engine, load

#: Before anything is timed.
_WARM_UP = 50


def streaming_card() -> Card:
    """A card of the default recipe, from which untrained networks are made."""
    from stream_ser.train import presets

    config = presets.preset("streaming-septr")
    labels = load("septr", "cpu").card.labels
    zeros, ones = (0.0,) * config.features.n_mels, (1.0,) * config.features.n_mels
    card = Card("streaming-septr", labels, config.features, zeros, ones, config.window)
    from stream_ser.export.kinds.streaming import states_of
    from stream_ser.models.streaming_septr import StreamingSepTr, StreamingSepTrConfig

    assert isinstance(config.model, StreamingSepTrConfig)
    states = states_of(StreamingSepTr(config.model))
    return replace(card, states=states, training={"model": config.as_dict()["model"]})


def streaming(engine: Engine) -> Callable[[], object]:
    """One more hop of a stream that has gone on for longer than the network remembers."""
    card = engine.card
    rng = np.random.default_rng(0)
    hop = rng.standard_normal((card.window.hop, card.features.n_mels)).astype(np.float32)
    state = engine.initial_state()

    def step() -> None:
        nonlocal state
        state = engine.step(hop, state).state

    return step


def windowed(engine: Engine) -> Callable[[], object]:
    """One more window."""
    card = engine.card
    rng = np.random.default_rng(0)
    window = rng.standard_normal((card.window.frames, card.features.n_mels)).astype(np.float32)
    return lambda: engine.logits(window)


def medians_ms(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    """Median of each call, milliseconds; the calls take turns."""
    times = np.empty((rounds, len(calls)))
    for turn in range(-_WARM_UP, rounds):
        for place, call in enumerate(calls):
            started = time.perf_counter()
            call()
            if turn >= 0:
                times[turn, place] = time.perf_counter() - started
    return [float(value) for value in 1000.0 * np.median(times, axis=0)]


def measure(memories_s: list[float], rounds: int) -> list[dict[str, float | str]]:
    """Median cost of a hop and of a second of audio by network and memory."""
    from stream_ser.export.untrained import write_untrained

    found: list[dict[str, float | str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for card, call in ((streaming_card(), streaming), (load("septr", "cpu").card, windowed)):
            engines = []
            for seconds in memories_s:
                path = Path(folder) / f"{card.name}-{seconds:g}.onnx"
                write_untrained(card, seconds, path)
                engines.append(Engine(path, "cpu"))
            costs = medians_ms([call(engine) for engine in engines], rounds if card.states else max(1, rounds // 20))
            hop_s = card.window.hop * card.features.hop_length / card.features.sample_rate
            for seconds, cost in zip(memories_s, costs, strict=True):
                ratio = cost / costs[0]
                row: dict[str, float | str] = {"network": card.name, "memory_s": seconds, "hop_ms": round(cost, 3)}
                found.append({**row, "ms_per_s": round(cost / hop_s, 3), "ratio": round(ratio, 3)})
    return found


@click.command()
@click.option("--memories", default="1,10", show_default=True, metavar="S,S,...", help="Seconds that are remembered.")
@click.option("--rounds", default=2000, show_default=True, help="Hops; a twentieth of it for whole windows.")
@click.option("--json", "as_json", is_flag=True)
def main(memories: str, rounds: int, as_json: bool) -> None:
    """Print the cost of a hop by network and memory."""
    rows = measure([float(part) for part in memories.split(",")], rounds)
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    click.echo(f"{'network':<16} {'memory':>8} {'a hop':>10} {'a second':>10}  against the first")
    for row in rows:
        costs = f"{row['hop_ms']:>7} ms {row['ms_per_s']:>7} ms  {row['ratio']}"
        click.echo(f"{row['network']:<16} {row['memory_s']:>6g} s {costs}")


if __name__ == "__main__":
    main()
