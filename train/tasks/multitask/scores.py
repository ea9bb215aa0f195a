"""What a multitask network got right: emotions, and transcripts by corpus, with a language model and without."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream_ser.models.multitask import Multitask
from stream_ser.train.losses.ctc import (
    ErrorRates,
    Fusion,
    NgramModel,
    Scorer,
    Vocabulary,
    beam_search,
    error_rates,
    greedy,
)
from stream_ser.train.metrics import Floats, Scores, fit_temperature_windows, score, softmax

from .data import NO_EMOTION, Batches, Item, Spectrogram, onset

#: Of the language model, in words.
LM_ORDER = 3
#: Weight of its log-probabilities and bonus a word, tried on the validation part.
LM_GRID = tuple((weight, bonus) for weight in (0.4, 0.8, 1.2) for bonus in (0.0, 1.5, 3.0))
#: Clips of the validation part on which they are tried.
_TUNED_ON = 40


@dataclass(frozen=True)
class Outputs:
    """What a network says of some items.

    Attributes:
        items: in any order.
        logits: emotion at each clip's end, ``(items, classes)``.
        log_probs: of each clip, ``(steps, vocabulary)``.
        spectrograms: raw log-mel of each clip, ``(mel, frames)``.
    """

    items: tuple[Item, ...]
    logits: Floats
    log_probs: tuple[NDArray[np.float32], ...]
    spectrograms: tuple[Spectrogram, ...]

    def emotions(self) -> tuple[Scores, float] | None:
        """Scores and calibration temperature over the items with an emotion; None where there is none."""
        truth = np.asarray([item.emotion for item in self.items])
        known = truth != NO_EMOTION
        if not known.any():
            return None
        logits, truth = self.logits[known], truth[known]
        temperature = fit_temperature_windows(logits, np.arange(len(logits)), truth)
        return score(softmax(logits), truth), temperature

    def spoken(self) -> dict[str, list[int]]:
        """Items with a transcript; see :func:`spoken`."""
        return spoken(self.items)

    def texts(self, vocabulary: Vocabulary, scorer: Scorer | None = None, chosen: Iterable[int] = ()) -> list[str]:
        """Decoded texts of the ``chosen`` items: greedily, or by beam search with a ``scorer``."""
        found = []
        for index in chosen:
            log_probs = self.log_probs[index]
            if scorer is None:
                tokens: Sequence[int] = [token.token for token in greedy(log_probs, len(log_probs))[0]]
            else:
                tokens = beam_search(log_probs, scorer=scorer)[0].tokens
            found.append(vocabulary.decode(tokens))
        return found

    def rates(self, vocabulary: Vocabulary, scorer: Scorer | None = None) -> dict[str, ErrorRates]:
        """Word and character error rates of each group of :meth:`spoken`."""
        return {
            name: error_rates([self.items[i].text for i in chosen], self.texts(vocabulary, scorer, chosen))
            for name, chosen in self.spoken().items()
        }


def spoken(items: Sequence[Item]) -> dict[str, list[int]]:
    """Places of items with a transcript by corpus; those of held-out sentences under a name of their own."""
    groups: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        if item.text:
            name = f"{item.corpus}, held-out sentences" if item.held_out else item.corpus
            groups.setdefault(name, []).append(index)
    return groups


@torch.no_grad()
def outputs(network: Multitask, batches: Batches, device: torch.device) -> Outputs:
    """What ``network`` says of all items, in float32."""
    network.eval()
    items, logits, spelt, sounds = [], [], [], []
    for batch in batches.ordered():
        felt, log_probs, _ = network.steps(batch.features.to(device))
        for row, (index, steps) in enumerate(zip(batch.places, batch.steps.tolist(), strict=True)):
            items.append(batches.heard.items[index])
            logits.append(felt[row, steps - 1].double().cpu().numpy())
            spelt.append(log_probs[row, :steps].cpu().numpy())
            sounds.append(batches.heard.copies[0][index])
    return Outputs(tuple(items), np.stack(logits), tuple(spelt), tuple(sounds))


def delay_frames(found: Outputs, stride: int) -> int:
    """Frames by which a character comes after its sound: the median over clips of the first one's, at least 0.

    CTC asks for an order of characters, not for their time: a causal network waits until it is sure (Sak et al. 2015).
    """
    lags = []
    for index in (i for chosen in found.spoken().values() for i in chosen):
        if tokens := greedy(found.log_probs[index], len(found.log_probs[index]))[0]:
            lags.append(tokens[0].start * stride - onset(found.spectrograms[index]))
    return max(0, round(float(np.median(lags)))) if lags else 0


def language_model(items: Iterable[Item]) -> NgramModel | None:
    """Words of the training transcripts, each sentence counted once, however many said it; None without any."""
    texts = sorted({item.text for item in items if item.text and not item.held_out})
    return NgramModel.estimate([text.split() for text in texts], LM_ORDER) if texts else None


def tune(model: NgramModel, vocabulary: Vocabulary, validated: Outputs) -> tuple[Fusion, dict[str, float]]:
    """The weight and bonus of :data:`LM_GRID` with the least mean word error rate over the validation part's corpora.

    Held-out sentences have no say.
    """
    groups = [chosen for name, chosen in validated.spoken().items() if not name.endswith("held-out sentences")]
    chosen = [group[:: -(-len(group) // _TUNED_ON)] for group in groups]
    best: tuple[float, Fusion] | None = None
    for weight, bonus in LM_GRID:
        fusion = Fusion(model, vocabulary, weight=weight, bonus=bonus)
        found = [
            error_rates([validated.items[i].text for i in group], validated.texts(vocabulary, fusion, group)).wer
            for group in chosen
        ]
        mean = float(np.mean(found)) if found else 0.0
        if best is None or mean < best[0]:
            best = mean, fusion
    assert best is not None
    fusion = best[1]
    return fusion, {"order": LM_ORDER, "weight": fusion.weight, "bonus": fusion.bonus}


def as_dict(rates: dict[str, ErrorRates]) -> dict[str, dict[str, Any]]:
    """For JSON."""
    return {name: asdict(found) for name, found in rates.items()}
