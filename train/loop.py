"""The training loop: seeded, resumable at every epoch, one run folder."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel

from stream_ser.errors import TrainError
from stream_ser.models import registry
from stream_ser.version import __version__

from .augment import mixup, spec_augment
from .checkpoint import BEST, CHECKPOINT, WINDOWS, current_commit, read_checkpoint, write_atomically
from .corpora import Corpus
from .dataset import TorchLogMel, TrainingWindows, band_statistics, evaluation_windows, read_waves
from .metrics import Scores, fit_temperature, score, softmax
from .recipe import Precision, RunConfig, TrainConfig
from .splits import Split

#: Validation windows that the run folder keeps.
WINDOWS_KEPT = 64


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


class Normalized(nn.Module):
    """A network with its feature normalisation in front: ``(x - mean) / std`` a band."""

    def __init__(self, network: nn.Module, mean: NDArray[np.float32], std: NDArray[np.float32]) -> None:
        super().__init__()
        self.network = network
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.from_numpy(np.asarray(mean, np.float32))[:, None])
        self.register_buffer("std", torch.from_numpy(np.asarray(std, np.float32))[:, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Raw log-mel ``(batch, mel, time)`` to logits."""
        return self.network((x - self.mean) / self.std)  # type: ignore[no-any-return]


def learning_rate(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine to zero at the last step (Loshchilov & Hutter 2017)."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1.0, config.epochs * steps_per_epoch - warmup)
    return config.lr * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for the matrices and kernels of linear and convolution layers alone."""
    decayed = {id(module.weight) for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if id(p) in decayed], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in decayed], "weight_decay": 0.0},
    ]


def ema_with_warmup(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average whose decay rises as ``(1 + n) / (10 + n)`` up to ``decay``.

    Without the rise, the first epochs' average would be mostly the random initialisation.
    """

    @torch.no_grad()
    def update(averaged: Sequence[torch.Tensor], current: Sequence[torch.Tensor], count: Any) -> None:
        n = int(count)
        share = 1.0 - min(decay, (1.0 + n) / (10.0 + n))
        for mean, value in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, share)
            else:
                mean.copy_(value)

    return update


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bf16 autocast where asked for. On CPU short lines attend faster without the fused kernel's backward."""
    stack = contextlib.ExitStack()
    if precision == "bf16":
        stack.enter_context(torch.autocast(device.type, torch.bfloat16))
    if device.type == "cpu":
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    return stack


