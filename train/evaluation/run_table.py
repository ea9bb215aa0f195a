"""Many runs in one table: what each is, what it costs, how well it does, and on which split that was measured.

Reading needs no torch; only counting operations and timing a checkpoint do.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stream_ser.config import FeatureConfig, WindowConfig
from stream_ser.errors import StreamSerError, TrainError
from stream_ser.train.data.splits import OVERLAP

#: What a folder of runs, a run and its report are known by; as in record, series and report, which need torch.
CONFIG, METRICS, SUMMARY, REPORT = "config.json", "metrics.json", "summary.json", "report.json"
#: Timed passes, after as many to warm up.
PASSES = 30


@dataclass(frozen=True)
class Row:
    """One run, or one series of runs.

    Attributes:
        folder: where it lies.
        network: its name.
        protocol: corpora, classes, split and part: numbers of different protocols cannot be compared.
        overlap: speakers (or takes of one recording) are in more than one part: scores are too good.
        runs: how many; above 1 the scores are means.
        seeds: of the training.
        epochs: trained, of a series the most.
        finished: trained to the end.
        parameters: trainable.
        macs: multiply-accumulates of one window.
        train_seconds: of all runs together.
        clips: that were scored, of all folds together.
        wa: accuracy.
        uar: mean recall over the classes.
        f1: macro F1.
        ece: expected calibration error as trained.
        ece_calibrated: the same with a temperature fitted on other speakers (or another part).
        uar_std: sample standard deviation over the runs; None for one.
        latency_ms: median of one window in one thread, where it was measured.
        latency_by: ``onnxruntime`` or ``torch``.
    """

    folder: str
    network: str
    protocol: str
    overlap: bool
    runs: int
    seeds: tuple[int, ...]
    epochs: int
    finished: bool
    parameters: int
    macs: int | None
    train_seconds: float
    clips: int
    wa: float
    uar: float
    f1: float
    ece: float
    ece_calibrated: float | None = None
    uar_std: float | None = None
    latency_ms: float | None = None
    latency_by: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


#: What a table can be sorted by: how to get it, and whether more is better.
SORTS: dict[str, tuple[Callable[[Row], Any], bool]] = {
    "name": (lambda row: row.folder, False),
    "uar": (lambda row: row.uar, True),
    "wa": (lambda row: row.wa, True),
    "f1": (lambda row: row.f1, True),
    "ece": (lambda row: row.ece, False),
    "parameters": (lambda row: row.parameters, False),
    "macs": (lambda row: row.macs, False),
    "time": (lambda row: row.train_seconds, False),
    "latency": (lambda row: row.latency_ms, False),
}


def find(paths: Sequence[Path]) -> list[Path]:
    """Folders of runs and of finished series at or below ``paths``; a series stands for its runs.

    Raises:
        TrainError: no such folder, or one without a run.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise TrainError(f"{path}: no such folder; expected a run folder, or a folder of run folders")
        below = list(_walk(path))
        if not below:
            raise TrainError(f"{path}: no run in it; a run folder holds {METRICS}, as 'stream-ser train' leaves it")
        found.update(dict.fromkeys(below))
    return list(found)


def _walk(folder: Path) -> list[Path]:
    if (folder / SUMMARY).is_file() or (folder / METRICS).is_file():
        return [folder]
    return [run for child in sorted(folder.iterdir()) if child.is_dir() for run in _walk(child)]


def read(folder: Path) -> Row | None:
    """A run folder or a series as a row; None for a run that has not finished its first epoch.

    Raises:
        TrainError: files that cannot be read.
    """
    try:
        if (folder / SUMMARY).is_file():
            return _series(folder, _json(folder / SUMMARY))
        return _run(folder, _json(folder / METRICS))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise TrainError(f"{folder}: not as stream-ser writes a run ({type(error).__name__}: {error})") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainError(f"{path}: not readable ({type(error).__name__}); train the run again") from None
    if not isinstance(content, dict):
        raise TrainError(f"{path}: not a JSON object; train the run again")
    return content


def _run(folder: Path, metrics: dict[str, Any]) -> Row | None:
    history = metrics["history"]
    if not history:
        return None
    part = "test" if "test" in metrics else "validation"
    # The last epoch, not the best: that one is exported, and choosing by the score would flatter it.
    scores = metrics["test"] if part == "test" else history[-1]["scores"]
    return Row(
        folder=str(folder),
        network=metrics.get("network", "septr"),
        protocol=_protocol(metrics, metrics["split"], part),
        overlap=_overlaps(metrics["split"]),
        runs=1,
        seeds=(metrics["seed"],),
        epochs=metrics["epochs"],
        finished=metrics.get("finished", True),
        parameters=metrics["parameters"],
        macs=metrics.get("macs"),
        train_seconds=metrics["train_seconds"],
        ece_calibrated=_calibrated(folder, part),
        **{name: scores[name] for name in ("clips", "wa", "uar", "f1", "ece")},
    )


