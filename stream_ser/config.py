"""Constants and frozen settings, with their units. Derived values are checked, not rounded.

These are the defaults that training writes into a model's card. The runtime reads them back from the card and
never from here, so an older model keeps the features it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from stream_ser.errors import StreamSerError

SAMPLE_RATE_HZ = 16_000
#: Of a sample, full scale at 1.0: louder than 32-bit integers that were never scaled. Only damage gives that, and the
#: power of a frame overflows.
LOUDEST = 2.0**32
#: Audio in a block of a microphone, seconds: with half of it listening to a quiet room cost a third more, and no
#: prediction of the default model came earlier at 16 kHz, others by 10 ms on average.
BLOCK_S = 0.04
#: A program that wakes up finds caches cold, so blocks of which nothing can come yet are left lying; not for longer.
GATHER_S = 0.2

Normalization = Literal["corpus", "level", "sample"]


def exact_div(numerator: int, denominator: int) -> int:
    """Integer division that refuses a remainder.

    Raises:
        ValueError: ``denominator`` does not divide ``numerator``.
    """
    quotient, remainder = divmod(numerator, denominator)
    if remainder:
        raise ValueError(f"{denominator} does not divide {numerator} exactly")
    return quotient


def seconds_to_frames(seconds: float, hop_length: int, sample_rate: int = SAMPLE_RATE_HZ) -> int:
    """Length in frames of a duration that must be a whole number of hops.

    Raises:
        StreamSerError: the duration is not a positive whole number of hops.
    """
    samples = seconds * sample_rate
    frames = round(samples / hop_length)
    if frames < 1 or abs(frames * hop_length - samples) > 1e-6:
        hop_ms = 1000 * hop_length / sample_rate
        raise StreamSerError(f"{seconds:g} s is not a positive multiple of the frame hop of {hop_ms:g} ms")
    return frames


@dataclass(frozen=True, slots=True)
class FeatureConfig:
    """The log-mel spectrogram: uncentred frames, so frame ``i`` sees samples ``[i * hop, i * hop + n_fft)`` only.

    Attributes:
        sample_rate: Hz.
        n_fft: FFT size and Hann window length in samples (32 ms).
        hop_length: samples from one frame to the next (10 ms).
        n_mels: mel bands (HTK scale, no area normalisation).
        f_min: lower edge of the first band, Hz.
        f_max: upper edge of the last band, Hz.
        log_floor: power added before the logarithm; about the mel power of white noise at -77 dBFS, so that digital
            silence and a quiet room look alike and float32 rounding in empty bands does not show.
        normalization: what the network sees of a window: ``corpus``, each band minus the training part's mean, over its
            standard deviation; ``level``, the same after the window was brought to a common level; ``sample``, the
            window minus its own mean, over its own standard deviation. See :mod:`stream_ser.normalize`.
    """

    sample_rate: int = SAMPLE_RATE_HZ
    n_fft: int = 512
    hop_length: int = 160
    n_mels: int = 64
    f_min: float = 50.0
    f_max: float = 8_000.0
    log_floor: float = 1e-5
    normalization: Normalization = "corpus"

    def __post_init__(self) -> None:
        if not 0 < self.hop_length <= self.n_fft:
            raise ValueError(f"hop_length {self.hop_length} is not in 1..{self.n_fft} (n_fft)")
        if not 0.0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(f"0 <= f_min < f_max <= {self.sample_rate / 2:g} Hz does not hold")
        if self.n_mels < 1 or self.log_floor <= 0.0:
            raise ValueError("n_mels and log_floor must be positive")
        if self.normalization not in get_args(Normalization):
            raise ValueError(f"normalization {self.normalization!r} is not one of {', '.join(get_args(Normalization))}")

    def samples_for(self, frames: int) -> int:
        """Samples that ``frames`` consecutive frames span."""
        return 0 if frames == 0 else (frames - 1) * self.hop_length + self.n_fft


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """The sliding window over log-mel frames.

    Attributes:
        frames: length of the window (3 s).
        hop: frames from one prediction to the next (250 ms).
        minimum: frames of real audio before the first prediction (1 s while streaming).
        shortest: frames without which even a whole clip gets no prediction (0.3 s).
    """

    frames: int = seconds_to_frames(3.0, 160)
    hop: int = seconds_to_frames(0.25, 160)
    minimum: int = seconds_to_frames(1.0, 160)
    shortest: int = seconds_to_frames(0.3, 160)

    def __post_init__(self) -> None:
        if not 0 < self.shortest <= self.minimum <= self.frames:
            raise ValueError("0 < shortest <= minimum <= frames does not hold")
        if self.hop < 1:
            raise ValueError("hop must be at least one frame")


@dataclass(frozen=True, slots=True)
class DeciderConfig:
    """From a stream of probabilities to a readable timeline.

    The defaults were tuned on streams by ``stream_ser.train.experiments.decider``, ``abstain_below`` excepted.

    Attributes:
        onset_s: of an utterance that follows silence, so much is heard before its first label is shown.
        smoothing_s: time constant of the exponential average over probabilities; 0 for none.
        enter_margin: a new label must lead the current one by this much probability to take over (hysteresis) ...
        hold_s: ... for this long ...
        min_duration_s: ... and not before the current one was shown for this long. Silence ends it at any time.
        abstain_below: smoothed probability under which no emotion is claimed (``uncertain``).
        silence_dbfs: a hop below this level counts as silent, as one without a voice does ...
        silence_s: ... and this much silence in a row ends the emotion where it began; shorter pauses belong to it.
    """

    onset_s: float = 0.8
    smoothing_s: float = 0.0
    enter_margin: float = 0.05
    hold_s: float = 0.5
    min_duration_s: float = 0.0
    abstain_below: float = 0.30
    silence_dbfs: float = -60.0
    silence_s: float = 0.25

    def __post_init__(self) -> None:
        durations = self.onset_s, self.smoothing_s, self.hold_s, self.min_duration_s, self.silence_s
        if min(*durations, self.enter_margin) < 0.0:
            raise ValueError("durations and margins must not be negative")
        if not 0.0 <= self.abstain_below < 1.0:
            raise ValueError("abstain_below must be in [0, 1)")


@dataclass(frozen=True, slots=True)
class VadConfig:
    """Where somebody speaks, and how much speech it takes before an emotion is claimed.

    Speech begins where the probability of speech reaches ``enter`` and has not fallen below ``leave`` for
    ``min_speech_s``; it ends where it has been below ``leave`` for ``min_silence_s``.

    Attributes:
        enter: probability of speech from which speech may begin ...
        leave: ... and below which it pauses.
        min_speech_s: shorter sounds are no speech (a click, a bark).
        min_silence_s: shorter pauses do not end it. What was said before a longer one is forgotten: the network is not
            shown two utterances at once.
        min_voiced_s: speech without its pauses that a window must hold for the network to be asked.
        tail_s: how long after speech the network is still asked, so that it has seen each utterance to its end, as it
            saw the clips of its training. Nothing is claimed of it then: the timeline is silent already.
    """

    enter: float = 0.4
    leave: float = 0.3
    min_speech_s: float = 0.064
    min_silence_s: float = 0.5
    min_voiced_s: float = 0.1
    tail_s: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.leave <= self.enter <= 1.0:
            raise ValueError("0 < leave <= enter <= 1 does not hold")
        if min(self.min_speech_s, self.min_silence_s, self.min_voiced_s, self.tail_s) < 0.0:
            raise ValueError("durations must not be negative")


#: On unless switched off.
DEFAULT_VAD = VadConfig()
