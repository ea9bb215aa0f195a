"""An auxiliary task that is dropped after training: telling the sentences of acted corpora apart.

A network that knows what is said can tell how it was said from what the words ask for. The task needs no more than the
texts, is learned from the embedding that the classifier reads, and costs nothing once the network is exported.
Reference: R. Caruana, "Multitask Learning", Machine Learning 28, 1997.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from stream_ser.errors import TrainError
from stream_ser.models.base import WindowNetwork

from .corpora import Clip


def sentences_of(clips: Sequence[Clip]) -> tuple[str, ...]:
    """The sentences that are spoken in ``clips``, in alphabetical order.

    Raises:
        TrainError: fewer than two, so there is nothing to tell apart.
    """
    found = tuple(sorted({clip.text for clip in clips if clip.text}))
    if len(found) < 2:
        raise TrainError(
            f"train.sentences: the training clips have {len(found)} known sentence{'s' * (len(found) != 1)}, two or more "
            "are needed; leave it at 0"
        )
    return found


def sentence_targets(clips: Sequence[Clip], sentences: Sequence[str]) -> NDArray[np.float32]:
    """One-hot rows ``(clips, sentences)``; zeros for a clip without a known text."""
    index = {text: number for number, text in enumerate(sentences)}
    targets = np.zeros((len(clips), len(sentences)), dtype=np.float32)
    for row, clip in enumerate(clips):
        if clip.text:
            targets[row, index[clip.text]] = 1.0
    return targets


def sentence_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy summed over the clips with a text, over the size of the batch: rows of zeros add nothing.

    Args:
        logits: ``(batch, sentences)``.
        targets: ``(batch, sentences)`` probabilities, or zeros.
    """
    return F.cross_entropy(logits, targets)


class WithSentences(nn.Module):
    """A network and, on the same embedding, a head for the sentences.

    Args:
        network: the one that is kept; shared, not copied.
        count: number of sentences.
    """

    def __init__(self, network: WindowNetwork, count: int) -> None:
        super().__init__()
        self.network = network
        self.sentences = nn.Linear(network.head.in_features, count)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to the logits of the classes and of the sentences ``(batch, classes + sentences)``."""
        embedding = self.network.embed(x)
        return torch.cat((self.network.head(embedding), self.sentences(embedding)), dim=-1)
