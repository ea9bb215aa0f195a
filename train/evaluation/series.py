"""Several runs as one experiment: the folds of a cross-validation, several seeds, or both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stream_ser.errors import TrainError
from stream_ser.train.config import RunConfig
from stream_ser.train.metrics import score
from stream_ser.train.run_folder import (
    CONFIG,
    METRICS,
    PREDICTIONS,
    TEST_PREDICTIONS,
    read_predictions,
    same_settings,
    write_json,
)

SUMMARY = "summary.json"
#: Scores whose mean and deviation a summary gives.
SCORES = ("uar", "wa", "f1", "ece", "nll")


@dataclass(frozen=True)
class Member:
    """One run of a series.

    Attributes:
        seed: of the training.
        fold: that is held out, from 1; None without folds.
        name: of its folder, such as ``fold-1`` or ``fold-1-seed-0``.
    """

    seed: int
    fold: int | None
    name: str


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse ``0,1,2``.

    Raises:
        TrainError: not different whole numbers from 0 on.
    """
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0 or len(set(seeds)) != len(seeds):
        raise TrainError(f"--seeds {text!r}: expected different whole numbers, such as 0,1,2")
    return seeds


def members(folds: Sequence[int | None], seeds: Sequence[int]) -> list[Member]:
    """Every fold with every seed; what there is but one of is not in the name."""
    found = []
    for fold in folds:
        for seed in seeds:
            parts = [f"fold-{fold}"] * (len(folds) > 1) + [f"seed-{seed}"] * (len(seeds) > 1)
            found.append(Member(seed, fold, "-".join(parts)))
    return found


def finished(out: Path, config: RunConfig) -> bool:
    """Whether the run in ``out`` is there to its end.

    Raises:
        TrainError: it is, with other settings, or its files cannot be read.
    """
    if not (out / METRICS).is_file():
        return False
    try:
        metrics = json.loads((out / METRICS).read_text(encoding="utf-8"))
        saved = json.loads((out / CONFIG).read_text(encoding="utf-8"))
        if not metrics["finished"]:
            return False
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainError(f"{out}: not readable as a run ({type(error).__name__}); remove it") from None
    if not same_settings(RunConfig.from_dict(saved), config):
        raise TrainError(f"{out}: made with other settings; choose another --out or repeat the settings")
    return True


def summarize(out: Path, runs: Sequence[Member]) -> dict[str, Any]:
    """Scores of all runs, their mean and sample standard deviation, and those of all predictions together.

    They are those of the test part where the split has one, else of the validation part after the last epoch.

    Raises:
        TrainError: a run whose files cannot be read.
    """
    rows, predictions = [], []
    for run in runs:
        folder = out / run.name
        try:
            metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
            part = "test" if "test" in metrics else "validation"
            scores = metrics["test"] if part == "test" else metrics["history"][-1]["scores"]
            row = {"name": run.name, "fold": run.fold, "seed": run.seed, "part": part}
            about = {key: metrics[key] for key in ("split", "epochs", "train_seconds", "temperature")}
            rows.append({**row, **about, **{name: scores[name] for name in ("clips", *SCORES)}})
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise TrainError(f"{folder}: not readable as a run ({type(error).__name__}); train it again") from None
        predictions.append(read_predictions(folder / (TEST_PREDICTIONS if part == "test" else PREDICTIONS)))
    values = {name: np.asarray([row[name] for row in rows]) for name in SCORES}
    pooled = score(np.concatenate([p for p, _ in predictions]), np.concatenate([t for _, t in predictions]))
    return {
        "network": metrics["network"],
        "parameters": metrics["parameters"],
        "macs": metrics["macs"],
        "labels": metrics["labels"],
        "corpora": metrics["corpora"],
        "part": part,
        "folds": len({run.fold for run in runs}),
        "seeds": sorted({run.seed for run in runs}),
        "train_seconds": round(sum(row["train_seconds"] for row in rows), 1),
        "mean": {name: float(value.mean()) for name, value in values.items()},
        "std": {name: float(value.std(ddof=1)) if len(rows) > 1 else 0.0 for name, value in values.items()},
        "pooled": pooled.as_dict(),
        "runs": rows,
    }


def write_summary(out: Path, runs: Sequence[Member]) -> dict[str, Any]:
    """Write :func:`summarize` to ``summary.json`` and return it."""
    content = summarize(out, runs)
    write_json(out / SUMMARY, content)
    return content
