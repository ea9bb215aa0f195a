"""A long stream, as fast as it can be pushed: ``python tests/benchmarks/soak.py [--hours 168]``.

A week of audio with pauses and losses goes through the real resampler, ring buffers, log-mel, voice hysteresis, decider
and JSON lines, in blocks of changing sizes. What costs too much for a week is a stand-in unless ``--real`` asks for it:
the emotion network (a mean over the window) and Silero's network (the chunk's power). Prints memory and checks that it
is flat after the first tenth (or half an hour), that every prediction, decision and gap lies at the exact sample, and
that nothing drifts. Exit code 1 where something does not hold.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ser.audio.decode import read_blocks
from stream_ser.events import Block, Decision, Gap, Prediction
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime.engine import DEFAULT_MODEL, load
from stream_ser.sinks.jsonl import JsonLines
from stream_ser.sources.block_resampler import resampled
from stream_ser.vad.silero import Hearing, Memory

CLIP = Path(__file__).parents[2] / "stream_ser" / "assets" / "demo.flac"
LIMIT_BYTES = 5e6
#: What a block may be, in samples: it changes from block to block, and never falls on hops.
BLOCKS = (16_001, 320, 44_100, 7, 31_337)
#: A loss about every ten minutes.
LOSS_EVERY_S, LOSS_SAMPLES = 601.3, 12_347


class Mean:
    """Stands in for the emotion network: what is loud is one emotion, what is quiet another."""

    def __init__(self, real: Any) -> None:
        self.path, self.provider, self.card = real.path, real.provider, real.card
        self._labels = len(real.card.labels)

    def probabilities(self, window: NDArray[np.float32]) -> tuple[float, ...]:
        """Of a window of log-mel ``(frames, n_mels)``."""
        best = int(abs(float(window[::10].mean())) * 3.0) % self._labels
        return tuple(0.8 if k == best else 0.2 / (self._labels - 1) for k in range(self._labels))


class Power:
    """Stands in for Silero's network: whatever is loud is speech."""

    def fresh(self) -> Memory:
        """Nothing to remember."""
        return Memory(np.zeros(0, np.float32), np.zeros(0, np.float32))

    def hear(self, chunks: Sequence[NDArray[np.float32]], memories: Sequence[Memory]) -> list[Hearing]:
        """Probability of speech in a chunk of each stream."""
        loud = [abs(chunk[0]) + abs(chunk[100]) + abs(chunk[-1]) > 0.01 for chunk in chunks]
        return [Hearing(float(one), memory, 0.0) for one, memory in zip(loud, memories, strict=True)]


@dataclass
class Soaked:
    """What came of it.

    Attributes:
        audio_s: length of the stream, lost audio included.
        took_s: time that it took.
        growth_bytes: of memory after the warm-up, at most.
        resident_bytes: memory in the end.
        predictions: how many.
        decisions: how many.
        gaps: how many.
        faults: what does not hold; empty is good.
    """

    audio_s: float = 0.0
    took_s: float = 0.0
    growth_bytes: int = 0
    resident_bytes: int = 0
    predictions: int = 0
    decisions: int = 0
    gaps: int = 0
    faults: list[str] = field(default_factory=list)


class Null:
    """A text stream that keeps nothing."""

    def write(self, text: str) -> int:
        """Forget it."""
        return len(text)

    def flush(self) -> None:
        """Nothing to do."""


