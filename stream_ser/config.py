"""Constants and frozen settings, with their units. Derived values are checked, not rounded.

These are the defaults that training writes into a model's card. The runtime reads them back from the card and
never from here, so an older model keeps the features it was trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
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
            window minus its own mean, over its own standard deviation. See :mod:`stream_ser.features.normalization`.
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
    """From a stream of probabilities to labels that a person can read.

    The defaults were chosen on streams by ``stream_ser.train.experiments.decider``, ``change_distance`` by
    ``stream_ser.train.experiments.changes``; ``abstain_below`` was not searched.

    Attributes:
        abstain_below: calibrated probability under which no emotion is claimed (``uncertain``, ``too short``).
        listen_s: for so long an utterance has no label yet, unless one is clear ...
        listen_confidence: ... which is to be this probable.
        switch_cost: while an utterance goes on, log-odds by which a rival must lead the label that is shown to take
            over, in nats ...
        hold_s: ... and for how long. Both buy steadiness; the label then comes later.
        change_distance: an utterance is cut where what the network says before and behind differ by so much (squared
            Hellinger distance, see :mod:`stream_ser.recognition.changes`); 1 never cuts, and saves the work ...
        min_duration_s: ... and the shortest part that it is cut into.
        silence_dbfs: without voice activity detection, a hop below this level counts as silent.
        silence_s: a pause of this length ends an utterance; shorter ones belong to it.
        hangover_s: voice activity detection hears a voice so much beyond its end, which is moved back by it.
        short_s: of less speech without a clear emotion it is said that it was ``too short``.
        limit_s: an utterance without a pause is final up to its last change, or as a whole, after so long.
        temperature: divides the log-probabilities of what was heard for long (calibration) ...
        onset_temperature: ... and of what has just begun ...
        onset_s: ... and in so many seconds of speech the difference between the two decays by 1/e.
    """

    abstain_below: float = 0.2
    listen_s: float = 1.2
    listen_confidence: float = 0.45
    switch_cost: float = 1.0
    hold_s: float = 0.3
    change_distance: float = 0.6
    min_duration_s: float = 0.8
    silence_dbfs: float = -60.0
    silence_s: float = 0.5
    hangover_s: float = 0.1
    short_s: float = 0.5
    limit_s: float = 30.0
    temperature: float = 1.0
    onset_temperature: float = 1.0
    onset_s: float = 0.5

    def __post_init__(self) -> None:
        durations = self.listen_s, self.hold_s, self.min_duration_s, self.silence_s, self.hangover_s, self.short_s
        if min(*durations, self.switch_cost) < 0.0:
            raise ValueError("durations and costs must not be negative")
        if not 0.0 <= self.change_distance <= 1.0:
            raise ValueError("change_distance must be in [0, 1]")
        if not 0.0 <= self.abstain_below < 1.0:
            raise ValueError("abstain_below must be in [0, 1)")
        if not 0.0 <= self.listen_confidence <= 1.0:
            raise ValueError("listen_confidence must be in [0, 1]")
        if min(self.limit_s, self.temperature, self.onset_temperature, self.onset_s) <= 0.0:
            raise ValueError("limit_s, onset_s and the temperatures must be positive")

    def steadied(self) -> DeciderConfig:
        """The same, but live labels come later and change less. What is final stays."""
        return replace(
            self,
            listen_s=max(self.listen_s, STEADY.listen_s),
            listen_confidence=max(self.listen_confidence, STEADY.listen_confidence),
            switch_cost=max(self.switch_cost, STEADY.switch_cost),
            hold_s=max(self.hold_s, STEADY.hold_s),
        )

    def temperature_at(self, seconds: float) -> float:
        """What divides the log-probabilities after so much speech."""
        return self.temperature + (self.onset_temperature - self.temperature) * math.exp(-seconds / self.onset_s)


#: For those who want calm: half the changes of the default.
STEADY = DeciderConfig(listen_s=2.0, listen_confidence=0.6, switch_cost=1.5, hold_s=0.6)


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
