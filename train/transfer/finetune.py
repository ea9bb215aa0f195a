"""Start from a trained network instead of from random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stream_ser.errors import TrainError
from stream_ser.runtime.engine import bundled, find_model
from stream_ser.train.checkpoint import CHECKPOINT, read_checkpoint
from stream_ser.train.config import RunConfig
from stream_ser.train.optim import HEAD

from .onnx_weights import read_onnx

#: Where the averaged weights of the network stand in a checkpoint.
AVERAGED = "module.network."


def read_run(path: Path) -> dict[str, Any]:
    """The checkpoint at ``path``, or of the run folder ``path``, or what an exported or bundled model has of one.

    Raises:
        TrainError: none there, unreadable, or not one of ours.
        ModelError: an ONNX file that the runtime refuses.
    """
    if path.suffix == ".onnx" or (not path.exists() and str(path) in {model.stem for model in bundled()}):
        return read_onnx(find_model(path))
    return read_checkpoint(path / CHECKPOINT if path.is_dir() else path)


def adapt(config: RunConfig, state: dict[str, Any]) -> RunConfig:
    """The recipe ``config`` for the network of ``state``: that network, its features and its window.

    Raises:
        TrainError: the recipe is for another kind of network.
    """
    start = RunConfig.from_dict(state["config"])
    if start.network != config.network:
        raise TrainError(f"the model to start from is a {start.network}, not a {config.network}; train {start.network}")
    return replace(config, model=start.model, features=start.features, window=start.window)


@dataclass(frozen=True)
class TakenOver:
    """What a network got from the one it started from.

    Attributes:
        source: what that was, for the record.
        tensors: number of tensors that were taken over.
        fresh: names of those that were not.
        speakers: training speakers of the source.
    """

    source: str
    tensors: int
    fresh: tuple[str, ...]
    speakers: tuple[str, ...]

    def describe(self) -> str:
        """One line for people."""
        new = f"; new: {', '.join(self.fresh)} (other labels)" if self.fresh else ", the classifier with them"
        return f"started from {self.source}: {self.tensors} tensors taken over{new}"


def describe_run(state: dict[str, Any]) -> str:
    """What a checkpoint is, in a few words, for records and messages."""
    about = state["describe"]
    return f"{state['network']} of {about['epochs']} epochs on {' + '.join(about['corpora'])}, seed {about['seed']}"


def take_over(network: nn.Module, state: dict[str, Any], labels: Sequence[str]) -> TakenOver:
    """Copy the averaged weights of ``state`` into ``network``; the classifier only if the labels are the same.

    Raises:
        TrainError: the networks differ in more than the classifier.
    """
    same = state["labels"] == list(labels)
    weights = {
        name.removeprefix(AVERAGED): value
        for name, value in state["average"].items()
        if name.startswith(AVERAGED) and (same or not name.startswith(AVERAGED + HEAD))
    }
    own = network.state_dict()
    fresh = tuple(name for name in own if not same and name.startswith(HEAD))
    for name in sorted({*own, *weights} - set(fresh)):
        shapes = [tuple(tensors[name].shape) if name in tensors else "nothing" for tensors in (weights, own)]
        if shapes[0] != shapes[1]:
            raise TrainError(
                f"the model to start from has {shapes[0]} for {name}, this network {shapes[1]}; leave its settings "
                "(model, features, window) as they are"
            )
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)
    return TakenOver(describe_run(state), len(weights), fresh, tuple(state["describe"]["train_speakers"]))
