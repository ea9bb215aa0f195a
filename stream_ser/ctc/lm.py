"""What a language model adds to a text in a beam search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from stream_ser.ctc.ngram import END, UNKNOWN, NgramModel, State
from stream_ser.ctc.vocabulary import SPACE, Vocabulary

Unit = Literal["word", "character"]
#: How a model of characters writes the space.
WRITTEN_SPACE = "|"


def units(text: str, unit: Unit) -> list[str]:
    """A normalised text as the units of a language model.

    Example:
        >>> units("A BEE", "word"), units("A BEE", "character")
        (['A', 'BEE'], ['A', '|', 'B', 'E', 'E'])
    """
    return text.split() if unit == "word" else [WRITTEN_SPACE if c == SPACE else c for c in text]


@dataclass(frozen=True)
class _WordState:
    """The words before, the beginning of the next one, and whether it has already been found unknown."""

    words: State
    begun: str = ""
    unknown: bool = False


@dataclass(frozen=True)
class Fusion:
    """Shallow fusion: ``weight * log p(text) + bonus * units`` for a beam search over characters.

    A model of words speaks when a word ends. That no known word begins like this it says at once, so that the beam
    does not fill with such; in the end the sum is the same.

    Attributes:
        model: of the units.
        vocabulary: of the network.
        unit: what the model is of.
        weight: of its natural log-probabilities.
        bonus: for each unit, against a model's liking for short texts.

    Raises:
        ValueError: another unit, or one of words for a vocabulary without a space.
    """

    model: NgramModel
    vocabulary: Vocabulary
    unit: Unit = "word"
    weight: float = 0.5
    bonus: float = 0.0
    _beginnings: frozenset[str] = field(init=False, repr=False, compare=False, default=frozenset())

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise ValueError(f"unit is {self.unit!r}, expected one of {', '.join(get_args(Unit))}")
        if self.unit == "word":
            if self.vocabulary.space is None:
                raise ValueError("a language model of words needs a space in the vocabulary; use one of characters")
            beginnings = frozenset(word[:n] for word in self.model.units for n in range(1, len(word) + 1))
            object.__setattr__(self, "_beginnings", beginnings)

    def start(self) -> Any:
        """State of the empty text."""
        return _WordState(self.model.start()) if self.unit == "word" else self.model.start()

    def extend(self, state: Any, token: int) -> tuple[Any, float]:
        """State and score that a text gains with its next character."""
        character = self.vocabulary.character(token)
        if self.unit == "character":
            gained, after = self.model.score(state, WRITTEN_SPACE if character == SPACE else character)
            return after, self.weight * gained + self.bonus
        if character == SPACE:
            return self._word_ends(state)
        begun = state.begun + character
        if state.unknown or begun in self._beginnings:
            return _WordState(state.words, begun, state.unknown), 0.0
        return _WordState(state.words, begun, True), self.weight * self.model.score(state.words, UNKNOWN)[0]

    def finish(self, state: Any) -> float:
        """Score that a text gains by ending here."""
        gained = 0.0
        if self.unit == "word":
            state, gained = self._word_ends(state)
            state = state.words
        return gained + self.weight * self.model.score(state, END)[0]

    def _word_ends(self, state: _WordState) -> tuple[_WordState, float]:
        if not state.begun:  # a space after a space
            return state, 0.0
        gained, words = self.model.score(state.words, UNKNOWN if state.unknown else state.begun)
        return _WordState(words), self.bonus + (0.0 if state.unknown else self.weight * gained)
