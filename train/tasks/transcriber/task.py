"""Training of the transcriber: cross-entropy of the decoder, told the characters before, beside CTC on the encoder.

CTC also shows the decoder where to look: its alignment of the text is what one head of attention is taught.

Reference: S. Watanabe et al., "Hybrid CTC/attention architecture for end-to-end speech recognition", IEEE JSTSP 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from stream_ser.errors import DataError
from stream_ser.models.transcriber import END, Transcriber
from stream_ser.train.checkpoint import with_weights
from stream_ser.train.losses.ctc import ENGLISH, Vocabulary, ctc_alignment, ctc_loss
from stream_ser.train.tasks.multitask.data import Batch, Batches, Item, Material
from stream_ser.train.tasks.multitask.trainer import SpokenTrainer

from .config import TranscriberRun
from .scores import Written, written

FORMAT = "transcriber-2"
#: Not the classifiers' names: their commands look for those in run folders.
CHECKPOINT = "transcriber.pt"
_NOT_ASKED = -100
#: Steps beside a character in which one may look for it, too: CTC's spikes are no exact times.
LEEWAY = 2


class Losses(NamedTuple):
    """Means over a batch.

    Attributes:
        total: what is minimised.
        attention: cross-entropy of the decoder, nats a character; the end is one.
        ctc: of the encoder, nats a character, a clip; 0 without.
        guide: of the decoder's looking away from where CTC hears a character, nats a character; 0 without.
    """

    total: Tensor
    attention: Tensor
    ctc: Tensor
    guide: Tensor


@dataclass(frozen=True)
class Epoch:
    """What one epoch brought.

    Attributes:
        epoch: from 1.
        attention_loss: mean over its batches.
        ctc_loss: mean over its batches.
        guide_loss: mean over its batches.
        wer: of the validation part's transcripts by corpus, decoded greedily.
        lr: of the last step.
        seconds: of training and validation.
    """

    epoch: int
    attention_loss: float
    ctc_loss: float
    guide_loss: float
    wer: dict[str, float]
    lr: float
    seconds: float


def with_texts(material: Material, max_tokens: int, vocabulary: Vocabulary = ENGLISH) -> Material:
    """The clips that a transcriber has a use for.

    Args:
        material: clips with transcripts and without.
        max_tokens: characters of the longest text to learn.
        vocabulary: that texts are spelt with.

    Returns:
        for training those with a text that may be learnt and is not longer, for the rest those with a text.

    Raises:
        DataError: there are none to learn from or to validate with.
    """

    def learnt(item: Item) -> bool:
        return bool(item.text) and not item.held_out and len(vocabulary.encode(item.text)) <= max_tokens

    train = tuple(filter(learnt, material.train))
    validation, test = (tuple(item for item in part if item.text) for part in (material.validation, material.test))
    for name, part in (("training", train), ("validation", validation)):
        if not part:
            raise DataError(
                f"no {name} clip has a transcript of up to {max_tokens} characters; give a corpus with texts, such as "
                "an4 or librispeech"
            )
    return replace(material, train=train, validation=validation, test=test)


class TranscriberTrainer(SpokenTrainer[TranscriberRun, Transcriber, Epoch]):
    """One run; see :class:`stream_ser.train.tasks.multitask.trainer.SpokenTrainer`."""

    FORMAT, CHECKPOINT, KIND = FORMAT, CHECKPOINT, "transcriber"

    def make_network(self) -> Transcriber:
        """An untrained network, on the CPU."""
        return Transcriber(self.config.model)

    def how(self) -> tuple[Any, ...]:
        """Arguments of the batches: also the longest text that the decoder has places for."""
        return *super().how(), 0, self.config.model.max_tokens

    def batch_losses(self, batch: Batch) -> Losses:
        """All losses; a clip without a text, or with one that cannot be said so fast, adds nothing."""
        network, train = self.network, self.config.train
        inputs, expected = teach(batch.targets, batch.target_lengths, network.begin)
        if network.training and train.told_wrong:
            inputs = mislead(inputs, train.told_wrong, network.begin)
        with self.autocast():
            encoded, mask = network.encode(batch.features.to(self.device), batch.steps.to(self.device))
            looks: list[Tensor] | None = [] if train.guide_weight else None
            logits = network(network.remember(encoded, mask), inputs.to(self.device), looks)
            log_probs = network.ctc(encoded) if train.ctc_weight else None
        asked = max(1, int((expected != _NOT_ASKED).sum()))
        attention = functional.cross_entropy(
            logits.flatten(0, 1),
            expected.flatten().to(self.device),
            ignore_index=_NOT_ASKED,
            reduction="sum",
            label_smoothing=train.label_smoothing,
        )
        attention = attention / asked
        ctc = guide = attention.new_zeros(())
        if log_probs is not None and bool(batch.target_lengths.any()):
            ctc = self._ctc(log_probs, batch)
            # A loss that is not finite ends the run with a reason; there is nothing to align then.
            if looks is not None and bool(torch.isfinite(ctc)):
                near = aligned(log_probs.detach(), batch, looks[0].shape[1]).to(self.device)
                guide = astray(looks[0], near)
        total = (1.0 - train.ctc_weight) * attention + train.ctc_weight * ctc + train.guide_weight * guide
        return Losses(total, attention, ctc, guide)

    def _ctc(self, log_probs: Tensor, batch: Batch) -> Tensor:
        """CTC loss of the clips with a text, of which there are some."""
        spelt = torch.nonzero(batch.target_lengths)[:, 0]
        # Targets lie one behind the other; clips without a text have none among them.
        loss: Tensor = ctc_loss(
            log_probs[spelt.to(self.device)].transpose(0, 1),
            batch.targets.to(self.device),
            batch.steps[spelt],
            batch.target_lengths[spelt],
        )
        return loss

    def record(self, number: int, losses: Sequence[float], lr: float) -> Epoch:
        """Measure the averaged network on the validation part."""
        wer = {name: rates.wer for name, rates in self.evaluate(self.validation).rates().items()}
        attention, ctc, guide = losses
        return Epoch(number, attention, ctc, guide, wer, lr, self.epoch_seconds)

    @classmethod
    def read_record(cls, content: dict[str, Any]) -> Epoch:
        """What a checkpoint holds of an epoch."""
        return Epoch(**content)

    def describe(self) -> dict[str, Any]:
        """What the run is; with the length of the longest clip that was learnt, beyond which little is known.

        Pairs of clips are longer, but are no speech as anybody speaks it.
        """
        longest = max(columns.shape[1] for columns in self.train.heard.copies[0])
        return {**super().describe(), "longest_frames": longest}

    def evaluate(self, batches: Batches) -> Written:
        """What the averaged network writes of items."""
        return written(self.averaged, batches, self.device, self.vocabulary)

    def test(self, advance: Callable[[], object] | None = None) -> Written | None:
        """What it writes of the test part, which is decoded here; None without one."""
        batches = self.test_batches(advance)
        return None if batches is None else self.evaluate(batches)


def teach(targets: Tensor, lengths: Tensor, begin: int) -> tuple[Tensor, Tensor]:
    """What the decoder is told, and what it shall say to it.

    Args:
        targets: texts, one behind the other.
        lengths: of each, ``(batch,)``; 0 where a clip has none.
        begin: class that comes before a text.

    Returns:
        tokens and classes ``(batch, longest + 1)``; a class is not asked for behind a text's end, nor of a clip
        without a text.

    Example:
        >>> told, expected = teach(torch.tensor([5, 7]), torch.tensor([2, 0]), 29)
        >>> told.tolist(), expected.tolist()
        ([[29, 5, 7], [29, 0, 0]], [[5, 7, 0], [-100, -100, -100]])
    """
    texts = pad_sequence(list(targets.split(lengths.tolist())), batch_first=True, padding_value=END)
    inputs = functional.pad(texts, (1, 0), value=begin)
    expected = functional.pad(texts, (0, 1), value=END)
    places = torch.arange(expected.shape[1])
    unknown = (places > lengths[:, None]) | (lengths[:, None] == 0)
    return inputs, expected.masked_fill(unknown, _NOT_ASKED)


def aligned(log_probs: Tensor, batch: Batch, length: int) -> Tensor:
    """Where CTC hears each character of the texts, with :data:`LEEWAY` steps on either side.

    Args:
        log_probs: ``(batch, steps, classes)``.
        batch: its texts; a clip without one is heard nowhere.
        length: of the texts that the decoder is told.

    Returns:
        true at such steps, ``(batch, length, steps)``; the end of a text has none.
    """
    near = torch.zeros(len(log_probs), length, log_probs.shape[1], dtype=torch.bool)
    spelt = torch.nonzero(batch.target_lengths)[:, 0]
    scores = log_probs[spelt.to(log_probs.device)].transpose(0, 1)
    found = ctc_alignment(scores, batch.targets, batch.steps[spelt], batch.target_lengths[spelt])
    for item, alignment in zip(spelt.tolist(), found, strict=True):
        for place, (start, end) in enumerate(zip(alignment.starts, alignment.ends, strict=True)):
            near[item, place, max(0, start - LEEWAY) : end + LEEWAY] = True
    return near


def astray(looks: Tensor, near: Tensor) -> Tensor:
    """Mean of minus the log of the weight that is given to steps that are near, over the places that have such.

    Args:
        looks: log of weights, ``(batch, length, steps)``.
        near: true at those steps, the same shape.
    """
    asked = near.any(dim=-1)
    return -looks[asked].masked_fill(~near[asked], -torch.inf).logsumexp(dim=-1).mean()


def mislead(told: Tensor, share: float, begin: int) -> Tensor:
    """What the decoder is told, with a ``share`` of the characters drawn anew from all; the beginning stays.

    Args:
        told: tokens ``(batch, length)``.
        share: in [0, 1].
        begin: class that comes before a text; the classes of the characters lie between :data:`END` and it.
    """
    wrong = torch.randint_like(told, END + 1, begin)
    return torch.where((torch.rand(told.shape) < share) & (told != begin), wrong, told)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a transcriber's checkpoint as data, never as code.

    Raises:
        TrainError: missing, unreadable, or not a transcriber's.
    """
    state: dict[str, Any] = TranscriberTrainer.read(path)
    return state


def trained_network(state: dict[str, Any]) -> Transcriber:
    """The averaged network of a checkpoint, in evaluation mode.

    Raises:
        TrainError: weights that do not fit the configuration.
    """
    network: Transcriber = with_weights(Transcriber(TranscriberRun.from_dict(state["config"]).model), state["average"])
    return network
