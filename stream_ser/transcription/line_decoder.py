"""What is said, from the CTC output of a streaming network: words with their times, line after line.

Decoding is greedy, so a word that was given is never taken back; only the last one still grows. With a language model
the line is spelt once more when it has ended. A word begins with its
first character and ends with its last one; CTC networks give a character where they are sure of it, often for one step
only, so words are shorter than they are spoken, and a little late. A line ends with the utterance, after
:data:`PAUSE_S` without a character, or with :data:`MAX_WORDS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ser.ctc.alignment import Word as AlignedWord
from stream_ser.ctc.greedy import GreedyDecoder, Token
from stream_ser.ctc.vocabulary import Vocabulary
from stream_ser.errors import ModelError
from stream_ser.events import Word
from stream_ser.runtime.card.recognition import Card

#: A pause that ends a line, where no voice activity detection has ended the utterance before.
PAUSE_S = 1.0
#: Of a line: what is shown and written again with each new word stays short.
MAX_WORDS = 60
_SPACE = " "
#: Steps around a line that are looked at when it is spelt once more.
_AROUND = 4


def sample_of_step(card: Card, step: int) -> int:
    """Where a step of ``log_probs`` begins, in samples from the beginning of the network's first frame.

    A frame stands for the ``hop_length`` samples in its middle. The first steps of a network with a delay lie before 0.
    """
    features = card.features
    frame = step * card.stride - card.delay_frames
    return frame * features.hop_length + (features.n_fft - features.hop_length) // 2


def vocabulary_of(card: Card) -> Vocabulary:
    """What a card's CTC output spells, in the order of its classes, the blank left out.

    Raises:
        ModelError: the model has no such output.
    """
    if not card.vocabulary:
        raise ModelError(
            f"{card.name}: recognises emotion only, expected a model that transcribes (kind 'multitask'); "
            "choose one with --model (see 'stream-ser models')"
        )
    characters = "".join(card.vocabulary)
    return Vocabulary(characters, "upper" if characters == characters.upper() else "lower")


def class_order(card: Card) -> list[int]:
    """The classes of ``log_probs`` in the order of :func:`vocabulary_of`, the blank first."""
    return [card.blank, *(place for place, character in enumerate(card.vocabulary) if character)]


@dataclass(frozen=True, slots=True)
class Line:
    """Words of one line; those of a line that is not final may be followed by more, and the last one may grow."""

    words: tuple[Word, ...]
    final: bool


class Transcriber:
    """Spells the words of one utterance after the other.

    Args:
        card: of a multitask network.
        respell: from the ``log_probs`` of a whole line to its words, their times in steps; default: what was greedy.
    """

    def __init__(self, card: Card, respell: Callable[[NDArray[np.float32]], list[AlignedWord]] | None = None) -> None:
        self._card = card
        self._respell = respell
        self._decoder = GreedyDecoder(card.blank)
        seconds_a_step = card.stride * card.features.hop_length / card.features.sample_rate
        self._pause = max(1, round(PAUSE_S / seconds_a_step))
        self.begin(0)

    def begin(self, origin: int) -> None:
        """An utterance begins: the network's first frame is at sample ``origin``."""
        self._decoder.reset()
        self._origin = self._limit = origin
        self._steps = self._last = 0
        self._words: list[Word] = []
        self._open: list[Token] = []
        self._shown: tuple[str, ...] = ()
        #: For spelling a line once more: its steps, from the one at ``_kept_from`` on.
        self._kept: list[NDArray[np.float32]] = []
        self._kept_from = 0

    def push(self, log_probs: NDArray[np.float32], limit: int) -> list[Line]:
        """Take the next steps.

        Args:
            log_probs: ``(steps, classes)``.
            limit: sample behind which nothing was heard: what the network says later it says of the last word.

        Returns:
            Lines that have ended, and the one that goes on if its text has changed.
        """
        self._limit = limit
        lines: list[Line] = []
        ended = self._decoder.push(log_probs)
        self._steps += len(log_probs)
        if self._respell is not None:
            self._kept += list(log_probs)
        for token in ended:
            if token.start - self._last >= self._pause:
                self._end_line(lines)
            self._take(token)
            if len(self._words) >= MAX_WORDS and not self._open:
                self._end_line(lines)
        partial = self._decoder.partial
        if (self._steps if partial is None else partial.start) - self._last >= self._pause:
            self._end_line(lines)
        words = self._all(partial)
        if not words:
            self._forget(self._steps - _AROUND)
        text = tuple(word.text for word in words)
        if text != self._shown:
            self._shown = text
            lines.append(Line(words, final=False))
        return lines

    def end(self) -> list[Line]:
        """The utterance ends: its last line, if there is one."""
        lines: list[Line] = []
        for token in self._decoder.flush():
            self._take(token)
        self._end_line(lines)
        return lines

    def _take(self, token: Token) -> None:
        self._last = token.end
        if self._card.vocabulary[token.token] != _SPACE:
            self._open.append(token)
        elif self._open:
            self._words.append(self._word(self._open))
            self._open = []

    def _end_line(self, lines: list[Line]) -> None:
        words = self._all(None)
        if words and self._respell is not None:
            spoken = self._kept[: self._last + _AROUND - self._kept_from]
            words = tuple(map(self._placed, self._respell(np.stack(spoken)))) or words
            self._forget(self._last)
        if words:
            lines.append(Line(words, final=True))
        self._words, self._open, self._shown = [], [], ()

    def _forget(self, before: int) -> None:
        """Steps before this one are of no line any more."""
        del self._kept[: max(0, before - self._kept_from)]
        self._kept_from = max(before, self._kept_from)

    def _all(self, partial: Token | None) -> tuple[Word, ...]:
        """Words of the line so far, with the character that is being spoken."""
        spoken = list(self._open)
        words = list(self._words)
        if partial is not None and self._card.vocabulary[partial.token] != _SPACE:
            spoken.append(partial)
        return (*words, self._word(spoken)) if spoken else tuple(words)

    def _word(self, tokens: list[Token]) -> Word:
        steps = [token.end - token.start for token in tokens]
        total = math.fsum(n * token.score for n, token in zip(steps, tokens, strict=True))
        text = "".join(self._card.vocabulary[token.token] for token in tokens)
        return self._at(text, tokens[0].start, tokens[-1].end, total / sum(steps))

    def _placed(self, word: AlignedWord) -> Word:
        first, last = (self._kept_from + round(at) for at in (word.start_s, word.end_s))
        return self._at(word.text, first, last, word.score)

    def _at(self, text: str, first: int, last: int, score: float) -> Word:
        """A word that is spelt from step ``first`` up to, without, ``last``; its score a mean log-probability."""
        start, end = (self._origin + sample_of_step(self._card, step) for step in (first, last))
        start = min(max(start, self._origin), self._limit - 1)
        return Word(text, start, max(start + 1, min(end, self._limit)), min(1.0, math.exp(score)))
