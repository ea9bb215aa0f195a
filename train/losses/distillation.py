"""Knowledge distillation: learn from what other networks say of the same windows."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from stream_ser.errors import TrainError
from stream_ser.train.checkpoint import trained_network
from stream_ser.train.config import RunConfig
from stream_ser.train.data.normalization import Normalized
from stream_ser.train.optim import autocast
from stream_ser.train.transfer.finetune import describe_run, read_run


def fingerprint(weights: dict[str, torch.Tensor]) -> str:
    """Twelve hex digits that tell one set of weights from another."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


class Teachers:
    """An ensemble of trained networks: any kinds and normalisations, but of the same labels, log-mel and window.

    Args:
        paths: checkpoints or run folders.
        labels: of the pupil.
        config: of the pupil.
        device: where to compute.

    Attributes:
        names: what each teacher is, with a fingerprint of its weights, for the record.
        speakers: all training speakers of the teachers.
        licences: what binds the teachers' weights, by corpus.

    Raises:
        TrainError: a checkpoint that cannot be read, or a teacher that hears or names something else.
    """

    def __init__(self, paths: Sequence[Path], labels: Sequence[str], config: RunConfig, device: torch.device) -> None:
        self.config = config.train
        self.device = device
        self.names: list[str] = []
        self.speakers: set[str] = set()
        self.licences: dict[str, str] = {}
        self._networks: list[Normalized] = []
        for path in paths:
            state = read_run(path)
            theirs = RunConfig.from_dict(state["config"])
            if state["labels"] != list(labels):
                raise TrainError(f"{path}: teaches the labels {', '.join(state['labels'])}, not {', '.join(labels)}")
            heard = replace(theirs.features, normalization=config.features.normalization)
            if heard != config.features or theirs.window.frames != config.window.frames:
                raise TrainError(f"{path}: hears another log-mel or window than the network to train; make them equal")
            mean, std = (np.asarray(state[name], np.float32) for name in ("mean", "std"))
            network = Normalized(trained_network(state), mean, std, theirs.features)
            self._networks.append(network.to(device).eval().requires_grad_(False))
            self.names.append(f"{describe_run(state)}, {fingerprint(state['average'])}")
            self.speakers.update(state["describe"]["train_speakers"])
            self.licences.update(state["licences"])

    @torch.no_grad()
    def probabilities(
        self,
        log_mel: torch.Tensor,
        augment: Callable[[torch.Tensor, np.random.Generator], torch.Tensor],
        rng: np.random.Generator,
    ) -> torch.Tensor:
        """Mean of the teachers' probabilities at the temperature of the distillation, ``(batch, classes)``.

        Args:
            log_mel: raw, ``(batch, mel, time)``.
            augment: what is done to the pupil's normalised windows; each teacher gets the same with its own.
            rng: its draws for ``augment`` are repeated for each teacher, and not used up.
        """
        said = []
        for teacher in self._networks:
            x = augment(teacher.normalize(log_mel), copy.deepcopy(rng))
            with autocast(self.config.precision, self.device):
                logits = teacher.network(x)
            said.append(torch.softmax(logits.float() / self.config.distill_temperature, dim=-1))
        return torch.stack(said).mean(dim=0)


def distillation_loss(logits: torch.Tensor, taught: torch.Tensor, temperature: float) -> torch.Tensor:
    """Kullback-Leibler divergence from the teachers', times the squared temperature (Hinton et al. 2015).

    Args:
        logits: of the pupil, ``(batch, classes)``.
        taught: the teachers' probabilities at the same temperature, ``(batch, classes)``.
        temperature: divides the logits.

    Returns:
        scalar, nats; gradients are of the cross entropy's size at any temperature.
    """
    log_probs = F.log_softmax(logits / temperature, dim=-1)
    return temperature**2 * F.kl_div(log_probs, taught, reduction="batchmean")
