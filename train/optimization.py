"""A network in training: optimiser, learning rate, loss scaling and weight average, and what a checkpoint holds."""

from __future__ import annotations

import contextlib
import copy
import math
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from stream_ser.errors import TrainError

from .config import TrainConfig
from .optim import Schedule, autocast, check_precision, ema_with_warmup, make_optimizer, make_scaler

Network = TypeVar("Network", bound=nn.Module)


class Optimization(Generic[Network]):
    """Steps of an optimiser, each followed by one of the weight average.

    Args:
        network: on its device.
        config: optimiser, learning rate, precision, clipping and average.
        steps: an epoch.
        device: of the network.

    Raises:
        TrainError: the device cannot compute in the precision.
    """

    def __init__(self, network: Network, config: TrainConfig, steps: int, device: torch.device) -> None:
        check_precision(config.precision, device)
        self.network = network
        self._config = config
        self._device = device
        self._optimizer = make_optimizer(network, config)
        self._schedule = Schedule(self._optimizer, config, steps)
        self._scaler = make_scaler(config.precision, device)
        update = ema_with_warmup(config.ema_decay)
        self._average = AveragedModel(network, multi_avg_fn=update, use_buffers=False)

    @property
    def averaged(self) -> Network:
        """The averaged network."""
        module: Network = self._average.module  # type: ignore[assignment]
        return module

    @property
    def lr(self) -> float:
        """Learning rate of the last step."""
        return self._schedule.lr

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Compute in the precision that the run asks for."""
        return autocast(self._config.precision, self._device)

    def begin(self, step: int) -> None:
        """Before the forward pass of a step, counted from 0 over all epochs."""
        self._schedule.before_step(step)
        self._optimizer.zero_grad(set_to_none=True)

    def end(self, step: int, loss: Tensor) -> float:
        """After it: gradients, clipping, step and average.

        Returns:
            The loss.

        Raises:
            TrainError: it is not finite.
        """
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainError(f"the loss is {value} at step {step + 1}; lower --lr or set train.grad_clip")
        self._scaler.scale(loss).backward()
        if self._config.grad_clip:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self._config.grad_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._average.update_parameters(self.network)
        return value

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it; the averaged weights are those to export."""
        return {
            "weights": self.network.state_dict(),
            "average": self.averaged.state_dict(),
            "averaged": int(self._average.n_averaged),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.network.load_state_dict(state["weights"])
        self.averaged.load_state_dict(state["average"])
        self._average.n_averaged.fill_(state["averaged"])
        # The optimiser keeps and changes the tensors that it is given.
        self._optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state["scaler"])
