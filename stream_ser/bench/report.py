"""One report of a benchmark: measured, as JSON, as text, and against another one."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from stream_ser.bench import machine, material
from stream_ser.bench.pooled import PooledRun
from stream_ser.bench.runs import Run, Stream, Trial, capacity, flat_out, most_streams, paced
from stream_ser.config import BLOCK_S, DEFAULT_VAD
from stream_ser.errors import DataError, ModelError
from stream_ser.recognition.pool import RecognizerPool, fastest_batch
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime.engine import Engine, Provider, load

SCHEMA_VERSION = 1
#: What should be the same where figures are compared.
_CONDITIONS = (
    ("machine", "cpu"),
    ("machine", "cores"),
    ("model", "hop_ms"),
    ("model", "block_ms"),
    ("model", "vad"),
    ("model", "changes"),
    ("model", "threads"),
)
#: A trial of the capacity is so long: an overload of 2 % has then piled up a fifth of a second.
TRIAL_S = 10.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure.

    Attributes:
        model: name or file.
        provider: where the network runs.
        vad: voice activity detection.
        changes: look for changes of emotion within utterances.
        hops: hops of speech in each run.
        hop_ms: instead of the card's.
        block_ms: audio in a block of the microphone.
        streams: also paced runs of so many at once.
        capacity: also look for the largest number of streams.
        paced: leave the paced runs out if False: they take as long as the audio.
        threads: inside one inference.
    """

    model: str
    provider: Provider = "auto"
    vad: bool = True
    changes: bool = True
    hops: int = 1_000
    hop_ms: float | None = None
    block_ms: float = 1_000 * BLOCK_S
    streams: tuple[int, ...] = ()
    capacity: bool = False
    paced: bool = True
    threads: int = 1


@dataclass(slots=True)
class Report:
    """What was measured, on what.

    Attributes:
        machine: processor, cores, system.
        versions: of Python and the packages that matter.
        model: name, hash, provider, window, hop, threads, and whether voice activity detection was on.
        load_ms: reading and warming up the model, onnxruntime's import included.
        first_result_ms: from the start of ``stream-ser file`` to its first prediction.
        rss_mb: resident memory after the single stream, 10**6 bytes.
        runs: every run.
        trials: of the search for the capacity.
        windows: the same report's essence for windows of other lengths.
    """

    machine: dict[str, Any]
    versions: dict[str, str]
    model: dict[str, Any]
    load_ms: float
    first_result_ms: float | None
    rss_mb: float | None
    runs: list[Run] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    windows: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        content: dict[str, Any] = {"schema": SCHEMA_VERSION, **asdict(self)}
        if self.trials:
            content["capacity"] = most_streams(self.trials)
        return content


def with_hop(engine: Engine, hop_ms: float | None) -> Engine:
    """Let a model predict at another pace.

    Raises:
        ModelError: no whole number of frames, or not what a network with states was made for.
    """
    if hop_ms is None:
        return engine
    features, window = engine.card.features, engine.card.window
    frames = hop_ms * features.sample_rate / 1_000 / features.hop_length
    if frames < 1 or abs(frames - round(frames)) > 1e-6:
        step_ms = 1_000 * features.hop_length / features.sample_rate
        raise ModelError(f"a hop of {hop_ms:g} ms is no whole number of frames; expected a multiple of {step_ms:g} ms")
    if engine.card.states and round(frames) != window.hop:
        own_ms = 1_000 * window.hop * features.hop_length / features.sample_rate
        raise ModelError(f"{engine.card.name} hears hops of {own_ms:g} ms and no others; leave the hop out")
    engine.card = replace(engine.card, window=replace(window, hop=round(frames)))
    return engine


def first_result_ms(model: str, provider: Provider, vad: bool) -> float:
    """Wall time from the start of ``stream-ser file`` on the bundled clip to its first line that is a prediction.

    Raises:
        ModelError: the command failed.
    """
    clip = str(resources.files("stream_ser.assets") / "demo.flac")
    command = [sys.executable, "-m", "stream_ser", "file", clip, "--model", model, "--provider", provider]
    command += ["--format", "jsonl", "--quiet", *([] if vad else ["--no-vad"])]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if '"prediction"' in line:
                elapsed_ms = 1e3 * (time.perf_counter() - started)
                process.kill()
                return elapsed_ms
        raise ModelError(f"the command to be timed failed: {process.stderr.read().strip()[:300]}")