class Endless:
    """The demo clip and a pause, over and over, with losses at known places."""

    name = "endless"

    def __init__(self, seconds: float, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.total = round(seconds * sample_rate)
        self.losses: list[tuple[int, int]] = []
        clip = np.concatenate(list(read_blocks(CLIP, sample_rate)))
        self._loop = np.concatenate([clip, np.zeros(3 * sample_rate + 123, np.float32), 0.3 * clip])
        self._doubled = np.concatenate([self._loop, self._loop[: max(BLOCKS)]])

    def __iter__(self) -> Iterator[Block]:
        position, every = 0, round(LOSS_EVERY_S * self.sample_rate)
        lose_at = every
        for size in itertools.cycle(BLOCKS):
            if position >= self.total:
                return
            lost = 0
            if position >= lose_at and position + LOSS_SAMPLES < self.total:
                lost, lose_at = LOSS_SAMPLES, lose_at + every
                self.losses.append((position, lost))
                position += lost
            at = position % len(self._loop)
            size = min(size, self.total - position)
            yield Block(self._doubled[at : at + size], lost=lost)
            position += size


def resident_bytes() -> int:
    """Memory of this process, now where the system tells, at most so far elsewhere."""
    if sys.platform == "linux":
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def soak(seconds: float, *, rate: int = 16_000, real: bool = False, say: Any = lambda text: None) -> Soaked:
    """Push a stream and check all that comes of it.

    Args:
        seconds: of audio.
        rate: of the source, Hz.
        real: with the default model's network and Silero's.
        say: told every minute how far it is.
    """
    # The stand-in is of a network that looks at windows.
    engine = load(DEFAULT_MODEL if real else "septr", "cpu")
    recognizer = Recognizer(engine if real else Mean(engine))  # type: ignore[arg-type]
    if not real:
        assert recognizer._vad is not None
        recognizer._vad._network = Power()
    features, window = engine.card.features, engine.card.window
    source = Endless(seconds, rate)
    sink = JsonLines(Null())  # type: ignore[arg-type]
    sink.open(recognizer.info("soak"))
    result = Soaked()
    began_s = told_s = time.monotonic()
    base_bytes, heard, decided = 0, 0, 0
    gaps: list[tuple[int, int]] = []
    ends = (features.samples_for(frames) for frames in itertools.count(window.minimum, window.hop))

    def check(event: object) -> None:
        nonlocal decided
        if isinstance(event, Prediction):
            result.predictions += 1
            if event.end != (due := next(ends)) and len(result.faults) < 10:
                result.faults.append(f"prediction {result.predictions} ends at {event.end}, expected {due}")
        elif isinstance(event, Decision):
            result.decisions += 1
            if event.start != decided and len(result.faults) < 10:
                result.faults.append(f"decision {result.decisions} begins at {event.start}, expected {decided}")
            decided = event.end
        elif isinstance(event, Gap):
            result.gaps += 1
            gaps.append((event.start, event.length))

    for block in resampled(source, features.sample_rate):
        for event in recognizer.push_block(block):
            sink.write(event)
            check(event)
        heard += len(block.samples)
        resident = resident_bytes() if result.predictions % 64 == 0 else 0
        if heard / features.sample_rate < min(1_800.0, seconds / 10):
            base_bytes = max(base_bytes, resident)
        result.growth_bytes = max(result.growth_bytes, resident - base_bytes)
        if time.monotonic() - told_s > 60.0:
            told_s = time.monotonic()
            passed_s = heard / features.sample_rate
            left_s = (told_s - began_s) * (seconds / passed_s - 1.0)
            say(f"{passed_s / 3600:8.2f} h, {resident_bytes() / 1e6:.1f} MB, {left_s / 60:.0f} min to go")
    for event in recognizer.flush():
        sink.write(event)
        if isinstance(event, Prediction):
            result.predictions += 1
        else:
            check(event)
    summary = recognizer.summary()
    sink.close(summary)
    result.audio_s, result.took_s = heard / features.sample_rate, time.monotonic() - began_s
    result.resident_bytes = resident_bytes()
    share = features.sample_rate / rate
    expected = round(source.total * share)
    for name, found, due in (
        ("samples heard", heard, expected),
        ("samples in the summary", summary.samples, expected),
        ("samples lost", summary.lost, round(sum(lost for _, lost in source.losses) * share)),
        ("gaps", len(gaps), len(source.losses)),
        ("starts of gaps", [start for start, _ in gaps], [round(start * share) for start, _ in source.losses]),
    ):
        if found != due:
            result.faults.append(f"{name}: {found}, expected {due}")
    if abs(decided - expected) >= features.n_fft + features.hop_length:
        result.faults.append(f"the last decision ends at {decided} of {expected}")
    if result.growth_bytes >= LIMIT_BYTES:
        result.faults.append(f"memory grew by {result.growth_bytes / 1e6:.1f} MB, expected less than 5")
    return result


def main() -> None:
    """Print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=168.0)
    parser.add_argument("--rate", type=int, default=16_000, help="of the source, Hz")
    parser.add_argument("--real", action="store_true", help="with the bundled network and Silero's, for an hour or so")
    options = parser.parse_args()
    result = soak(options.hours * 3600, rate=options.rate, real=options.real, say=lambda text: print(text, flush=True))
    print(
        f"{result.audio_s / 3600:.2f} h of audio at {options.rate} Hz in {result.took_s / 60:.1f} min "
        f"({result.audio_s / result.took_s:.0f} times as fast as speech): {result.predictions} predictions, "
        f"{result.decisions} decisions, {result.gaps} gaps; memory {result.resident_bytes / 1e6:.1f} MB, "
        f"grown by {result.growth_bytes / 1e6:.2f} MB after the warm-up"
    )
    print("\n".join(result.faults) if result.faults else "drift 0 samples, every timestamp exact")
    sys.exit(bool(result.faults))


if __name__ == "__main__":
    main()
