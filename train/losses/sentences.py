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

from stream_ser.models.base import WindowNetwork
from stream_ser.train.data.corpora import Clip

from .moments import EarlyToo

#: Gives embeddings, and has the layer that classifies them.
Embedder = WindowNetwork | EarlyToo


def sentences_of(clips: Sequence[Clip]) -> tuple[str, ...]:
    """The sentences that two speakers or more say in ``clips``, in alphabetical order; none where there is only one.

    What one speaker alone says would teach the network to know that speaker.
    """
    speakers: dict[str, set[str]] = {}
    for clip in clips:
        if clip.text:
            speakers.setdefault(clip.text, set()).add(clip.speaker)
    found = tuple(sorted(text for text, who in speakers.items() if len(who) > 1))
    return found if len(found) > 1 else ()


def sentence_targets(clips: Sequence[Clip], sentences: Sequence[str]) -> NDArray[np.float32]:
    """One-hot rows ``(clips, sentences)``; zeros for a clip that says none of them."""
    index = {text: number for number, text in enumerate(sentences)}
    targets = np.zeros((len(clips), len(sentences)), dtype=np.float32)
    for row, clip in enumerate(clips):
        if clip.text in index:
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
    """A network and, on the same embedding, a head for the sentences and one for a teacher's features.

    Args:
        network: the one that is kept; shared, not copied.
        count: number of sentences.
        width: of the features.
    """

    def __init__(self, network: Embedder, count: int, width: int = 0) -> None:
        super().__init__()
        self.network = network
        self.sentences = nn.Linear(network.head.in_features, count) if count else None
        self.features = nn.Linear(network.head.in_features, width) if width else None

    def own_heads(self) -> list[nn.Linear]:
        """The heads that are dropped after training."""
        return [head for head in (self.sentences, self.features) if head is not None]

    def forward(self, x: Tensor, detached: Tensor | None = None) -> Tensor:
        """``(batch, mel, time)`` to the logits of classes and sentences, and features: ``(batch, all of them)``.

        Of a network that gives several embeddings a window, ``(batch, moments, all of them)``.

        Args:
            x: windows.
            detached: rows whose classes train the classifier alone, not the network below, ``(batch,)``.
        """
        embedding = self.network.embed(x)
        classified = embedding
        if detached is not None:
            rows = detached.reshape(-1, *[1] * (embedding.ndim - 1))
            classified = torch.where(rows, embedding.detach(), embedding)
        return torch.cat([self.network.head(classified), *(head(embedding) for head in self.own_heads())], dim=-1)