class Bench:
    """Measures one model.

    Args:
        options: what to measure.
        say: gets a line on each step.

    Raises:
        ModelError: no such model, or one that cannot be run.
        ProviderError: the session did not get the provider.
    """

    def __init__(self, options: Options, say: Say = lambda text: None) -> None:
        self.options = options
        self._say = say
        started = time.perf_counter()
        self.engine = with_hop(load(options.model, options.provider, options.threads), options.hop_ms)
        self.load_ms = 1e3 * (time.perf_counter() - started)
        features, window = self.engine.card.features, self.engine.card.window
        self.rate = features.sample_rate
        self.hop = window.hop * features.hop_length
        self._batch: int | None = None
        self.block = round(options.block_ms * self.rate / 1_000)
        if not 1 <= self.block <= self.rate:
            raise ModelError(f"blocks of {options.block_ms:g} ms; expected {1_000 / self.rate:g} to 1000 ms")

    def run(self, *, start_up: bool = True) -> Report:
        """Measure all that was asked for.

        Args:
            start_up: also time the command from its start, in a process of its own.
        """
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            return self._run(start_up, nowhere)

    def _run(self, start_up: bool, nowhere: TextIO) -> Report:
        options = self.options
        report = Report(machine.describe(), machine.versions(), self._model(), self.load_ms, None, None)
        if start_up:
            self._say("start-up")
            report.first_result_ms = first_result_ms(str(self.engine.path), options.provider, options.vad)
        speech = material.speech(self.rate)
        self._say(f"{options.hops} hops flat out")
        report.runs.append(flat_out(self._stream(speech, nowhere), options.hops, self.rate))
        report.rss_mb = machine.rss_mb()
        if options.paced:
            seconds = options.hops * self.hop / self.rate
            self._say(f"{options.hops} hops at the pace of speech, {seconds:.0f} s")
            report.runs.append(paced([self._stream(speech, nowhere)], self.rate, hops=options.hops))
            self._say("a quiet room")
            quiet = self._stream(material.quiet(self.rate), nowhere)
            hops = min(options.hops, math.ceil(30.0 * self.rate / self.hop))
            report.runs.append(paced([quiet], self.rate, hops=hops, quiet=True))
        for streams in options.streams:
            self._say(f"{streams} streams at once")
            report.runs.append(self._many(speech, nowhere, streams, max(TRIAL_S, 40 * self.hop / self.rate)))
        if options.capacity:
            report.trials.extend(self._capacity(speech, nowhere, report.runs[0]))
        return report

    def _model(self) -> dict[str, Any]:
        card = self.engine.card
        return {
            "name": card.name,
            "sha256": machine.sha256(self.engine.path),
            "bytes": self.engine.path.stat().st_size,
            "parameters": card.parameters,
            "provider": self.engine.provider,
            "threads": self.options.threads,
            "window_s": card.features.samples_for(card.window.frames) / self.rate,
            "hop_ms": 1e3 * self.hop / self.rate,
            "block_ms": 1e3 * self.block / self.rate,
            "vad": self.options.vad,
            "changes": self.options.changes,
        }

    @property
    def _settings(self) -> dict[str, Any]:
        """Of each recogniser."""
        decider = self.engine.card.decider
        if not self.options.changes:
            decider = replace(decider, change_distance=1.0)
        return {"decider": decider, "vad": DEFAULT_VAD if self.options.vad else None}

    def _stream(self, samples: NDArray[np.float32], nowhere: TextIO) -> Stream:
        recognizer = Recognizer(self.engine, **self._settings)
        return Stream(recognizer, samples, self.block, nowhere)

    def _many(self, speech: NDArray[np.float32], nowhere: TextIO, streams: int, seconds: float) -> Run:
        if self._batch is None:
            self._batch = fastest_batch(self.engine)
            self._say(f"{self._batch} at a time")
        pool = RecognizerPool(
            self.engine,
            batch=self._batch,
            queue_s=max(2.0, 4 * self.hop / self.rate),
            **self._settings,
        )
        return PooledRun(pool, speech, streams, nowhere).paced(seconds)

    def _capacity(self, speech: NDArray[np.float32], nowhere: TextIO, single: Run) -> list[Trial]:
        hop_ms = 1e3 * self.hop / self.rate

        def run(streams: int) -> Run:
            self._say(f"capacity: {streams} streams")
            return self._many(speech, nowhere, streams, TRIAL_S)

        return capacity(run, hop_ms, guess=max(1, round(0.8 / single.rtf)))


def read_report(path: Path) -> dict[str, Any]:
    """A report that ``bench --json`` printed.

    Raises:
        DataError: not one, or of another schema.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema = content["schema"]
        content["runs"], content["model"]["name"], content["machine"]["cpu"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a report of 'stream-ser bench --json' ({type(error).__name__})") from None
    if schema != SCHEMA_VERSION:
        raise DataError(f"{path}: schema {schema}, expected {SCHEMA_VERSION}; measure it again")
    return dict(content)


def ratios(new: dict[str, Any], old: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    """What both reports hold: name, value now, value then, and now over then."""
    before = dict(_figures(old))
    return [
        (name, value, before[name], value / before[name])
        for name, value in _figures(new)
        if name in before and before[name] > 0
    ]


def _figures(content: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for run in content["runs"]:
        name = run["name"] if run["streams"] == 1 else f"{run['name']}, {run['streams']} streams"
        for stage, spread in [*run["stages"].items(), *((key, run[key]) for key in ("compute", "latency", "age"))]:
            if spread is not None:
                yield f"{name}: {stage} p50", spread["p50"]
                yield f"{name}: {stage} p99", spread["p99"]
        yield f"{name}: real-time factor", run["rtf"]
        yield f"{name}: share of a core", run["cpu_share"]
    for name in ("load_ms", "first_result_ms", "rss_mb", "capacity"):
        if content.get(name) is not None:
            yield name, content[name]


def same_conditions(new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    """In what two reports differ besides their figures: such ratios say less."""
    found = []
    for part, name in _CONDITIONS:
        now, then = new[part].get(name), old[part].get(name)
        if now != then:
            found.append(f"{name} {then} then, {now} now")
    return found


def environment_note() -> str:
    """A remark on the load of the machine; empty where it is idle or does not tell."""
    try:
        load_1min = os.getloadavg()[0]
    except (OSError, AttributeError):
        return ""
    busy = load_1min > 0.5
    return f"the machine is busy (load {load_1min:.1f}): the percentiles are those of a busy machine" if busy else ""
