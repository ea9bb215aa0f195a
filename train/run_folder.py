"""What a run folder holds besides the weights: settings, metrics, predictions, windows. For people and reports."""

from __future__ import annotations

import json
import os
import platform
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream_ser.errors import TrainError

from .checkpoint import WINDOWS, write_atomically
from .config import RunConfig
from .data.corpora import Clip
from .data.windows import evaluation_windows, read_waves
from .losses.targets import class_indices
from .metrics import (
    Floats,
    Ints,
    Scores,
    clip_means,
    fit_temperature_windows,
    present_classes,
    restrict,
    score,
    softmax,
)

CONFIG = "config.json"
METRICS = "metrics.json"
#: Of the validation part after the last epoch, and of the test part.
PREDICTIONS = "predictions.npz"
TEST_PREDICTIONS = "predictions-test.npz"
#: Validation windows that the run folder keeps.
WINDOWS_KEPT = 64


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content``, atomically."""
    text = json.dumps(content, indent=1)
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_npz(path: Path, arrays: dict[str, Any]) -> None:
    """Write ``arrays``, atomically."""

    def save(part: Path) -> None:
        with part.open("wb") as file:  # given a name, numpy would add a suffix
            np.savez(file, **arrays)

    write_atomically(path, save)


@dataclass(frozen=True)
class Epoch:
    """What one epoch brought; ``scores`` are those of the averaged weights on the validation part."""

    epoch: int
    train_loss: float
    validation_loss: float
    lr: float
    seconds: float
    scores: Scores

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Epoch:
        """Inverse of :meth:`as_dict`."""
        scores = dict(content["scores"])
        scores["recall"] = tuple(scores["recall"])
        scores["confusion"] = tuple(tuple(row) for row in scores["confusion"])
        return cls(**{**content, "scores": Scores(**scores)})


def write_windows(out: Path, windows: torch.Tensor) -> None:
    """Keep some of the validation windows ``(windows, mel, time)`` in the run folder, to verify an export with."""
    kept = windows[:: max(1, len(windows) // WINDOWS_KEPT)][:WINDOWS_KEPT].numpy()
    write_npz(out / WINDOWS, {"windows": kept})


@dataclass(frozen=True)
class Part:
    """Clips to evaluate on.

    Attributes:
        clips: in order.
        windows: un-normalised log-mel, ``(windows, mel, time)``.
        owners: the clip of each window, ``(windows,)``.
        truth: index of each clip's label, ``(clips,)``.
    """

    clips: tuple[Clip, ...]
    windows: torch.Tensor
    owners: NDArray[np.int64]
    truth: NDArray[np.int64]


def make_part(
    clips: tuple[Clip, ...], labels: Sequence[str], config: RunConfig, advance: Callable[[], object] | None = None
) -> Part:
    """Decode clips into the windows by which the runtime would judge them; ``advance`` is called once a clip."""
    waves = read_waves(clips, config.features, advance)
    windows, owners = evaluation_windows(waves, config.features, config.window)
    return Part(clips, torch.from_numpy(windows), owners, class_indices(clips, labels))


@dataclass(frozen=True)
class Predictions:
    """What a network says of a part.

    Attributes:
        part: the clips.
        logits: of each window, ``(windows, classes)``.
    """

    part: Part
    logits: Floats

    @cached_property
    def probabilities(self) -> Floats:
        """Mean over each clip's windows, not calibrated, ``(clips, classes)``."""
        return clip_means(softmax(self.logits), self.part.owners)

    @cached_property
    def scores(self) -> Scores:
        """Of the probabilities."""
        return score(self.probabilities, self.part.truth)

    @cached_property
    def present_scores(self) -> Scores:
        """Of the probabilities given that the answer is one of the classes that occur (:func:`restrict`)."""
        truth = self.part.truth
        return score(restrict(self.probabilities, present_classes(truth, self.logits.shape[1])), truth)

    @cached_property
    def temperature(self) -> float:
        """Calibration fitted to these very clips, as the runtime forms their probabilities."""
        return fit_temperature_windows(self.logits, self.part.owners, self.part.truth)

    def save(self, path: Path, labels: Sequence[str]) -> None:
        """Write clip by clip ``stems``, ``speakers``, ``truth``, ``probabilities`` and (mean) ``logits``.

        Beside them ``labels`` and, for calibration, ``window_logits`` with their ``owners``.
        """
        arrays = {
            "stems": np.asarray([clip.path.stem for clip in self.part.clips]),
            "speakers": np.asarray([clip.speaker for clip in self.part.clips]),
            "truth": self.part.truth,
            "probabilities": self.probabilities,
            "logits": clip_means(self.logits, self.part.owners),
            "labels": np.asarray(labels),
            "window_logits": self.logits.astype(np.float32),
            "owners": self.part.owners,
        }
        write_npz(path, arrays)


def read_predictions(path: Path) -> tuple[Floats, Ints]:
    """Probabilities ``(clips, classes)`` and truth ``(clips,)`` of a file of :meth:`Predictions.save`.

    Raises:
        TrainError: missing or not readable.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return arrays["probabilities"], arrays["truth"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise TrainError(f"{path}: not readable as predictions ({type(error).__name__}); train the run again") from None


def same_settings(saved: RunConfig, config: RunConfig) -> bool:
    """Whether two runs have the same settings; the number of threads decides nothing."""
    return replace(saved, train=replace(saved.train, threads=config.train.threads)) == config


def check_same_run(
    path: Path,
    state: dict[str, Any],
    config: RunConfig,
    about: dict[str, Any],
    labels: Sequence[str],
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
) -> None:
    """Refuse to go on with a checkpoint of another run.

    Args:
        path: of the checkpoint.
        state: its content.
        config: of this run, as are the following.
        about: its description.
        labels: in order.
        mean: of each mel band, ``(n_mels,)``.
        std: of each mel band, ``(n_mels,)``.

    Raises:
        TrainError: says what is not the same.
    """
    then = state["describe"]
    if not same_settings(RunConfig.from_dict(state["config"]), config):
        raise TrainError(f"{path}: made with other settings; choose another --out or repeat the settings")
    if then["split"] != about["split"] or state["labels"] != list(labels):
        raise TrainError(f"{path}: made on another split or with other labels; choose another --out")
    if then.get("taught", "") != about["taught"] or then.get("ordinary", {}) != about["ordinary"]:
        raise TrainError(
            f"{path}: made with another teacher's file or other plain speech; repeat --taught and --ordinary"
        )
    # A checkpoint from before there were teachers and starts had none.
    if then.get("teachers", []) != about["teachers"]:
        raise TrainError(f"{path}: made with other teachers; repeat --teacher or choose another --out")
    if then.get("start", "") != about["start"]:
        raise TrainError(f"{path}: made from another start; repeat --init or choose another --out")
    if state["mean"] != mean.tolist() or state["std"] != std.tolist():
        raise TrainError(f"{path}: the training clips are not those that it was made with; choose another --out")


def processor() -> str:
    """Name of this machine's processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine(device: torch.device) -> dict[str, Any]:
    """What the run was computed on."""
    return {
        "cpu": processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "system": platform.system(),
    }
