"""Training of the multitask network. Draws hang on the seed and the epoch alone, so a resumed run repeats them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stream_ser.errors import TrainError
from stream_ser.models.multitask import Multitask
from stream_ser.train.checkpoint import current_commit, read_state, with_weights
from stream_ser.train.ctc import ENGLISH, Vocabulary, ctc_loss
from stream_ser.train.files import write_atomically
from stream_ser.train.optim import check_precision
from stream_ser.train.optimization import Optimization
from stream_ser.train.record import machine
from stream_ser.version import __version__

from .data import NO_EMOTION, Batch, Batches, Material, hear, hear_augmented
from .recipe import MultitaskRun
from .scores import Outputs, outputs

FORMAT = "multitask-1"
#: Not the classifiers' names: their commands look for those in run folders.
CHECKPOINT = "multitask.pt"
#: Before it, nobody is asked for an emotion: seconds.
_FIRST_S = 1.0
#: Of a run's description, what a resumed run must have in common with it.
_SAME_DATA = ("split", "train_clips", "validation_clips", "test_clips", "train_speakers")


class Losses(NamedTuple):
    """Mean over a batch; 0 where no clip has the label.

    Attributes:
        total: what is minimised.
        emotion: cross-entropy a clip with an emotion, nats.
        ctc: a character, nats, a clip with a transcript.
    """

    total: Tensor
    emotion: Tensor
    ctc: Tensor


@dataclass(frozen=True)
class Epoch:
    """What one epoch brought.

    Attributes:
        epoch: from 1.
        emotion_loss: mean over its batches.
        ctc_loss: mean over its batches.
        uar: of the validation part; None without emotions.
        wer: of its transcripts by corpus, decoded greedily.
        lr: of the last step.
        seconds: of training and validation.
    """

    epoch: int
    emotion_loss: float
    ctc_loss: float
    uar: float | None
    wer: dict[str, float]
    lr: float
    seconds: float


class MultitaskTrainer:
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
    """

    def __init__(
        self,
        config: MultitaskRun,
        material: Material,
        out: Path,
        device: torch.device,
        vocabulary: Vocabulary = ENGLISH,
    ) -> None:
        model = config.model
        if model.vocabulary != len(vocabulary) or model.num_classes != len(material.labels):
            raise TrainError(
                f"the network has {model.vocabulary} characters and {model.num_classes} emotions, the data "
                f"{len(vocabulary)} and {len(material.labels)}; leave model.vocabulary and model.num_classes alone"
            )
        check_precision(config.train.precision, device)
        self.config, self.material, self.out, self.device = config, material, out, device
        self.vocabulary = vocabulary
        self.history: list[Epoch] = []
        self._commit = current_commit()

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
        self.train = Batches(heard, *self._how())
        self.validation = Batches(hear(self.material.validation, config.features, advance), *self._how())
        self.build()

    def _ended(self) -> bool:
        path = self.out / CHECKPOINT
        return path.exists() and len(read_checkpoint(path)["history"]) >= self.config.train.epochs

    def take(self, prepared: MultitaskTrainer) -> None:
        """Instead of :meth:`prepare`: the clips of a run that differs in nothing that is done to them."""
        self.mean, self.std = prepared.mean, prepared.std
        self.train, self.validation = prepared.train, prepared.validation
        self.build()

    def _how(self) -> tuple[Any, ...]:
        c = self.config
        return c.features, self.mean, self.std, self.vocabulary, c.model.stride, c.train.batch_size

    def build(self) -> None:
        """An untrained network and its optimiser."""
        train = self.config.train
        torch.manual_seed(train.seed)
        self.network = Multitask(self.config.model).to(self.device)
        self.steps = self.train.count(train.repeat)
        self._optimization = Optimization(self.network, train.optimizer_settings(), self.steps, self.device)
        self.history = []

    @property
    def averaged(self) -> Multitask:
        """The averaged network: what is tested, checkpointed beside the trained one and exported."""
        network: Multitask = self._optimization.averaged
        return network

    def fit(
        self,
        on_step: Callable[[int, float], object] = lambda step, loss: None,
        on_epoch: Callable[[Epoch], object] = lambda epoch: None,
    ) -> None:
        """Train what is left of the epochs; ``on_step`` gets the number of the step and its loss."""
        train = self.config.train
        for number in range(len(self.history) + 1, train.epochs + 1):
            start = time.perf_counter()
            # Seeds hang on the epoch's number alone, so a resumed run draws what an unbroken one would have drawn.
            torch.manual_seed(train.seed * 100_003 + number)
            self.network.train()
            sums, count = np.zeros(2), 0
            for index, batch in enumerate(self.train.epoch((train.seed, number), self.config.augment, train.repeat)):
                losses = self._step((number - 1) * self.steps + min(index, self.steps - 1), batch)
                sums += [float(losses.emotion), float(losses.ctc)]
                count += 1
                on_step(index + 1, float(losses.total))
            found = self.evaluate(self.validation)
            scored = found.emotions()
            emotion, ctc = (sums / count).tolist()
            epoch = Epoch(
                number,
                emotion,
                ctc,
                scored[0].uar if scored else None,
                {name: rates.wer for name, rates in found.rates(self.vocabulary).items()},
                self._optimization.lr,
                time.perf_counter() - start,
            )
            self.history.append(epoch)
            self.save()
            on_epoch(epoch)

    def _step(self, step: int, batch: Batch) -> Losses:
        """One optimiser step.

        Raises:
            TrainError: the loss is not finite.
        """
        self._optimization.begin(step)
        with self._optimization.autocast():
            logits, log_probs, _ = self.network.steps(batch.features.to(self.device))
        losses = self.losses(logits, log_probs, batch)
        self._optimization.end(step, losses.total)
        return Losses(*(loss.detach() for loss in losses))

    def losses(self, logits: Tensor, log_probs: Tensor, batch: Batch) -> Losses:
        """Both losses; a clip without a label adds nothing to that of the label.

        Args:
            logits: ``(batch, steps, classes)``.
            log_probs: ``(batch, steps, vocabulary)``.
            batch: what was heard.
        """
        train, rows = self.config.train, len(batch.steps)
        emotion = ctc = logits.new_zeros(())
        known = torch.nonzero(batch.emotions != NO_EMOTION)[:, 0]
        if len(known) and train.emotion_weight:
            truth = batch.emotions[known].to(self.device)
            ends = batch.steps[known] - 1
            first = round(_FIRST_S * self.config.features.sample_rate / self.config.features.hop_length)
            early = torch.minimum(ends, ends.new_full((), first // self.config.model.stride))
            early = early + (torch.rand(len(known)) * (ends - early + 1)).long()
            for place, share in ((ends, 1.0 - train.early), (early, train.early)):
                found = logits[known.to(self.device), place.to(self.device)]
                emotion = emotion + share * functional.cross_entropy(
                    found, truth, label_smoothing=train.label_smoothing
                )
        spelt = torch.nonzero(batch.target_lengths)[:, 0]
        if len(spelt) and train.ctc_weight:
            # Targets lie one behind the other; clips without a text have none among them.
            ctc = ctc_loss(
                log_probs[spelt.to(self.device)].transpose(0, 1),
                batch.targets.to(self.device),
                batch.steps[spelt],
                batch.target_lengths[spelt],
            )
        shares = len(known) / rows, len(spelt) / rows
        total = train.emotion_weight * shares[0] * emotion + train.ctc_weight * shares[1] * ctc
        return Losses(total, emotion, ctc)

    def evaluate(self, batches: Batches) -> Outputs:
        """What the averaged network says of items."""
        return outputs(self.averaged, batches, self.device)

    def test(self, advance: Callable[[], object] | None = None) -> Outputs | None:
        """What it says of the test part, which is decoded here; None without one."""
        if not self.material.test:
            return None
        return self.evaluate(Batches(hear(self.material.test, self.config.features, advance), *self._how()))

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
            "train_seconds": round(sum(epoch.seconds for epoch in self.history), 1),
            "stream_ser": __version__,
            "machine": machine(self.device),
            "commit": self._commit,
        }

    def _seconds(self, heard: Any) -> float:
        frames = sum(
            x.shape[1] for item, x in zip(heard.items, heard.copies[0], strict=True) if item.text and not item.held_out
        )
        return float(frames * self.config.features.hop_length / self.config.features.sample_rate)

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "format": FORMAT,
            "config": self.config.as_dict(),
            "labels": list(self.material.labels),
            "vocabulary": self.vocabulary.as_dict(),
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "describe": self.describe(),
            **self._optimization.state(),
            "history": [asdict(epoch) for epoch in self.history],
            "results": {},
        }
        write_atomically(self.out / CHECKPOINT, lambda part: torch.save(state, part))

    def finish(self, results: dict[str, Any]) -> None:
        """Put results into the checkpoint, from which an export takes them."""
        path = self.out / CHECKPOINT
        state = {**read_checkpoint(path), "describe": self.describe(), "results": results}
        write_atomically(path, lambda part: torch.save(state, part))

    def resume(self) -> None:
        """Go on from the run folder's checkpoint.

        Raises:
            TrainError: unreadable, or of other settings or data.
        """
        path = self.out / CHECKPOINT
        state = read_checkpoint(path)
        now = self.describe()
        same = state["config"] == self.config.as_dict() and state["mean"] == self.mean.tolist()
        if not same or any(state["describe"].get(name) != now[name] for name in _SAME_DATA):
            raise TrainError(f"{path}: made with other settings or data; repeat them or choose another --out")
        self._optimization.restore(state)
        self.history = [Epoch(**content) for content in state["history"]]


_KINDS: Sequence[tuple[str, type]] = (
    *((name, dict) for name in ("config", "describe", "vocabulary", "weights", "average", "optimizer", "results")),
    *((name, list) for name in ("labels", "mean", "std", "history")),
)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a multitask checkpoint as data, never as code.

    Raises:
        TrainError: missing, unreadable, or not a multitask network's.
    """
    state: dict[str, Any] = read_state(path, FORMAT, "a multitask checkpoint", "stream-ser train multitask", _KINDS)
    return state


def trained_network(state: dict[str, Any]) -> Multitask:
    """The averaged network of a checkpoint, in evaluation mode.

    Raises:
        TrainError: weights that do not fit the configuration.
    """
    network: Multitask = with_weights(Multitask(MultitaskRun.from_dict(state["config"]).model), state["average"])
    return network
