"""Long recordings in pieces for a network that hears whole clips: cut where somebody pauses, never longer than it may.

A recording that is short enough stays whole, as the clips of its training were; from a longer one each utterance is
taken, with a little of the silence around it. One that is too long is cut at the chunk in its second half in which
speech is least likely. What comes out does not depend on the blocks in which the samples came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream_ser.vad.detector import CHUNK_MS, Voice

#: Of silence that stays around an utterance.
PAD_S = 0.3


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a recording.

    Attributes:
        start: position of its first sample.
        samples: ``(time,)``.
    """

    start: int
    samples: NDArray[np.float32]

    @property
    def end(self) -> int:
        """One past the position of its last sample."""
        return self.start + len(self.samples)


class Detector(Protocol):
    """A detector of speech, chunk by chunk, such as :class:`stream_ser.vad.detector.VoiceDetector`."""

    chunk_samples: int

    def push(self, samples: NDArray[np.float32]) -> Sequence[Voice]:
        """Take samples; returns the chunks that they complete."""


class Loudness:
    """Instead of voice activity detection: everything is speech, and the quieter a chunk, the less likely.

    Args:
        sample_rate: Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.chunk_samples = CHUNK_MS * sample_rate // 1000
        self._rest = np.zeros(0, np.float32)
        self._end = 0

    def push(self, samples: NDArray[np.float32]) -> list[Voice]:
        """Take ``(time,)`` samples; returns the chunks that they complete."""
        waiting = np.concatenate([self._rest, samples])
        whole = len(waiting) - len(waiting) % self.chunk_samples
        self._rest = waiting[whole:]
        heard = []
        for chunk in waiting[:whole].reshape(-1, self.chunk_samples):
            self._end += self.chunk_samples
            heard.append(Voice(self._end, float(np.sqrt(np.mean(np.square(chunk, dtype=np.float64)))), True, True))
        return heard


class Pieces:
    """Cuts one recording.

    Args:
        detector: at the start of a stream.
        sample_rate: Hz.
        longest: samples of the longest piece.

    Raises:
        ValueError: pieces of less than four chunks.
    """

    def __init__(self, detector: Detector, sample_rate: int, longest: int) -> None:
        self._detector = detector
        self._chunk = detector.chunk_samples
        self._longest = longest
        # One less: the last piece also takes the samples that fill no chunk.
        self._most = longest // self._chunk - 1
        if self._most < 3:
            raise ValueError(f"pieces of {longest} samples, expected at least {4 * self._chunk}")
        self._pad = round(PAD_S * sample_rate / self._chunk)
        self._waiting: list[NDArray[np.float32]] = []
        self._heard: list[Voice] = []
        self._start = self._total = 0

    def push(self, samples: NDArray[np.float32]) -> list[Piece]:
        """Take ``(time,)`` samples; returns the pieces that they complete."""
        self._waiting.append(np.array(samples, np.float32))
        self._total += len(samples)
        self._heard += self._detector.push(samples)
        return self._ready(last=False) if self._total > self._longest else []

    def flush(self) -> list[Piece]:
        """The rest of the recording."""
        if self._total > self._longest:
            return self._ready(last=True)
        voiced = any(voice.voiced for voice in self._heard)
        return [self._take(0, len(self._heard), last=True)] if voiced else []

    def _ready(self, last: bool) -> list[Piece]:
        found = []
        while (span := self._next(last)) is not None:
            found.append(self._take(*span, last=last))
        if not last and len(self._heard) > 2 * self._most and not any(voice.voiced for voice in self._heard):
            self._take(0, len(self._heard) - self._pad, last=False)
        return found

    def _next(self, last: bool) -> tuple[int, int] | None:
        """First chunk of the next piece and one past its last; None where it is not complete, or there is none."""
        first = next((place for place, voice in enumerate(self._heard) if voice.voiced), None)
        if first is None:
            return None
        begin = max(0, first - self._pad)
        within = self._heard[begin : begin + self._most]
        pause = next((n for n, voice in enumerate(within, begin) if n > first and not voice.speaking), None)
        if pause is None and len(within) == self._most:
            half = begin + self._most // 2
            quietest = min(range(half, begin + self._most), key=lambda n: self._heard[n].probability)
            return begin, quietest + 1
        if pause is None and not last:
            return None
        end = pause or len(self._heard)
        voiced = max(n for n in range(first, end) if self._heard[n].voiced)
        return begin, min(voiced + 1 + self._pad, end)

    def _take(self, begin: int, end: int, last: bool) -> Piece:
        """Chunks ``begin`` to ``end``; what is before them is forgotten. The last ones come with what fills none."""
        joined = np.concatenate([np.zeros(0, np.float32), *self._waiting])
        first, stop = begin * self._chunk, end * self._chunk
        if last and end == len(self._heard):
            stop = len(joined)
        piece = Piece(self._start + first, joined[first:stop])
        self._waiting = [joined[stop:]]
        self._heard = self._heard[end:]
        self._start += stop
        return piece