def _series(folder: Path, summary: dict[str, Any]) -> Row:
    runs, part = summary["runs"], summary["part"]
    split = str(runs[0]["split"])
    if summary["folds"] > 1:
        split = f"{summary['folds']} folds, {split.partition(', ')[2]}"
    errors = [error for run in runs if (error := _calibrated(folder / run["name"], part)) is not None]
    return Row(
        folder=str(folder),
        network=summary["network"],
        protocol=_protocol(summary, split, part),
        overlap=any(_overlaps(run["split"]) for run in runs),
        runs=len(runs),
        seeds=tuple(summary["seeds"]),
        epochs=max(run["epochs"] for run in runs),
        finished=True,
        parameters=summary["parameters"],
        macs=summary.get("macs"),
        train_seconds=summary["train_seconds"],
        clips=summary["pooled"]["clips"] // len(summary["seeds"]),
        **{name: summary["mean"][name] for name in ("wa", "uar", "f1", "ece")},
        ece_calibrated=statistics.fmean(errors) if len(errors) == len(runs) else None,
        uar_std=summary["std"]["uar"] if len(runs) > 1 else None,
    )


def _protocol(about: dict[str, Any], split: str, part: str) -> str:
    classes = [f"{len(about['labels'])} classes"] if "labels" in about else []
    return ", ".join([" + ".join(about["corpora"]), *classes, split, f"{part} part"])


def _overlaps(split: str) -> bool:
    # A fold's name tells how many are in both parts.
    return OVERLAP in split or " in both" in split


def _calibrated(folder: Path, part: str) -> float | None:
    if not (folder / REPORT).is_file():
        return None
    error = _json(folder / REPORT).get(part, {}).get("ece_cross_fitted")
    return None if error is None else float(error)


def arrange(rows: Sequence[Row], sort: str = "uar") -> list[list[Row]]:
    """Rows of the same protocol and number of clips together, the largest group first, those with an overlap last.

    Each group is sorted; what is not known comes last.
    """

    def clips(row: Row) -> tuple[str, int]:
        return row.protocol, row.clips

    value, more_is_better = SORTS[sort]
    known = sorted((row for row in rows if value(row) is not None), key=value, reverse=more_is_better)
    ordered = [*known, *(row for row in rows if value(row) is None)]
    groups = [list(group) for _, group in itertools.groupby(sorted(ordered, key=clips), clips)]
    return sorted(groups, key=lambda group: (group[0].overlap, -len(group)))


def short(number: int | None) -> str:
    """A count of parameters or operations in three digits, for people; empty for None."""
    if number is None:
        return ""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            return f"{number / size:#.3g}".rstrip(".") + f" {letter}"
    return str(number)


def duration(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def names(rows: Sequence[Row]) -> dict[str, str]:
    """What each folder is called in a table: its name, and the parents that tell it from others; and how far it is."""
    parts = {row.folder: Path(row.folder).resolve().parts for row in rows}
    found = {}
    for row in rows:
        own = parts[row.folder]
        depth = 1
        while any(other != own and other[-depth:] == own[-depth:] for other in parts.values()):
            depth += 1
        found[row.folder] = "/".join(own[-depth:]) + ("" if row.finished else f" (unfinished, epoch {row.epochs})")
    return found


def first_member(folder: Path) -> Path:
    """A run itself, or the first of a series: they have the same network."""
    if not (folder / SUMMARY).is_file():
        return folder
    return folder / str(_json(folder / SUMMARY)["runs"][0]["name"])


def with_macs(row: Row) -> Row:
    """Count what the run itself did not record; stays unknown where its configuration cannot be built."""
    member = first_member(Path(row.folder))
    if row.macs is not None or not (member / CONFIG).is_file():
        return row
    from stream_ser.models import registry
    from stream_ser.train.config import RunConfig

    from .complexity import complexity

    try:
        config = RunConfig.from_dict(_json(member / CONFIG))
        network = registry.build(config.network, config.model)
    except StreamSerError:
        return row
    return replace(row, macs=complexity(network, config.model.n_mels, config.model.n_frames).macs)


def with_latency(row: Row) -> Row:
    """Time one window in one thread: the run's ONNX file if it has one, else its checkpoint.

    Raises:
        ModelError: an ONNX file that cannot be read.
        TrainError: a checkpoint that cannot be read.
    """
    member = first_member(Path(row.folder))
    exported = sorted(member.glob("*.onnx"))
    if exported:
        from stream_ser.runtime.engine import Engine

        engine = Engine(exported[0], "cpu", threads=1)
        window = _noise(engine.card.features, engine.card.window).T.copy()
        return replace(row, latency_ms=_median_ms(lambda: engine.logits(window)), latency_by="onnxruntime")
    import torch

    from stream_ser.train.checkpoint import CHECKPOINT, read_checkpoint, trained_network
    from stream_ser.train.config import RunConfig

    if not (member / CHECKPOINT).is_file():
        return row
    state = read_checkpoint(member / CHECKPOINT)
    config = RunConfig.from_dict(state["config"])
    network = trained_network(state)
    batch = torch.from_numpy(_noise(config.features, config.window))[None]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return replace(row, latency_ms=_median_ms(lambda: network(batch)), latency_by="torch")
    finally:
        torch.set_num_threads(threads)


def _noise(features: FeatureConfig, window: WindowConfig) -> np.ndarray[Any, np.dtype[np.float32]]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((features.n_mels, window.frames)).astype(np.float32)


def _median_ms(call: Callable[[], object]) -> float:
    """Median of :data:`PASSES` calls after as many to warm up, milliseconds."""
    times = []
    for _ in range(2 * PASSES):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1000.0 * statistics.median(times[PASSES:])
