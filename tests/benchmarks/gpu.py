"""What a GPU brings: ``python tests/benchmarks/gpu.py [--provider cuda|tensorrt] [--model NAME|FILE] [--json FILE]``.

Needs an NVIDIA GPU, ``pip install ".[cuda,train]"`` and nothing else; without a GPU it says so and exits with 2. Three
tables, with the GPU's name:

============  ========================================================================================================
hop           one hop of one stream through the loaded model, from log-mel on the host to probabilities on the host,
              as ``listen`` asks for it; target: p50 below 1 ms
published     SepTr as published (1 x 1 tokens, dim 256, depth 3, 5 heads of 256, MLP 256, random weights) on the
              windows of the first model: below its hop it runs in real time
streams       the network alone for so many streams that all speak, in batches whose states stay on the GPU; a hop's
              work must be done before the next hop is due. Features and voice activity detection are the hosts'
============  ========================================================================================================

``stream-ser bench --provider cuda`` measures the whole way of one stream and on what a single core feeds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from stream_ser.bench import machine
from stream_ser.bench.runs import Spread
from stream_ser.errors import StreamSerError
from stream_ser.runtime import providers
from stream_ser.runtime.card.recognition import FEATURES, LOG_PROBS, LOGITS
from stream_ser.runtime.engine import INPUT_NAME, Engine, available_providers, load, open_session
from stream_ser.runtime.io_binding import Bound

WARM_UP = 10


def timed(work: Callable[[], object], runs: int) -> Spread:
    """Milliseconds of each of ``runs`` runs, after a warm-up."""
    times_ms = []
    for _ in range(WARM_UP + runs):
        started = time.perf_counter()
        work()
        times_ms.append(1e3 * (time.perf_counter() - started))
    return Spread.of(times_ms[WARM_UP:])


def hop(engine: Engine, runs: int) -> Spread:
    """A hop of one stream."""
    card = engine.card
    frames = noise(engine.frames, card.features.n_mels)
    if not card.states:
        return timed(lambda: engine.probabilities(frames), runs)
    state = engine.initial_state()

    def step() -> None:
        nonlocal state
        state = engine.step(frames, state).state

    return timed(step, runs)


def noise(*shape: int) -> Any:
    """What a quiet room sounds like in log-mel, more or less."""
    return np.random.default_rng(0).normal(-6.0, 3.0, shape).astype(np.float32)


def fleet(engine: Engine, provider: str, rows: int, groups: int) -> Bound:
    """Fixed places for ``rows`` streams at once, in ``groups`` groups.

    Raises:
        StreamSerError: the file takes one stream at a time.
    """
    card = engine.card
    if not engine.batches:
        raise StreamSerError(f"{engine.path}: takes one stream at a time; export it with a free batch axis")
    names = providers.choose(provider, available_providers())  # type: ignore[arg-type]
    wanted = providers.with_options(names, graphs=providers.on_gpu(names[0]))
    outputs: dict[str, tuple[int, ...]] = {LOGITS: (rows, len(card.labels))}
    if card.vocabulary:
        outputs[LOG_PROBS] = (rows, card.window.hop // card.stride, len(card.vocabulary))
    return Bound(
        open_session(engine.path, wanted, 1),
        {FEATURES if card.states else INPUT_NAME: (rows, card.features.n_mels, engine.frames)},
        outputs,
        [(state.input, state.output, (rows, *state.shape[1:])) for state in card.states],
        device=providers.device_of(names[0]),
        graphs=providers.on_gpu(names[0]),
        seats=groups,
    )


def streams(engine: Engine, provider: str, count: int, rows: int, runs: int) -> Spread:
    """A hop of ``count`` streams that all speak."""
    groups = -(-count // rows)
    bound, card = fleet(engine, provider, rows, groups), engine.card
    feed = {FEATURES if card.states else INPUT_NAME: noise(rows, card.features.n_mels, engine.frames)}
    zeros: list[Any] = [np.zeros((rows, *state.shape[1:]), dtype=np.float32) for state in card.states]
    states = [zeros] * groups

    def all_groups() -> None:
        for index, state in enumerate(states):
            states[index] = bound.run(feed, state)[-len(zeros) :] if zeros else []

    return timed(all_groups, runs)


def write_published(engine: Engine, path: Path) -> None:
    """The published network on the windows of a model, weights drawn at random.

    Raises:
        StreamSerError: the model hears no windows.
    """
    from stream_ser.export.checkpoints import write_onnx
    from stream_ser.models.septr import SepTr, SepTrConfig

    card = engine.card
    if card.states:
        raise StreamSerError(f"{card.name} hears no windows; give one that does as the first --model")
    config = SepTrConfig(n_mels=card.features.n_mels, n_frames=card.window.frames, num_classes=len(card.labels))
    new = replace(card, name="septr", training={}, results={}, licence="Random weights.")
    write_onnx(SepTr(config).eval(), new, path)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All tables, printed as they come.

    Raises:
        StreamSerError: no GPU, no such model, or one that cannot be run.
    """
    engines = [load(model, options.provider) for model in options.model]
    gpus = machine.gpu_names()
    print(f"{', '.join(gpus) or machine.cpu_name()}: {engines[0].provider}, {options.runs} runs")
    content: dict[str, Any] = {"machine": machine.describe(), "versions": machine.versions(), "hop": {}, "streams": {}}
    print(f"\n{'hop, one stream':<28}{'p50 ms':>9}{'p95':>9}{'p99':>9}{'max':>9}{'due':>9}")

    def row(name: str, spread: Spread, due_ms: float) -> dict[str, Any]:
        print(
            f"{name:<28}{spread.p50:9.3f}{spread.p95:9.3f}{spread.p99:9.3f}{spread.max:9.3f}{due_ms:9.0f}", flush=True
        )
        return {**asdict(spread), "due_ms": due_ms, "in_time": spread.p99 < due_ms}

    for engine in engines:
        content["hop"][engine.card.name] = row(engine.card.name, hop(engine, options.runs), hop_ms(engine))
    if options.published:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "published.onnx"
            write_published(engines[0], path)
            published = load(path, options.provider)
            name = f"published, {published.card.features.n_mels} x {published.frames}"
            content["published"] = row(name, hop(published, options.runs), hop_ms(published))
    print(f"\n{'all of a hop':<28}{'p50 ms':>9}{'p95':>9}{'p99':>9}{'max':>9}{'due':>9}")
    for engine in engines:
        for count in options.streams:
            spread = streams(engine, options.provider, count, min(count, options.rows), options.hops)
            name = f"{engine.card.name}, {count} streams"
            content["streams"][name] = row(name, spread, hop_ms(engine))
    return content


def hop_ms(engine: Engine) -> float:
    """Until the next prediction is due."""
    return 1e3 * engine.card.window.hop * engine.card.features.hop_length / engine.card.features.sample_rate


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--provider", choices=["cuda", "tensorrt", "cpu"], default="cuda", help="cpu: to compare with")
    parser.add_argument("--model", action="append", metavar="NAME|FILE", help="default: septr; may be given again")
    parser.add_argument("--runs", type=int, default=1_000, help="hops of one stream")
    parser.add_argument("--hops", type=int, default=100, help="hops of many streams")
    parser.add_argument("--streams", type=int, action="append", metavar="N", help="default: 1000 and 5000")
    parser.add_argument("--rows", type=int, default=500, help="streams in one call at most")
    parser.add_argument("--no-published", dest="published", action="store_false")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    options.model = options.model or ["septr"]
    options.streams = options.streams or [1_000, 5_000]
    if min(options.runs, options.hops, options.rows, *options.streams) < 1:
        parser.error("--runs, --hops, --rows and --streams are at least 1")
    try:
        content = measure(options)
    except StreamSerError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        sys.exit(2)
    if options.json:
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
