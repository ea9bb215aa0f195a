"""Word and character error rates, by jiwer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorRates:
    """Substitutions, deletions and insertions over the references' length, of all texts together.

    Attributes:
        wer: word error rate; above 1 where more is inserted than was said.
        cer: character error rate, spaces included.
        words: in the references.
        characters: in the references.
        wrong_texts: share of texts that are not exactly right.
    """

    wer: float
    cer: float
    words: int
    characters: int
    wrong_texts: float


def error_rates(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorRates:
    """Compare decoded texts with what was said, both normalised by the same vocabulary.

    Raises:
        ValueError: unequal numbers of texts, none, or references without a word.
    """
    import jiwer

    if len(references) != len(hypotheses) or not any(map(str.strip, references)):
        raise ValueError(
            f"{len(references)} references and {len(hypotheses)} hypotheses; expected as many, and words in them"
        )
    by_word = jiwer.process_words(list(references), list(hypotheses))
    by_character = jiwer.process_characters(list(references), list(hypotheses))
    return ErrorRates(
        by_word.wer,
        by_character.cer,
        by_word.hits + by_word.substitutions + by_word.deletions,
        by_character.hits + by_character.substitutions + by_character.deletions,
        sum(a.split() != b.split() for a, b in zip(references, hypotheses, strict=True)) / len(references),
    )
