"""Cost of log-mel features beside librosa's and torchaudio's: ``python tests/benchmarks/features.py [--rounds 5]``.

Three ratios, each the median over rounds in which all take turns in one process, on one thread:

- streaming, in hops of 160 ms, against librosa's log-mel of the last 3 s recomputed each hop of 250 ms;
- the same with a hop of 100 ms;
- offline, a file of 10 minutes, against torchaudio's ``MelSpectrogram`` of the whole.

Times are processor times of this process: they hold on a machine that has other work, too. All compute the same
log-mel; the largest difference is printed.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import librosa
import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from stream_ser.config import FeatureConfig
from stream_ser.features.framing import Framer
from stream_ser.features.log_mel import LogMel, log_mel

Array = NDArray[np.float32]
CONFIG = FeatureConfig()
WINDOW, BLOCK = 48_000, 2_560  # samples; the runtime hears a hop at a time, which is 160 ms in the default model


def streamed(samples: Array) -> None:
    """As the runtime does it: hop by hop, each frame once."""
    framer, stage = Framer(CONFIG.n_fft, CONFIG.hop_length), LogMel(CONFIG)
    out = np.empty((framer.at_once, CONFIG.n_mels), dtype=np.float32)
    for first in range(0, samples.size, BLOCK):
        for windows in framer.push(samples[first : first + BLOCK]):
            stage(windows.values, out=out[: len(windows.values)])


def librosa_log_mel(samples: Array) -> Array:
    """Of all samples: ``(n_mels, frames)``."""
    mel = librosa.feature.melspectrogram(
        y=samples,
        sr=CONFIG.sample_rate,
        n_fft=CONFIG.n_fft,
        hop_length=CONFIG.hop_length,
        n_mels=CONFIG.n_mels,
        fmin=CONFIG.f_min,
        fmax=CONFIG.f_max,
        center=False,
        htk=True,
        norm=None,
    )
    return np.log(mel + np.float32(CONFIG.log_floor))


def recomputed(samples: Array, hop: int) -> None:
    """librosa's log-mel of the last window at every hop."""
    for end in range(WINDOW, samples.size + 1, hop):
        librosa_log_mel(samples[end - WINDOW : end])


def torchaudio_log_mel() -> Callable[[Array], Array]:
    """Of all samples, ``(n_mels, frames)``."""
    transform = torchaudio.transforms.MelSpectrogram(
        sample_rate=CONFIG.sample_rate,
        n_fft=CONFIG.n_fft,
        hop_length=CONFIG.hop_length,
        f_min=CONFIG.f_min,
        f_max=CONFIG.f_max,
        n_mels=CONFIG.n_mels,
        center=False,
    )

    @torch.inference_mode()
    def compute(samples: Array) -> Array:
        mel: Array = torch.log(transform(torch.from_numpy(samples)) + CONFIG.log_floor).numpy()
        return mel

    return compute


def medians(turns: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median processor time of each, seconds; the first round warms up and is not counted."""
    spent: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(rounds + 1):
        for name, work in turns.items():
            began = time.process_time()
            work()
            if turn:
                spent[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in spent.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=13.0, help="Streamed audio, of which 3 s fill the window.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    short = (0.1 * rng.standard_normal(round(options.seconds * CONFIG.sample_rate))).astype(np.float32)
    long = (0.1 * rng.standard_normal(600 * CONFIG.sample_rate)).astype(np.float32)
    offline = torchaudio_log_mel()
    ours = log_mel(short)
    for name, other in (("librosa", librosa_log_mel(short)), ("torchaudio", offline(short))):
        print(f"largest difference from {name}: {np.abs(ours - other).max():.1e}")
    heard_s, hops_s = short.size / CONFIG.sample_rate, (short.size - WINDOW) / CONFIG.sample_rate
    spent = medians(
        {
            "ours": lambda: streamed(short),
            "250": lambda: recomputed(short, 4_000),
            "100": lambda: recomputed(short, 1_600),
        },
        options.rounds,
    )
    mine = 1e3 * spent["ours"] / heard_s
    print(f"streaming, hops of 160 ms: {mine:.2f} ms a second of audio")
    for hop_ms in ("250", "100"):
        theirs = 1e3 * spent[hop_ms] / hops_s
        print(f"  librosa, recomputed each hop of {hop_ms} ms: {theirs:.2f} ms, {theirs / mine:.1f} times ours")
    spent = medians({"ours": lambda: log_mel(long), "torchaudio": lambda: offline(long)}, options.rounds)
    print(f"offline, 10 minutes: {1e3 * spent['ours']:.0f} ms")
    ratio = spent["torchaudio"] / spent["ours"]
    print(f"  torchaudio: {1e3 * spent['torchaudio']:.0f} ms, {ratio:.1f} times ours")


if __name__ == "__main__":
    main()
