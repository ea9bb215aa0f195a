"""Training of the multitask network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from stream_ser.ctc.vocabulary import BLANK
from stream_ser.errors import TrainError
from stream_ser.models.multitask import Multitask
from stream_ser.train.checkpoint import with_weights
from stream_ser.train.losses.ctc import ENGLISH, Vocabulary, ctc_loss

from .config import MultitaskRun
from .data import NO_EMOTION, Batch, Batches, Material
from .scores import Outputs, outputs
from .trainer import SpokenTrainer

FORMAT = "multitask-1"
#: Not the classifiers' names: their commands look for those in run folders.
CHECKPOINT = "multitask.pt"
#: Before it, nobody is asked for an emotion: seconds.
_FIRST_S = 1.0


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


class MultitaskTrainer(SpokenTrainer[MultitaskRun, Multitask, Epoch]):
    """One run; see :class:`SpokenTrainer`.

    Raises:
        TrainError: as there, or the network has another number of emotions.
    """

    FORMAT, CHECKPOINT, KIND = FORMAT, CHECKPOINT, "multitask"

    def __init__(
        self,
        config: MultitaskRun,
        material: Material,
        out: Path,
        device: torch.device,
        vocabulary: Vocabulary = ENGLISH,
    ) -> None:
        super().__init__(config, material, out, device, vocabulary)
        if config.model.num_classes != len(material.labels):
            raise TrainError(
                f"the network has {config.model.num_classes} emotions, the data {len(material.labels)}; leave "
                "model.num_classes alone"
            )

    def how(self) -> tuple[Any, ...]:
        """Arguments of the batches behind the clips: here also what is heard before anything is spelt."""
        features = self.config.features
        heard_first = self.config.train.hear_first_s * features.sample_rate / features.hop_length
        return *super().how(), round(heard_first)

    def make_network(self) -> Multitask:
        """An untrained network, on the CPU."""
        return Multitask(self.config.model)

    def batch_losses(self, batch: Batch) -> Losses:
        """Both losses of the network."""
        with self.autocast():
            logits, log_probs, _ = self.network.steps(batch.features.to(self.device))
        return self.losses(logits, log_probs, batch)

    def record(self, number: int, losses: Sequence[float], lr: float) -> Epoch:
        """Measure the averaged network on the validation part."""
        found = self.evaluate(self.validation)
        scored = found.emotions()
        emotion, ctc = losses
        wer = {name: rates.wer for name, rates in found.rates(self.vocabulary).items()}
        return Epoch(number, emotion, ctc, scored[0].uar if scored else None, wer, lr, self.epoch_seconds)

    @classmethod
    def read_record(cls, content: dict[str, Any]) -> Epoch:
        """What a checkpoint holds of an epoch."""
        return Epoch(**content)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {**super().state(), "labels": list(self.material.labels)}

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
            ctc = self._ctc(log_probs[spelt.to(self.device)], batch, spelt)
        shares = len(known) / rows, len(spelt) / rows
        total = train.emotion_weight * shares[0] * emotion + train.ctc_weight * shares[1] * ctc
        return Losses(total, emotion, ctc)

    def _ctc(self, log_probs: Tensor, batch: Batch, rows: Tensor) -> Tensor:
        """CTC loss of clips with a text, a character, over the paths that are blank in the quiet beginning.

        Args:
            log_probs: ``(clips, steps, vocabulary)``.
            batch: that they are of.
            rows: of them in the batch.
        """
        steps = torch.arange(log_probs.shape[1])
        quiet = (steps < batch.quiet[rows, None]).to(self.device)
        characters = torch.arange(log_probs.shape[2], device=self.device) != BLANK
        loss: Tensor = ctc_loss(
            log_probs.masked_fill(quiet[..., None] & characters, -torch.inf).transpose(0, 1),
            # One behind the other; clips without a text have none among them.
            batch.targets.to(self.device),
            batch.steps[rows],
            batch.target_lengths[rows],
            BLANK,
        )
        return loss

    def evaluate(self, batches: Batches) -> Outputs:
        """What the averaged network says of items."""
        return outputs(self.averaged, batches, self.device)

    def test(self, advance: Callable[[], object] | None = None) -> Outputs | None:
        """What it says of the test part, which is decoded here; None without one."""
        batches = self.test_batches(advance)
        return None if batches is None else self.evaluate(batches)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a multitask checkpoint as data, never as code.

    Raises:
        TrainError: missing, unreadable, or not a multitask network's.
    """
    state = MultitaskTrainer.read(path)
    if not isinstance(state.get("labels"), list):
        raise TrainError(f"{path}: a damaged checkpoint ('labels' is missing); train again")
    return state


def trained_network(state: dict[str, Any]) -> Multitask:
    """The averaged network of a checkpoint, in evaluation mode.

    Raises:
        TrainError: weights that do not fit the configuration.
    """
    network: Multitask = with_weights(Multitask(MultitaskRun.from_dict(state["config"]).model), state["average"])
    return network