def clip_mean(values: NDArray[np.float64], owners: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of window rows ``(windows, classes)`` over the windows of each clip, ``(clips, classes)``."""
    count = np.bincount(owners).astype(np.float64)
    sums = np.zeros((len(count), values.shape[1]))
    np.add.at(sums, owners, values)
    return np.asarray(sums / count[:, None])


class Trainer:
    """Trains one network on one split.

    Args:
        config: everything that decides the result.
        split: training and validation clips.
        corpora: where they come from, for the record.
        out: run folder; created.
        device: where to train.
    """

    def __init__(
        self, config: RunConfig, split: Split, corpora: Sequence[Corpus], out: Path, device: torch.device
    ) -> None:
        self.config = config
        self.split = split
        self.corpora = corpora
        self.out = out
        self.device = device
        self.labels = corpora[0].labels
        if any(corpus.labels != self.labels for corpus in corpora):
            raise TrainError("the corpora have different labels and cannot be joined")
        if config.model.num_classes != len(self.labels):
            raise TrainError(f"the network has {config.model.num_classes} outputs for {len(self.labels)} labels")
        self.history: list[Epoch] = []
        self.validation_logits: NDArray[np.float64] | None = None
        self._elapsed_s = 0.0
        self._commit = current_commit()

    def prepare(self, advance: Callable[[], object] | None = None) -> None:
        """Decode the clips, take the statistics of the training part and build the network."""
        config = self.config
        if config.train.threads:
            torch.set_num_threads(config.train.threads)
        index = {label: number for number, label in enumerate(self.labels)}
        train_waves = read_waves(self.split.train, config.features, advance)
        validation_waves = read_waves(self.split.validation, config.features, advance)
        self.mean, self.std = band_statistics(train_waves, config.features)
        targets = np.asarray([index[clip.label] for clip in self.split.train], dtype=np.int64)
        self.truth = np.asarray([index[clip.label] for clip in self.split.validation], dtype=np.int64)
        self.data = TrainingWindows(
            train_waves, targets, config.features, config.window, config.augment, config.train.batch_size
        )
        windows, self.owners = evaluation_windows(validation_waves, config.features, config.window)
        self.windows = torch.from_numpy(windows)
        torch.manual_seed(config.train.seed)
        self.model = Normalized(registry.build(config.network, config.model), self.mean, self.std).to(self.device)
        # Convolutions run faster on CPU with the channels last; torch's stubs do not know this overload.
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.features = TorchLogMel(config.features).to(self.device)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model.network, config.train.weight_decay), lr=config.train.lr, fused=True
        )
        self.average = AveragedModel(self.model, multi_avg_fn=ema_with_warmup(config.train.ema_decay), use_buffers=True)

    def fit(
        self,
        on_step: Callable[[int, int, float], object] | None = None,
        on_epoch: Callable[[Epoch], object] | None = None,
    ) -> None:
        """Train to the end, from the epoch after the last finished one.

        Args:
            on_step: called with (step in epoch, steps, running loss).
            on_epoch: called after each epoch, once its checkpoint is on disk.
        """
        best = max((epoch.scores.uar for epoch in self.history), default=-1.0)
        # Here and no earlier: a resumed run has been found to have these settings.
        self._write_json("config.json", self.config.as_dict())
        self._write_windows()
        if self.history:
            self._write_metrics()
        for number in range(len(self.history), self.config.train.epochs):
            started = time.perf_counter()
            loss = self._train_epoch(number, on_step)
            validation_loss, scores = self._validate()
            seconds = time.perf_counter() - started
            self._elapsed_s += seconds
            epoch = Epoch(number + 1, loss, validation_loss, self.optimizer.param_groups[0]["lr"], seconds, scores)
            self.history.append(epoch)
            state = self._state()
            # The best first: killed in between, a resumed run repeats this epoch and writes it again.
            if scores.uar > best:
                best = scores.uar
                exported = {k: v for k, v in state.items() if k not in ("model", "optimizer")}
                write_atomically(self.out / BEST, functools.partial(torch.save, exported))
            write_atomically(self.out / CHECKPOINT, functools.partial(torch.save, state))
            self._write_metrics()
            if on_epoch is not None:
                on_epoch(epoch)

    def _train_epoch(self, number: int, on_step: Callable[[int, int, float], object] | None) -> float:
        config = self.config.train
        # Seeds hang on the epoch's number alone, so a resumed run draws what an unbroken one would have drawn.
        torch.manual_seed(config.seed * 100_003 + number)
        rng = np.random.default_rng((config.seed, number, 1))
        self.model.train()
        total, steps = 0.0, self.data.batches
        for step, (waves, classes) in enumerate(self.data.epoch((config.seed, number, 0))):
            lr = learning_rate(number * steps + step, steps, config)
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            with torch.no_grad():
                x = (self.features(waves.to(self.device)) - self.model.mean) / self.model.std
                x = spec_augment(x, self.config.augment, rng)
                targets = F.one_hot(classes, len(self.labels)).float().to(self.device)
                x, targets = mixup(x, targets, self.config.augment.mixup_alpha, rng)
            with autocast(config.precision, self.device):
                logits = self.model.network(x)
            loss = F.cross_entropy(logits.float(), targets, label_smoothing=config.label_smoothing)
            value = loss.item()
            if not math.isfinite(value):
                raise TrainError(
                    f"the loss became {value} in epoch {number + 1}; start again in a new --out with a lower --lr"
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip)
            self.optimizer.step()
            self.average.update_parameters(self.model)
            total += value
            if on_step is not None:
                on_step(step + 1, steps, total / (step + 1))
        return total / steps

    @torch.no_grad()
    def _validate(self) -> tuple[float, Scores]:
        self.average.eval()
        with autocast(self.config.train.precision, self.device):
            parts = [self.average(part.to(self.device)).float().cpu() for part in self.windows.split(64)]
        logits = torch.cat(parts).double().numpy()
        probabilities = clip_mean(softmax(logits), self.owners)
        self.validation_logits = clip_mean(logits, self.owners)
        scores = score(probabilities, self.truth)
        return scores.nll, scores

    def temperature(self) -> float:
        """Calibration on the validation part, from the last epoch's logits."""
        if self.validation_logits is None:
            self._validate()
        assert self.validation_logits is not None
        return fit_temperature(self.validation_logits, self.truth)

    def parameters(self) -> int:
        """Trainable parameters of the network."""
        return sum(p.numel() for p in self.model.network.parameters() if p.requires_grad)

    def describe(self) -> dict[str, Any]:
        """What the run is, for its metrics and the exported card."""
        return {
            "corpora": {corpus.name: len(corpus.clips) for corpus in self.corpora},
            "dropped": {corpus.name: [stem for stem, _ in corpus.dropped] for corpus in self.corpora},
            "split": self.split.name,
            "train_clips": len(self.split.train),
            "validation_clips": len(self.split.validation),
            "train_speakers": sorted({clip.speaker for clip in self.split.train}),
            "seed": self.config.train.seed,
            "epochs": len(self.history),
            "train_seconds": round(self._elapsed_s, 1),
            "torch": str(torch.__version__),  # a TorchVersion would not load with weights_only
            "stream_ser": __version__,
            "commit": self._commit,
            "device": str(self.device),
        }

    def _write_metrics(self) -> None:
        history = [epoch.as_dict() for epoch in self.history]
        content = {"parameters": self.parameters(), "labels": list(self.labels), **self.describe(), "history": history}
        self._write_json("metrics.json", content)

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        text = json.dumps(content, indent=1)
        write_atomically(self.out / name, lambda path: path.write_text(text, encoding="utf-8"))

    def _write_windows(self) -> None:
        kept = self.windows[:: max(1, len(self.windows) // WINDOWS_KEPT)][:WINDOWS_KEPT].numpy()

        def save(path: Path) -> None:
            with path.open("wb") as file:  # given a name, numpy would add a suffix
                np.savez(file, windows=kept)

        write_atomically(self.out / WINDOWS, save)

    def _state(self) -> dict[str, Any]:
        return {
            "format": 1,
            "network": self.config.network,
            "config": self.config.as_dict(),
            "labels": list(self.labels),
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "average": self.average.state_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": [epoch.as_dict() for epoch in self.history],
            "describe": self.describe(),
            "licences": {corpus.name: corpus.licence for corpus in self.corpora},
            "temperature": self.temperature(),
        }

    def resume(self) -> bool:
        """Load the run folder's checkpoint, if there is one.

        Returns:
            whether there was one.

        Raises:
            TrainError: a checkpoint of another configuration, or one that cannot be read.
        """
        path = self.out / CHECKPOINT
        if not path.is_file():
            return False
        state = read_checkpoint(path)
        saved = RunConfig.from_dict(state["config"])
        if replace(saved, train=replace(saved.train, threads=self.config.train.threads)) != self.config:
            raise TrainError(f"{path}: made with other settings; choose another --out or repeat the settings")
        if state["describe"]["split"] != self.split.name or state["labels"] != list(self.labels):
            raise TrainError(f"{path}: made on another split or with other labels; choose another --out")
        if state["mean"] != self.mean.tolist() or state["std"] != self.std.tolist():
            raise TrainError(f"{path}: the training clips are not those that it was made with; choose another --out")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = [Epoch(**{**epoch, "scores": Scores(**_tuples(epoch["scores"]))}) for epoch in state["history"]]
        self._elapsed_s = state["describe"]["train_seconds"]
        return True


def _tuples(scores: dict[str, Any]) -> dict[str, Any]:
    return {
        **scores,
        "recall": tuple(scores["recall"]),
        "confusion": tuple(tuple(row) for row in scores["confusion"]),
    }
