"""A network that looks at a window, on a stream: what it says of each utterance, and where the emotion changes in one.

To hear the speech behind a possible change afresh, the window is blanked up to there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import DeciderConfig, FeatureConfig
from stream_ser.events import Change
from stream_ser.recognition.changes import CANDIDATE_S, HORIZON_S, Candidate, ChangeFinder, change
from stream_ser.recognition.inference import Asking, ModelRequest
from stream_ser.runtime.requests import Waits

#: A window whose oldest frames, so many, are made silent.
Blank = Callable[[NDArray[np.float32], int], NDArray[np.float32]]


class WindowedNetwork:
    """Asks a network about the windows of one stream.

    Args:
        features: the log-mel.
        config: of the decider: from which distance on a change is one, and the shortest part.
        blank: blanks the beginning of a window.
        waits: gets the time that others take between a question and its answer.
    """

    def __init__(self, features: FeatureConfig, config: DeciderConfig, blank: Blank, waits: Waits) -> None:
        rate, self._hop_length = features.sample_rate, features.hop_length
        self._blank, self._waits = blank, waits
        self._finder = ChangeFinder(config.change_distance)
        self._shortest = round(config.min_duration_s * rate)
        self._apart, self._horizon = round(CANDIDATE_S * rate), round(HORIZON_S * rate)
        self.reset()

    def reset(self) -> None:
        """Back to the start of a stream."""
        self._voice_end = self._part = self._newest = 0
        #: What is older is another part's.
        self._since = 0
        self._finder.begin()

    @property
    def open(self) -> bool:
        """Whether there are places whose other side was not judged yet."""
        return bool(self._finder.candidates)

    def hear(
        self, window: NDArray[np.float32], begin: int, end: int, voice: tuple[int, int] | None, ended: bool
    ) -> Asking[tuple[tuple[float, ...], int, tuple[Change, ...]]]:
        """Ask about a window.

        Args:
            window: raw log-mel ``(frames, n_mels)``, what is older than the utterance blanked.
            begin: first frame that is not.
            end: frame at which it ends, from the stream's start on.
            voice: samples in which somebody speaks; None without voice activity detection, which finds no changes.
            ended: the utterance is over.

        Returns:
            probabilities of the part that goes on, the first frame of the window that belongs to it, and the changes.
        """
        if voice is None or not self._finder.active:
            return (yield from self._ask(window)), begin, ()
        if voice[0] >= self._voice_end:
            self._finder.begin()
            self._part = self._newest = voice[0]
            self._since = 0
        self._voice_end = voice[1]
        begin = max(begin, self._place(window, end, self._since))
        probabilities = yield from self._ask(self._blank(window, begin))
        now = end * self._hop_length
        for candidate in self._finder.candidates:
            due = candidate.at + self._horizon <= now or (ended and candidate.at + self._shortest <= voice[1])
            if due and not candidate.judged:
                place = self._place(window, end, candidate.at)
                candidate.after = yield from self._ask(self._blank(window, place))
                candidate.judged = True
        found = self._finder.last(voice[1] - self._shortest) if ended else self._finder.found()
        if ended:
            self._finder.begin()
        elif now - self._newest >= self._apart and now - self._part >= self._shortest:
            self._newest = now
            self._finder.candidates.append(Candidate(now, probabilities))
        if found is None:
            return probabilities, begin, ()
        return (yield from self._cut(found, window, end, now))

    def _cut(
        self, found: Candidate, window: NDArray[np.float32], end: int, now: int
    ) -> Asking[tuple[tuple[float, ...], int, tuple[Change, ...]]]:
        self._finder.begin()
        self._part = self._since = found.at
        self._newest = now
        begin = self._place(window, end, found.at)
        return (yield from self._ask(self._blank(window, begin))), begin, (change(found),)

    def _ask(self, window: NDArray[np.float32]) -> Asking[tuple[float, ...]]:
        step = yield from self._waits.ask(ModelRequest(window))
        return tuple(step.probabilities)

    def _place(self, window: NDArray[np.float32], end: int, sample: int) -> int:
        """The frame of the window that begins at a sample; 0 where that has left the window."""
        return min(max(0, sample // self._hop_length - (end - len(window))), len(window) - 1)
