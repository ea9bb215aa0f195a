"""What a transcriber wrote, and how much of it is wrong, by corpus."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from stream_ser.models.transcriber import END, Transcriber
from stream_ser.train.losses.ctc import ErrorRates, Vocabulary, error_rates
from stream_ser.train.tasks.multitask.data import Batches, Item
from stream_ser.train.tasks.multitask.scores import spoken


@dataclass(frozen=True)
class Written:
    """What a network wrote.

    Attributes:
        items: in any order.
        texts: of each.
    """

    items: tuple[Item, ...]
    texts: tuple[str, ...]

    def rates(self) -> dict[str, ErrorRates]:
        """Word and character error rates by corpus; of held-out sentences under a name of their own."""
        return {
            name: error_rates([self.items[i].text for i in chosen], [self.texts[i] for i in chosen])
            for name, chosen in spoken(self.items).items()
        }


@torch.no_grad()
def written(network: Transcriber, batches: Batches, device: torch.device, vocabulary: Vocabulary) -> Written:
    """What ``network`` writes of all items, in float32, decoded greedily."""
    network.eval()
    items, texts = [], []
    for batch in batches.ordered():
        decoded = network.greedy(batch.features.to(device), batch.steps.to(device))
        for index, (tokens, _) in zip(batch.places, decoded, strict=True):
            items.append(batches.heard.items[index])
            texts.append(vocabulary.decode(token for token in tokens.tolist() if token != END))
    return Written(tuple(items), tuple(texts))
