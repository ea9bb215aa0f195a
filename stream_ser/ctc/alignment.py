"""Viterbi alignment: which frames of a recording speak which token of a known text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ser.ctc.batch import Batch, arrange, as_array
from stream_ser.ctc.vocabulary import Vocabulary
from stream_ser.errors import DataError


@dataclass(frozen=True)
class Alignment:
    """The best path of one item; token ``i`` is spoken in the frames from ``starts[i]`` up to, without, ``ends[i]``.

    Attributes:
        tokens: class indices.
        starts: frames.
        ends: frames.
        scores: mean log-probability of each token over its frames.
        score: log-probability of the whole path, its blanks included.
    """

    tokens: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    scores: tuple[float, ...]
    score: float


@dataclass(frozen=True)
class Word:
    """A word and when it is spoken.

    Attributes:
        text: of the word.
        start_s: seconds from the first frame's beginning.
        end_s: seconds, where its last character ends.
        score: mean log-probability over its characters' frames.
    """

    text: str
    start_s: float
    end_s: float
    score: float


def ctc_alignment(
    log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int = 0
) -> list[Alignment]:
    """The most probable path of each item among those that spell its target.

    Args:
        log_probs: ``(time, batch, classes)``, or ``(time, classes)`` for one item; array, or tensor on any device.
        targets: as :func:`~stream_ser.train.losses.ctc.ctc_loss` takes them, as all that follows.
        input_lengths: ``(batch,)``, frames.
        target_lengths: ``(batch,)``, tokens.
        blank: class index.

    Returns:
        One alignment an item.

    Raises:
        ValueError: a shape, kind of number, length or class does not fit, or a score is NaN.
        DataError: an item has too few frames for its target, or no path with a probability above 0.
    """
    scores = as_array(log_probs)
    if not np.issubdtype(scores.dtype, np.floating):
        raise ValueError(f"log_probs are {scores.dtype}, expected floats")
    batch = arrange(scores.shape, targets, input_lengths, target_lengths, blank)
    scores = scores.reshape(scores.shape[0], len(batch.targets), scores.shape[-1]).astype(np.float64)
    for item, (frames, least) in enumerate(zip(batch.input_lengths, batch.least_frames, strict=True)):
        if frames < least:
            raise DataError(
                f"item {item}: {frames} frames cannot spell {batch.target_lengths[item]} tokens, which need {least}; "
                "the recording is too short for the text"
            )
        if np.isnan(scores[:frames, item]).any():
            raise ValueError(f"log_probs of item {item} hold NaN")
    best, paths = _viterbi(scores, batch)
    found = []
    for item, (total, path) in enumerate(zip(best, paths, strict=True)):
        if total == -math.inf:
            raise DataError(f"item {item}: every path of the text has probability 0; is it a text for this recording?")
        found.append(_read(float(total), path, scores[:, item], batch.targets[item, : batch.target_lengths[item]]))
    return found


def _viterbi(scores: NDArray[np.float64], batch: Batch) -> tuple[NDArray[np.float64], Iterator[NDArray[np.int64]]]:
    """The best paths' log-probabilities ``(batch,)``, and the states that each one passes ``(frames,)``.

    State ``2 i + 1`` is token ``i``, the even ones are blanks.
    """
    frames, items, _ = scores.shape
    states = np.full((items, 2 * batch.targets.shape[1] + 1), batch.blank)
    states[:, 1::2] = batch.targets
    no_skip = np.ones(states.shape, dtype=np.bool_)
    no_skip[:, 3::2] = batch.repeated[:, 1:]
    rows, last = np.arange(items), 2 * batch.target_lengths
    # Before the first frame there is only the start, which the first blank and the first token follow.
    delta = np.full(states.shape, -np.inf)
    delta[:, 0] = 0.0
    come_from = np.zeros((3, *states.shape))
    steps = np.zeros((frames, *states.shape), dtype=np.int8)
    for t in range(frames):
        come_from[0], come_from[1, :, :1], come_from[2, :, :2] = delta, -np.inf, -np.inf
        come_from[1, :, 1:], come_from[2, :, 2:] = delta[:, :-1], delta[:, :-2]
        come_from[2][no_skip] = -np.inf
        steps[t] = come_from.argmax(axis=0)
        new = come_from.max(axis=0) + scores[t][rows[:, None], states]
        delta = np.where(batch.input_lengths[:, None] > t, new, delta)
    ends = np.stack((delta[rows, last], np.where(last > 0, delta[rows, np.maximum(last - 1, 0)], -np.inf)))

    def traced() -> Iterator[NDArray[np.int64]]:
        for item, state in enumerate(last - ends.argmax(axis=0)):
            path = np.empty(batch.input_lengths[item], dtype=np.int64)
            for t in reversed(range(len(path))):
                path[t] = state
                state -= steps[t, item, state]
            yield path

    return ends.max(axis=0), traced()


def _read(total: float, path: NDArray[np.int64], scores: NDArray[np.float64], targets: NDArray[np.int64]) -> Alignment:
    """An item's path as spans; it never goes back, so each token's frames are found by bisection."""
    tokens = 2 * np.arange(len(targets)) + 1
    starts, ends = np.searchsorted(path, tokens), np.searchsorted(path, tokens, side="right")
    means = (scores[a:b, token].mean() for a, b, token in zip(starts, ends, targets, strict=True))
    return Alignment(
        tuple(targets.tolist()), tuple(starts.tolist()), tuple(ends.tolist()), tuple(map(float, means)), total
    )


def words(alignment: Alignment, vocabulary: Vocabulary, seconds_per_frame: float) -> list[Word]:
    """The words of an aligned text, in order; without a space in the vocabulary the whole is one.

    Args:
        alignment: of a text that ``vocabulary`` encoded.
        vocabulary: what the classes stand for.
        seconds_per_frame: time from one frame of the network's output to the next.
    """
    found: list[Word] = []
    first = 0
    for place in range(len(alignment.tokens) + 1):
        if place < len(alignment.tokens) and alignment.tokens[place] != vocabulary.space:
            continue
        if place > first:
            spoken = range(first, place)
            lengths = [alignment.ends[i] - alignment.starts[i] for i in spoken]
            weighted = math.fsum(n * alignment.scores[i] for n, i in zip(lengths, spoken, strict=True))
            found.append(
                Word(
                    "".join(vocabulary.character(alignment.tokens[i]) for i in spoken),
                    alignment.starts[first] * seconds_per_frame,
                    alignment.ends[place - 1] * seconds_per_frame,
                    weighted / sum(lengths),
                )
            )
        first = place + 1
    return found
