"""What trainings of networks that spell have in common: clips in memory, epochs, checkpoints.

Draws hang on the seed and the epoch alone, so a resumed run repeats them.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from stream_ser.errors import TrainError
from stream_ser.train.checkpoint import current_commit, read_state
from stream_ser.train.files import write_atomically
from stream_ser.train.losses.ctc import ENGLISH, Vocabulary
from stream_ser.train.optim import check_precision
from stream_ser.train.optimization import Optimization
from stream_ser.train.run_folder import machine
from stream_ser.version import __version__

from .config import SpokenRun
from .data import Batch, Batches, Heard, Material, hear, hear_augmented

#: Of a run's description, what a resumed run must have in common with it.
_SAME_DATA = ("split", "train_clips", "validation_clips", "test_clips", "train_speakers")
_KINDS: Sequence[tuple[str, type]] = (
    *((name, dict) for name in ("config", "describe", "vocabulary", "weights", "average", "optimizer", "results")),
    *((name, list) for name in ("mean", "std", "history")),
)

Run = TypeVar("Run", bound=SpokenRun)
Network = TypeVar("Network", bound=nn.Module)
Record = TypeVar("Record")


class SpokenTrainer(ABC, Generic[Run, Network, Record]):
    """One run.

    Args:
        config: what to train, and how.
        material: what to train on.
        out: run folder; it is there.
        device: of the network.
        vocabulary: that the network spells with.

    Attributes:
        network: what is trained.
        history: finished epochs.

    Raises:
        TrainError: the network has another number of characters, or the device cannot compute in the precision.
    """

    #: Of the checkpoint: what it says it is, its name, and its name for people, who make it with ``stream-ser train``.
    FORMAT: ClassVar[str]
    CHECKPOINT: ClassVar[str]
    KIND: ClassVar[str]

    def __init__(
        self, config: Run, material: Material, out: Path, device: torch.device, vocabulary: Vocabulary = ENGLISH
    ) -> None:
        if config.model.vocabulary != len(vocabulary):
            raise TrainError(
                f"the network has {config.model.vocabulary} characters, the data {len(vocabulary)}; leave "
                "model.vocabulary alone"
            )
        check_precision(config.train.precision, device)
        self.config, self.material, self.out, self.device = config, material, out, device
        self.vocabulary = vocabulary
        self.history: list[Record] = []
        self._commit = current_commit()

    @abstractmethod
    def make_network(self) -> Network:
        """An untrained network, on the CPU."""

    @abstractmethod
    def batch_losses(self, batch: Batch) -> tuple[Tensor, ...]:
        """What is minimised, and then what an epoch tells the mean of, of the network in training mode."""

    @abstractmethod
    def record(self, number: int, losses: Sequence[float], lr: float) -> Record:
        """What epoch ``number`` brought: ``losses`` are means over its batches. Measures the validation part."""

    @classmethod
    @abstractmethod
    def read_record(cls, content: dict[str, Any]) -> Record:
        """What a checkpoint holds of an epoch."""

    def prepare(self, advance: Callable[[], object] | None = None) -> None:
        """Decode the clips, take the statistics of the training part and build the network.

        A run that has come to its end, and is only measured again, gets no augmented copies: they take the most time.

        Args:
            advance: called once a clip.
        """
        config, train = self.config, self.config.train
        if train.threads:
            torch.set_num_threads(train.threads)
        copies = 1 if self._ended() else train.copies
        heard, self.mean, self.std = hear_augmented(
            self.material.train, config.features, config.augment, copies, train.seed, advance
        )
        self.train = Batches(heard, *self.how())
        self.validation = Batches(hear(self.material.validation, config.features, advance), *self.how())
        self.build()

    def _ended(self) -> bool:
        path = self.out / self.CHECKPOINT
        return path.exists() and len(self.read(path)["history"]) >= self.config.train.epochs

    def take(self, prepared: SpokenTrainer[Run, Network, Record]) -> None:
        """Instead of :meth:`prepare`: the clips of a run that differs in nothing that is done to them."""
        self.mean, self.std = prepared.mean, prepared.std
        self.train, self.validation = prepared.train, prepared.validation
        self.build()

    def how(self) -> tuple[Any, ...]:
        """Arguments of the batches behind the clips."""
        c = self.config
        return c.features, self.mean, self.std, self.vocabulary, c.model.stride, c.train.batch_size

    def build(self) -> None:
        """An untrained network and its optimiser."""
        train = self.config.train
        torch.manual_seed(train.seed)
        self.network: Network = self.make_network().to(self.device)
        self.steps = self.train.count(train.repeat)
        self._optimization = Optimization(self.network, train.optimizer_settings(), self.steps, self.device)
        self.history = []

    @property
    def averaged(self) -> Network:
        """The averaged network: what is tested, checkpointed beside the trained one and exported."""
        network: Network = self._optimization.averaged
        return network

    def autocast(self) -> Any:
        """Compute in the precision that the run asks for."""
        return self._optimization.autocast()

    def fit(
        self,
        on_step: Callable[[int, float], object] = lambda step, loss: None,
        on_epoch: Callable[[Record], object] = lambda epoch: None,
    ) -> None:
        """Train what is left of the epochs; ``on_step`` gets the number of the step and its loss.

        Raises:
            TrainError: a loss is not finite.
        """
        train = self.config.train
        for number in range(len(self.history) + 1, train.epochs + 1):
            self._began = time.perf_counter()
            # Seeds hang on the epoch's number alone, so a resumed run draws what an unbroken one would have drawn.
            torch.manual_seed(train.seed * 100_003 + number)
            self.network.train()
            told = []
            batches = self.train.epoch((train.seed, number), self.config.augment, train.repeat, train.joined)
            for index, batch in enumerate(batches):
                # The draw of copies can make some batches more or less than were counted.
                step = (number - 1) * self.steps + min(index, self.steps - 1)
                self._optimization.begin(step)
                total, *losses = self.batch_losses(batch)
                # A batch in which no clip has a label that counts teaches nothing.
                on_step(index + 1, self._optimization.end(step, total) if total.requires_grad else 0.0)
                told.append([float(loss.detach()) for loss in losses])
            self.history.append(self.record(number, np.mean(told, axis=0).tolist(), self._optimization.lr))
            self.save()
            on_epoch(self.history[-1])

    @property
    def epoch_seconds(self) -> float:
        """Since the epoch began."""
        return time.perf_counter() - self._began

    def test_batches(self, advance: Callable[[], object] | None = None) -> Batches | None:
        """The test part, which is decoded here; None without one."""
        if not self.material.test:
            return None
        return Batches(hear(self.material.test, self.config.features, advance), *self.how())

    def describe(self) -> dict[str, Any]:
        """What the run is, for its report and the exported card."""
        parts = {name: getattr(self.material, name) for name in ("train", "validation", "test")}
        corpora = Counter(item.corpus for items in parts.values() for item in items)
        return {
            "corpora": dict(corpora),
            "split": self.material.split,
            **{f"{name}_clips": len(items) for name, items in parts.items()},
            **{
                f"{name}_hours_with_text": round(self._seconds(items) / 3600, 2)
                for name, items in (("train", self.train.heard), ("validation", self.validation.heard))
            },
            "train_speakers": sorted({item.clip.speaker for item in parts["train"]}),
            "held_out_sentences": list(self.config.train.held_out),
            "licences": self.material.licences,
            "seed": self.config.train.seed,
            "train_seconds": round(sum(getattr(epoch, "seconds", 0.0) for epoch in self.history), 1),
            "stream_ser": __version__,
            "machine": machine(self.device),
            "commit": self._commit,
        }

    def _seconds(self, heard: Heard) -> float:
        frames = sum(
            x.shape[1] for item, x in zip(heard.items, heard.copies[0], strict=True) if item.text and not item.held_out
        )
        return float(frames * self.config.features.hop_length / self.config.features.sample_rate)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "format": self.FORMAT,
            "config": self.config.as_dict(),
            "vocabulary": self.vocabulary.as_dict(),
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "describe": self.describe(),
            **self._optimization.state(),
            "history": [asdict(epoch) for epoch in self.history],  # type: ignore[call-overload]
            "results": {},
        }

    def save(self) -> None:
        """Write the checkpoint."""
        state = self.state()
        write_atomically(self.out / self.CHECKPOINT, lambda part: torch.save(state, part))

    def finish(self, results: dict[str, Any]) -> None:
        """Put results into the checkpoint, from which an export takes them."""
        path = self.out / self.CHECKPOINT
        state = {**self.read(path), "describe": self.describe(), "results": results}
        write_atomically(path, lambda part: torch.save(state, part))

    def resume(self) -> None:
        """Go on from the run folder's checkpoint.

        Raises:
            TrainError: unreadable, or of other settings or data.
        """
        path = self.out / self.CHECKPOINT
        state = self.read(path)
        now = self.describe()
        same = type(self.config).from_dict(state["config"]) == self.config and state["mean"] == self.mean.tolist()
        if not same or any(state["describe"].get(name) != now[name] for name in _SAME_DATA):
            raise TrainError(f"{path}: made with other settings or data; repeat them or choose another --out")
        self._optimization.restore(state)
        self.history = [self.read_record(content) for content in state["history"]]

    @classmethod
    def read(cls, path: Path) -> dict[str, Any]:
        """Read a checkpoint as data, never as code.

        Raises:
            TrainError: missing, unreadable, or of another training.
        """
        state: dict[str, Any] = read_state(
            path, cls.FORMAT, f"a {cls.KIND} checkpoint", f"stream-ser train {cls.KIND}", _KINDS
        )
        return state
