"""What flows through the pipeline. Everything is indexed by sample, never by wall clock.

Sample positions count from the start of the stream at the model's sample rate and are Python integers, which do
not overflow (a 32-bit counter would after 37.28 hours at 16 kHz).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

#: Said where nobody speaks: no emotion is claimed, no probability is given.
SILENCE = "silence"
#: Said where no emotion reaches the abstention threshold.
UNCERTAIN = "uncertain"
#: Said of an utterance that was too short for an emotion to reach the threshold.
TOO_SHORT = "too short"
#: Labels that claim no emotion.
UNCLAIMED = frozenset((SILENCE, UNCERTAIN, TOO_SHORT))


@dataclass(frozen=True, slots=True)
class Block:
    """Audio on its way from a source to the pipeline.

    Attributes:
        samples: ``(time,)`` float32, mono, full scale at 1.0, at ``sample_rate`` of the source; may be empty. Of a
            source of several streams ``(time, stream)``, until ``streams.split`` takes them apart.
        captured_at: ``time.monotonic()`` at the capture of the last sample, or None when it is not live.
        lost: samples (at the source's rate) that were lost right before this block and are not in it.
        gap: length of a loss that begins with this block's first sample: what stands for it, zeros and what a filter
            made of them, is in ``samples`` and in the blocks that follow. See ``sources.resampled``.
        behind: the recogniser is so late that it shall hear this block without asking the network.
        notices: what became known of the capture before this block.
    """

    samples: NDArray[np.float32]
    captured_at: float | None = None
    lost: int = 0
    gap: int = 0
    behind: bool = False
    notices: tuple[tuple[NoticeKind, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Timing:
    """What it cost to make a prediction, in milliseconds. Never takes part in comparisons.

    Attributes:
        features_ms: feature computation and voice activity detection since the last prediction.
        inference_ms: the network's forward pass, with what leads to it and from it. Of calls for several streams its
            share; what a pool did for others between is in neither.
        age_ms: from the capture of the window's last sample to now; None for files.
    """

    features_ms: float
    inference_ms: float
    age_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A change of emotion within an utterance.

    Attributes:
        at: sample at which the new part begins.
        before: what the network said of the part that ends there, in the order of the model's labels.
    """

    at: int
    before: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One run of the network on the window that ends at sample ``end``.

    Attributes:
        start: first sample that the network saw: no padding before the stream's start, nothing of earlier utterances.
        end: one past the window's last sample.
        probabilities: calibrated, in the order of the model's labels; empty where the window is silent, for then
            the network is not asked.
        level_dbfs: RMS level of the newest hop, dB relative to full scale.
        timing: measured cost, not part of equality.
        voice: first sample and one past the last of the window's newest speech, as far as it lies in the window; None
            where nobody speaks, or nothing listens for it.
        changes: of emotion within that speech that have just become known, mostly none. The probabilities are of what
            follows the last one.
    """

    start: int
    end: int
    probabilities: tuple[float, ...]
    level_dbfs: float
    timing: Timing | None = field(default=None, compare=False)
    voice: tuple[int, int] | None = None
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """A stretch ``[start, end)`` of the finished timeline: it stays as it is. The stretches leave no holes.

    Attributes:
        start: first sample.
        end: one past the last sample.
        label: one of the model's labels, :data:`SILENCE`, :data:`UNCERTAIN` or :data:`TOO_SHORT`.
        confidence: calibrated probability of the label; of the most probable emotion where none is claimed; 0.0 for
            silence.
        utterance: number of the utterance that it belongs to, from 1; 0 for silence. An utterance in which the emotion
            changes has several stretches.
        probabilities: calibrated, of all that was heard in the stretch, in the order of the model's labels; empty for
            silence, and where the network was not asked.
    """

    start: int
    end: int
    label: str
    confidence: float
    utterance: int = 0
    probabilities: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Provisional:
    """What is shown of an utterance that goes on. The next one takes its place, and decisions do in the end.

    Attributes:
        start: first sample of the stretch that goes on.
        end: sample up to which it was heard.
        label: as :attr:`Decision.label`.
        confidence: as :attr:`Decision.confidence`.
        utterance: number of the utterance; the decisions that take its place have the same one.
        probabilities: calibrated for what was heard so far.
    """

    start: int
    end: int
    label: str
    confidence: float
    utterance: int = 0
    probabilities: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Gap:
    """Audio that was lost: ``length`` samples from ``start`` on never reached the pipeline."""

    start: int
    length: int


#: ``stalled``: the device delivers nothing, or less than the clock says; ``resumed``: it does again. ``lost``: it is
#: gone; ``attached``: found again. ``overflow``: it says that it lost audio. ``behind``: predictions are left out.
#: ``recording``: what was heard can no longer be kept. ``forgotten``: the voice is, and the next one begins anew.
NoticeKind = Literal["stalled", "resumed", "lost", "attached", "overflow", "behind", "recording", "forgotten"]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should know about a live capture. What was lost is told by a :class:`Gap`, always.

    Attributes:
        at: sample up to which the stream had come.
        kind: for programs.
        text: one line for people.
    """

    at: int
    kind: NoticeKind
    text: str


@dataclass(frozen=True, slots=True)
class Word:
    """A word that was said.

    Attributes:
        text: in the letters of the model's vocabulary.
        start: first sample.
        end: one past the last sample.
        confidence: the network's probability of its characters, their geometric mean over the time that they take.
    """

    text: str
    start: int
    end: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said: a line of words.

    A line comes again whenever it grows, until it is final; its words stay, but for the last one, which may grow too.

    Attributes:
        words: one or more, in order.
        label: of the emotion that was shown for most of the line, or :data:`UNCERTAIN`.
        final: the line has ended.
    """

    words: tuple[Word, ...]
    label: str
    final: bool

    @property
    def text(self) -> str:
        """The words with spaces between them."""
        return " ".join(word.text for word in self.words)

    @property
    def start(self) -> int:
        """First sample of the first word."""
        return self.words[0].start

    @property
    def end(self) -> int:
        """One past the last sample of the last word."""
        return self.words[-1].end

    @property
    def confidence(self) -> float:
        """Mean over the words."""
        return sum(word.confidence for word in self.words) / len(self.words)


Event = Prediction | Provisional | Decision | Gap | Notice | Transcript


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a sink is told before the first event.

    Attributes:
        name: path of the file, ``-`` for standard input, or the name of the device.
        model: name of the model from its card.
        labels: the model's labels, in the order of every ``Prediction.probabilities``.
        sample_rate: Hz; every sample position in the events counts at this rate.
        transcribes: the model says what is said, too: there may be a :class:`Transcript`.
    """

    name: str
    model: str
    labels: tuple[str, ...]
    sample_rate: int
    transcribes: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """What a sink is told after the last event.

    Attributes:
        samples: length of the stream, lost samples included.
        lost: samples that never reached the pipeline.
        label: the emotion that the timeline carries longest; where it carries none :data:`UNCERTAIN`,
            :data:`TOO_SHORT`, or :data:`SILENCE` where nobody spoke.
        probabilities: mean of the decisions' over time, in the order of the labels; empty where there are none.
        seconds: time on each label of the timeline, by label, in seconds; those that claim nothing included.
        confidence: mean confidence of the stretches with ``label`` over time; 0.0 for silence.
        skipped: predictions that were left out because the recogniser was late.
    """

    samples: int
    lost: int
    label: str
    probabilities: tuple[float, ...]
    seconds: dict[str, float]
    skipped: int = 0
    confidence: float = 0.0
