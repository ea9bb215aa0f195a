"""What a picture of a stream is drawn from, in bounded memory however long the stream is.

The stream is cut into bins of equal length. When they are all used, neighbours are merged and a bin spans twice the
time: a picture keeps between half of :data:`BINS` and all of them, and a week takes as much memory as a minute.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_ser.events import SILENCE, TOO_SHORT, UNCERTAIN, Decision, Event, Gap, Prediction, Transcript, Word

#: More than a picture has columns.
BINS = 4096
#: More than can be read in a picture: of a stream with more words none is drawn.
MOST_WORDS = 200


class PlotState:
    """Waveform, log-mel, probabilities, decisions and losses, each reduced to bins.

    Args:
        labels: the model's.
        n_mels: bands of a log-mel column.
        hop_length: samples from one column to the next, and of a bin at first.
        bins: an even number.

    Attributes:
        samples: heard so far.
        span: samples of a bin.
        labels: the model's, then those that claim nothing.
        words: of the lines that have ended; none where there are more than :data:`MOST_WORDS`.
    """

    def __init__(self, labels: tuple[str, ...], n_mels: int, hop_length: int, bins: int = BINS) -> None:
        self.labels = (*labels, SILENCE, UNCERTAIN, TOO_SHORT)
        self.samples = 0
        self.words: list[Word] = []
        self._said = 0
        self.span = hop_length
        self._hop = hop_length
        self._columns = 0
        self._predicted = 0
        self._bins = bins
        self._low = np.full(bins, np.inf, np.float32)
        self._high = np.full(bins, -np.inf, np.float32)
        self._mel = np.zeros((bins, n_mels + 1))
        self._probability = np.zeros((bins, len(labels) + 1))
        self._shown = np.zeros((bins, len(self.labels)))
        self._lost = np.zeros(bins)

    def hear(self, samples: NDArray[np.float32]) -> None:
        """Take in ``(time,)`` samples."""
        while samples.size:
            index = self._bin(self.samples)
            room = (index + 1) * self.span - self.samples
            part, samples = samples[:room], samples[room:]
            self._low[index] = min(self._low[index], part.min())
            self._high[index] = max(self._high[index], part.max())
            self.samples += part.size

    def see(self, columns: NDArray[np.float32]) -> None:
        """Take in ``(columns, n_mels)`` log-mel columns."""
        for column in columns:
            index = self._bin(self._columns * self._hop)
            self._mel[index, :-1] += column
            self._mel[index, -1] += 1
            self._columns += 1

    def take(self, event: Event) -> None:
        """Take in an event; notices leave no trace."""
        if isinstance(event, Prediction):
            if event.probabilities:
                # A prediction stands for the audio that is new in it.
                self._spread(self._probability, (*event.probabilities, 1.0), self._predicted or event.start, event.end)
            self._predicted = event.end
        elif isinstance(event, Decision):
            one_hot = [float(label == event.label) for label in self.labels]
            self._spread(self._shown, one_hot, event.start, event.end)
        elif isinstance(event, Gap):
            self._spread(self._lost, 1.0, event.start, event.start + event.length)
        elif isinstance(event, Transcript) and event.final:
            self._said += len(event.words)
            self.words = [*self.words, *event.words] if self._said <= MOST_WORDS else []

    @property
    def used(self) -> int:
        """Bins in use."""
        return min(self._bins, -(-self.samples // self.span))

    @property
    def waveform(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lowest and highest sample of each bin, ``(bins,)`` each."""
        return self._low[: self.used], self._high[: self.used]

    @property
    def log_mel(self) -> NDArray[np.float64]:
        """Mean log-mel of each bin, ``(n_mels, bins)``; NaN where there is none."""
        return np.transpose(_mean(self._mel[: self.used]))

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Mean probability of each label in each bin, ``(labels, bins)``; NaN where the network was not asked."""
        return np.transpose(_mean(self._probability[: self.used]))

    @property
    def runs(self) -> list[tuple[int, int, str]]:
        """The decisions: ``(first bin, one past the last, label)`` of each stretch, by what fills most of a bin."""
        shown = self._shown[: self.used]
        return _runs([self.labels[row.argmax()] if row.any() else "" for row in shown])

    @property
    def gaps(self) -> list[tuple[int, int, str]]:
        """Stretches of bins in which audio was lost, as :attr:`runs`."""
        return _runs(["lost" if lost else "" for lost in self._lost[: self.used] > 0])

    def _bin(self, sample: int) -> int:
        while sample >= self._bins * self.span:
            self._merge()
        return sample // self.span

    def _spread(self, target: NDArray[np.float64], value: object, start: int, end: int) -> None:
        """Add ``value`` times the samples that ``[start, end)`` has in common with each bin."""
        if end <= start:
            return
        self._bin(end - 1)
        # The bins may have been merged; the arrays are changed in place.
        first, last = start // self.span, (end - 1) // self.span
        edges = np.arange(first, last + 2) * self.span
        share = np.minimum(edges[1:], end) - np.maximum(edges[:-1], start)
        values = np.asarray(value, dtype=np.float64)
        target[first : last + 1] += share[:, None] * values if values.ndim else share * values

    def _merge(self) -> None:
        half = self._bins // 2
        for array, rest in ((self._low, np.inf), (self._high, -np.inf)):
            both = np.minimum if rest > 0 else np.maximum
            array[:half] = both(array[0::2], array[1::2])
            array[half:] = rest
        for summed in (self._mel, self._probability, self._shown, self._lost):
            summed[:half] = summed[0::2] + summed[1::2]
            summed[half:] = 0.0
        self.span *= 2


def _mean(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of sums over their last item, the weight."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means: NDArray[np.float64] = sums[:, :-1] / sums[:, -1:]
    return means


def _runs(names: list[str]) -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []
    for index, name in enumerate(names):
        if found and found[-1][1] == index and found[-1][2] == name:
            found[-1] = (found[-1][0], index + 1, name)
        elif name:
            found.append((index, index + 1, name))
    return found
