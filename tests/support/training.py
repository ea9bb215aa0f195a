"""Runs of a second for the tests of training: networks of a few thousand parameters on the generated corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from stream_ser.train import presets
from stream_ser.train.config import RunConfig
from stream_ser.train.data import corpora, splits
from stream_ser.train.trainer import Trainer

TINY = (
    "window.frames=100",
    "window.minimum=50",
    "model.dim=16",
    "model.depth=1",
    "model.heads=2",
    "model.dim_head=8",
    "model.mlp_dim=16",
    "model.stem_channels=8,8,16,16",
    "train.batch_size=8",
    "train.epochs=2",
    "augment.speeds=1.0",
)
#: Instead of the convolutions: no batch norm, so that no window depends on the others of its batch.
PATCHES = ("model.stem=patch", "model.patch=16x20", "model.stem_channels=", "train.precision=fp32")


def tiny_config(*changes: str) -> RunConfig:
    """The default recipe made small."""
    return presets.apply(presets.preset("septr", "default"), [*TINY, *changes])


def options(*changes: str) -> list[str]:
    """The same for the command line."""
    return [word for change in (*TINY, *changes) for word in ("--set", change)]


def make(corpus_folder: Path, out: Path, *changes: str, clips: slice = slice(None), **more: Any) -> Trainer:
    """A prepared trainer on the fixed split; ``clips`` takes some of the training part, ``more`` goes to Trainer."""
    corpus = corpora.load("crema-d", corpus_folder)
    out.mkdir(parents=True, exist_ok=True)
    split = splits.fixed([corpus])
    split = replace(split, train=split.train[clips])
    trainer = Trainer(tiny_config(*changes), split, [corpus], out, torch.device("cpu"), **more)
    trainer.prepare()
    return trainer


def strip(history: Sequence[Any]) -> list[Any]:
    """Epochs without the time they took."""
    return [replace(epoch, seconds=0.0) for epoch in history]
