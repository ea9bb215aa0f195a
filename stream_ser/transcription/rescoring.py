"""A finished line spelt once more with a language model: prefix beam search in place of the greedy choice."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_ser.ctc import Fusion, NgramModel, beam_search, ctc_alignment, words
from stream_ser.ctc.alignment import Word as AlignedWord
from stream_ser.errors import DataError
from stream_ser.runtime.card.recognition import Card
from stream_ser.transcription.line_decoder import class_order, vocabulary_of

#: Usual values for a network of characters and a model of words.
WEIGHT, BONUS, BEAM = 0.8, 1.5, 16


@dataclass(frozen=True)
class LanguageModel:
    """An n-gram model of words, or of characters, and how much it has to say.

    Attributes:
        ngrams: the model; in the case of the network's vocabulary.
        weight: of its log-probabilities beside the network's.
        bonus: for each word, against its liking for short texts.
        beam: texts that are followed at once.
    """

    ngrams: NgramModel
    weight: float = WEIGHT
    bonus: float = BONUS
    beam: int = BEAM

    @classmethod
    def read(cls, path: str | os.PathLike[str], weight: float = WEIGHT, bonus: float = BONUS) -> LanguageModel:
        """From an ARPA file, plain or ``.gz``, or that of a bundled network, by the network's name.

        Raises:
            DataError: it cannot be read.
        """
        name = os.fspath(path)
        bundled = Path(str(resources.files("stream_ser.assets"))) / f"{name}.arpa"
        return cls(NgramModel.read(bundled if name.isidentifier() and bundled.is_file() else Path(path)), weight, bonus)


class Rescorer:
    """Finds the words of a line again, with a language model.

    Args:
        card: of a multitask network.
        language_model: what speaks beside it.

    Raises:
        ModelError: the network transcribes nothing.
        DataError: the network can spell none of the language model's units.
    """

    def __init__(self, card: Card, language_model: LanguageModel) -> None:
        self._vocabulary = vocabulary_of(card)
        self._order = class_order(card)
        self._beam = language_model.beam
        units = language_model.ngrams.units
        characters = set(self._vocabulary.characters)
        if not any(set(unit) <= characters for unit in units):
            some = ", ".join(map(repr, sorted(units)[:3]))
            raise DataError(
                f"the language model's words ({some}) are not spelt with {self._vocabulary.characters!r}, expected "
                f"{self._vocabulary.case} case; convert it"
            )
        by_word = any(len(unit) > 1 for unit in units)
        self._fusion = Fusion(
            language_model.ngrams,
            self._vocabulary,
            "word" if by_word else "character",
            language_model.weight,
            language_model.bonus,
        )

    def __call__(self, log_probs: NDArray[np.float32]) -> list[AlignedWord]:
        """The words of ``(steps, classes)``, their times in steps; none where the best text is empty."""
        ordered = log_probs[:, self._order]
        best = beam_search(ordered, beam=self._beam, scorer=self._fusion)
        if not best or not best[0].tokens:
            return []
        tokens = best[0].tokens
        (alignment,) = ctc_alignment(ordered, tokens, len(ordered), len(tokens))
        return words(alignment, self._vocabulary, 1.0)
