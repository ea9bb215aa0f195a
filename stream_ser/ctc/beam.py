"""Prefix beam search: the most probable texts, each summed over its paths, with a language model or without.

Every kept text has two probabilities, of its paths that end with a blank and of those that end with its last token:
only after a blank does the same token begin anew. Texts are nodes of a tree, so that one that is reached in two ways
is one.

Reference: A. Hannun et al., First-pass large vocabulary continuous speech recognition using bi-directional recurrent
DNNs, 2014.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from typing import Any, Protocol

from stream_ser.ctc.batch import as_array

_NEVER = -math.inf


class Scorer(Protocol):
    """What a beam search adds for the text itself, such as :class:`~stream_ser.ctc.lm.Fusion`."""

    def start(self) -> Any:
        """State of the empty text."""

    def extend(self, state: Any, token: int) -> tuple[Any, float]:
        """State and score that a text gains with its next token."""

    def finish(self, state: Any) -> float:
        """Score that a text gains by ending here."""


@dataclass(frozen=True)
class Hypothesis:
    """A decoded text.

    Attributes:
        tokens: class indices.
        log_prob: of the paths that were kept, by the network alone.
        score: with what the language model added.
    """

    tokens: tuple[int, ...]
    log_prob: float
    score: float


@dataclass(eq=False, slots=True)
class _Text:
    """A text: what comes before, its last token, and what a scorer made of it."""

    before: _Text | None = None
    token: int = -1
    state: Any = None
    added: float = 0.0
    longer: dict[int, _Text] = field(default_factory=dict)

    def extended(self, token: int, scorer: Scorer | None) -> _Text:
        if token not in self.longer:
            state, gained = scorer.extend(self.state, token) if scorer else (None, 0.0)
            self.longer[token] = _Text(self, token, state, self.added + gained)
        return self.longer[token]

    def tokens(self) -> tuple[int, ...]:
        found, text = [], self
        while text.before is not None:
            found.append(text.token)
            text = text.before
        return tuple(reversed(found))


#: Log-probabilities of a text's paths that end with a blank, and with its last token.
_Beams = dict[_Text, list[float]]


def beam_search(
    log_probs: Any,
    blank: int = 0,
    beam: int = 16,
    scorer: Scorer | None = None,
    prune: float = 12.0,
    n_best: int = 1,
) -> list[Hypothesis]:
    """The best texts of one item, best first.

    Args:
        log_probs: ``(time, classes)``; array, or tensor on any device.
        blank: class index.
        beam: texts that are kept after each frame.
        scorer: adds to each text's log-probability.
        prune: a class does not extend a text in a frame where it is less probable than the best class by more than
            ``exp(prune)``; ``math.inf`` tries all. The more, the slower.
        n_best: texts to give, at most.

    Raises:
        ValueError: a shape, class or number does not fit, or a score is NaN.
    """
    scores = as_array(log_probs)
    if scores.ndim != 2 or not 0 <= blank < scores.shape[1]:
        raise ValueError(f"log_probs have shape {scores.shape}, expected (time, classes) with blank {blank} a class")
    if beam < 1 or n_best < 1 or not prune >= 0:
        raise ValueError(f"beam {beam} and n_best {n_best} must be at least 1, prune {prune} at least 0")
    if scores.size and math.isnan(scores.max()):
        raise ValueError("log_probs hold NaN")
    beams: _Beams = {_Text(state=scorer.start() if scorer else None): [0.0, _NEVER]}
    for row in scores.tolist():
        floor = max(row) - prune
        likely = [(token, p) for token, p in enumerate(row) if token != blank and p >= floor and p > _NEVER]
        beams = _advance(beams, row, blank, likely, scorer)
        if len(beams) > beam:
            beams = dict(heapq.nlargest(beam, beams.items(), key=lambda item: _log_add(*item[1]) + item[0].added))
    found = []
    for text, parts in beams.items():
        log_prob = _log_add(*parts)
        if log_prob > _NEVER:
            score = log_prob + text.added + (scorer.finish(text.state) if scorer else 0.0)
            found.append(Hypothesis(text.tokens(), log_prob, score))
    return heapq.nlargest(n_best, found, key=lambda hypothesis: hypothesis.score)


def _advance(
    beams: _Beams, row: list[float], blank: int, likely: list[tuple[int, float]], scorer: Scorer | None
) -> _Beams:
    """The texts after one more frame, pruned by nothing but ``likely``."""
    new: _Beams = {}
    for text, (with_blank, with_token) in beams.items():
        both = _log_add(with_blank, with_token)
        same = new.setdefault(text, [_NEVER, _NEVER])
        same[0] = _log_add(same[0], both + row[blank])
        if text.before is not None:
            same[1] = _log_add(same[1], with_token + row[text.token])
        for token, p in likely:
            before = with_blank if token == text.token else both
            if before > _NEVER:
                parts = new.setdefault(text.extended(token, scorer), [_NEVER, _NEVER])
                parts[1] = _log_add(parts[1], before + p)
    return new


def _log_add(one: float, other: float) -> float:
    """``log(exp(one) + exp(other))``."""
    if one < other:
        one, other = other, one
    return one if other == _NEVER else one + math.log1p(math.exp(other - one))
