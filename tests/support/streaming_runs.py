"""A tiny run of the streaming network."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from stream_ser.train import presets  # noqa: E402
from stream_ser.train.config import RunConfig  # noqa: E402
from stream_ser.train.data import corpora, splits  # noqa: E402
from stream_ser.train.trainer import Trainer  # noqa: E402

TINY = (
    "window.frames=128",
    "window.minimum=48",
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


def config(*changes: str) -> RunConfig:
    return presets.apply(presets.preset("streaming-septr"), [*TINY, *changes])


def trainer(corpus_folder: Path, out: Path, *changes: str, **more: object) -> Trainer:
    corpus = corpora.load("crema-d", corpus_folder)
    out.mkdir(parents=True, exist_ok=True)
    run = Trainer(config(*changes), splits.fixed([corpus]), [corpus], out, torch.device("cpu"), **more)
    run.prepare()
    return run
