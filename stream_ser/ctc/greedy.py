"""Greedy decoding: the best class of every frame, repetitions merged, blanks removed; offline and as it is spoken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_ser.ctc.batch import arrange, as_array


@dataclass(frozen=True)
class Token:
    """A decoded token, seen in the frames from ``start`` up to, without, ``end``.

    Attributes:
        token: class index.
        start: frame.
        end: frame.
        score: mean log-probability over these frames.
    """

    token: int
    start: int
    end: int
    score: float


class GreedyDecoder:
    """Decodes a stream in blocks of any size; what it gives does not depend on how the stream is cut.

    A token that was given, or is :attr:`partial`, is never taken back: only the end of the partial one still moves.

    Args:
        blank: class index.
    """

    def __init__(self, blank: int = 0) -> None:
        self._blank = blank
        self.reset()

    def reset(self) -> None:
        """Forget everything; frames count from 0 again."""
        self._frame = self._start = 0
        self._token, self._total = self._blank, 0.0

    @property
    def partial(self) -> Token | None:
        """The token that is being spoken: it has begun and not ended."""
        if self._token == self._blank:
            return None
        return Token(self._token, self._start, self._frame, self._total / (self._frame - self._start))

    def push(self, log_probs: Any) -> list[Token]:
        """Take the next frames.

        Args:
            log_probs: ``(frames, classes)``; array, or tensor on any device.

        Returns:
            The tokens that have ended, in order.

        Raises:
            ValueError: another shape, the blank is none of the classes, or a score is NaN.
        """
        block = as_array(log_probs)
        if block.ndim != 2 or block.shape[1] <= self._blank:
            raise ValueError(f"log_probs have shape {block.shape}, expected (frames, classes), more than {self._blank}")
        best = block.max(axis=1)
        if np.isnan(best).any():
            raise ValueError(f"log_probs hold NaN in frame {self._frame + int(np.isnan(best).argmax())}")
        ended = []
        # Added one by one: in another order the sums would differ in their last bits.
        for token, score in zip(block.argmax(axis=1).tolist(), best.tolist(), strict=True):
            if token != self._token:
                ended += self.flush()
                self._token, self._start = token, self._frame
            self._total += score
            self._frame += 1
        return ended

    def flush(self) -> list[Token]:
        """End the stream here: the partial token, if there is one."""
        last = self.partial
        self._token, self._total = self._blank, 0.0
        return [last] if last else []


def greedy(log_probs: Any, input_lengths: Any, blank: int = 0) -> list[list[Token]]:
    """Decode whole items.

    Args:
        log_probs: ``(time, batch, classes)``, or ``(time, classes)`` for one item.
        input_lengths: ``(batch,)``, frames.
        blank: class index.

    Returns:
        The tokens of each item.

    Raises:
        ValueError: a shape, kind of number, length or the blank does not fit.
    """
    scores = as_array(log_probs)
    items = scores.shape[1] if scores.ndim == 3 else 1
    batch = arrange(scores.shape, [[]] * items if scores.ndim == 3 else [], input_lengths, [0] * items, blank)
    found = []
    for item, frames in enumerate(batch.input_lengths):
        decoder = GreedyDecoder(blank)
        found.append([*decoder.push(scores[:frames, item] if scores.ndim == 3 else scores[:frames]), *decoder.flush()])
    return found
