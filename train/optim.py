"""Optimiser, learning rate, precision and weight average of a run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.lr_scheduler import ReduceLROnPlateau

from stream_ser.errors import TrainError

from .config import Precision, TrainConfig

#: The parameters of every network's last layer; see stream_ser.models.base.
HEAD = "head."


def decayed_parameters(network: nn.Module) -> set[int]:
    """Ids of the matrices and kernels of linear, convolution and attention layers: those that weight decay is for."""
    found: set[int] = set()
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            found.add(id(module.weight))
        elif isinstance(module, nn.MultiheadAttention):
            found.add(id(module.in_proj_weight))
    return found


def parameter_groups(network: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """The network's parameters by what they learn with: decayed or not and, where that differs, body or head.

    A body that does not learn (``body_lr`` 0) has no group, and its parameters no gradient.
    """
    decayed = decayed_parameters(network)
    parts: dict[float, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        scale = 1.0 if name.startswith(HEAD) else config.body_lr
        parameter.requires_grad_(scale > 0.0)
        if scale > 0.0:
            parts.setdefault(scale, []).append(parameter)
    groups = []
    for scale, parameters in parts.items():
        matrices = [p for p in parameters if id(p) in decayed]
        others = [p for p in parameters if id(p) not in decayed]
        groups.append({"params": matrices, "weight_decay": config.weight_decay, "lr_scale": scale})
        groups.append({"params": others, "weight_decay": 0.0, "lr_scale": scale})
    return [group for group in groups if group["params"]]


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), or Adam (Kingma & Ba 2015), whose weight decay joins the gradient."""
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameter_groups(network, config), lr=config.lr, fused=True)


def learning_rate(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine to zero at the last step (Loshchilov & Hutter 2017); flat for other schedules."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.lr * min(1.0, (step + 1) / warmup)
    if config.schedule != "cosine":
        return config.lr
    progress = (step - warmup) / max(1.0, config.epochs * steps_per_epoch - warmup)
    return config.lr * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


class Schedule:
    """Sets the learning rate before each step and, on a plateau, lowers it after an epoch.

    Args:
        optimizer: its groups' ``lr_scale`` multiplies the rate.
        config: which schedule.
        steps_per_epoch: optimiser steps.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, config: TrainConfig, steps_per_epoch: int) -> None:
        self.optimizer = optimizer
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.factor = 1.0
        self.plateau: ReduceLROnPlateau | None = None
        if config.schedule == "plateau":
            # It watches a rate of its own: a reduction must outlive the warm-up and hold for every group.
            probe = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
            self.plateau = ReduceLROnPlateau(probe, factor=config.plateau_factor, patience=config.plateau_patience)

    def before_step(self, step: int) -> None:
        """Set the rate of optimiser step ``step``, counted from the run's start."""
        lr = self.factor * learning_rate(step, self.steps_per_epoch, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)

    def after_epoch(self, validation_loss: float) -> None:
        """Tell the loss of an epoch."""
        if self.plateau is not None:
            self.plateau.step(validation_loss)
            self.factor = float(self.plateau.optimizer.param_groups[0]["lr"])

    @property
    def lr(self) -> float:
        """The rate of the last step, of the part of the network that learns fastest."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        if self.plateau is None:
            return {}
        return {"factor": self.factor, "best": self.plateau.best, "bad_epochs": self.plateau.num_bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        if self.plateau is None or not state:
            return
        self.factor = float(state["factor"])
        self.plateau.optimizer.param_groups[0]["lr"] = self.factor
        self.plateau.best = float(state["best"])
        self.plateau.num_bad_epochs = int(state["bad_epochs"])


def ema_with_warmup(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average whose decay rises as ``(1 + n) / (10 + n)`` up to ``decay``; 0 is no average.

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


def check_precision(precision: Precision, device: torch.device) -> None:
    """Refuse what the device cannot do.

    Raises:
        TrainError: fp16 without CUDA, or bf16 on a CUDA device that lacks it.
    """
    if precision == "fp16" and device.type != "cuda":
        raise TrainError(f"train.precision fp16 trains on CUDA only, and this is {device.type}; take bf16 or fp32")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise TrainError(f"{torch.cuda.get_device_name(device)} has no bf16; take --precision fp16 or fp32")


def make_scaler(precision: Precision, device: torch.device) -> GradScaler:
    """Loss scaling, without which small gradients vanish in fp16 (Micikevicius et al. 2018); passive otherwise."""
    return GradScaler(device.type, enabled=precision == "fp16")


@contextlib.contextmanager
def _attention_in_half() -> Iterator[None]:
    """Unfused attention keeps its inputs' precision; torch would copy queries, keys and values to float32 and back."""
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Autocast to bf16 or fp16. On CPU short lines attend faster without the fused kernel's backward."""
    stack = contextlib.ExitStack()
    if precision != "fp32":
        kind = torch.bfloat16 if precision == "bf16" else torch.float16
        stack.enter_context(torch.autocast(device.type, kind))
        stack.enter_context(_attention_in_half())
    if device.type == "cpu":
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    return stack
