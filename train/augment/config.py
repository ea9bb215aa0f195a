"""What augmentation does, and how often."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: What a copy of the training set can be made of.
EXPANSIONS = ("original", "noise", "pitch", "stretch")

_PROBABILITIES = (
    "splice_p",
    "cut_p",
    "noise_p",
    "noise_recorded",
    "reverb_p",
    "telephone_p",
    "channel_p",
    "pitch_p",
    "stretch_p",
)
_NOT_NEGATIVE = (
    "trail_s",
    "gain_db",
    "channel_db",
    "time_masks",
    "time_mask_frames",
    "mel_masks",
    "mel_mask_bands",
    "mixup_alpha",
)
_RANGES = ("splice_s", "noise_snr_db", "reverb_rt60_s", "pitch_semitones", "stretch_rates")


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to a training clip, and how often. A probability of 0 switches a step off.

    Attributes:
        speeds: speed factors to draw from (tempo and pitch together, as by resampling); (1,) is off.
        pitch_p: probability that a window is cut from the clip's pitch-shifted copy.
        pitch_semitones: range of the shift; drawn once a clip.
        stretch_p: probability that a window is cut from the clip's time-stretched copy.
        stretch_rates: range of the tempo, 2 is twice as fast; drawn once a clip.
        expand: the sets that make up an epoch, of ``original``, ``noise``, ``pitch`` and ``stretch``: four of them make
            the epoch four times as long. What is drawn as windows are cut comes on top.
        splice_p: probability that a window is cut from pieces of several clips of the same speaker and label, which
            takes the sentence away and leaves voice, room and emotion; what belongs to one clip is then not asked for.
        splice_s: range of the length of a piece.
        cut_p: time shift to the right: probability that the window ends before the clip does, as it does while
            somebody is still speaking.
        trail_s: time shift to the left: longest silence after the clip, seconds.
        gain_db: gain is drawn from [-gain_db, gain_db].
        noise_p: probability of additive noise.
        noise_snr_db: range of the signal-to-noise ratio.
        noise_folder: folder with recordings of noise, such as ESC-50's ``audio``; empty for coloured noise alone.
        noise_files: pattern of their names; ``[1-4]-*`` are ESC-50's first four folds.
        noise_recorded: share of the noisy windows that get a recording, where there are any.
        reverb_p: probability of a room.
        reverb_rt60_s: range of a synthetic room's reverberation time.
        reverb_folder: folder with impulse responses, drawn instead of synthetic rooms; empty for synthetic ones.
        telephone_p: probability of the telephone band, 300 to 3400 Hz.
        channel_p: probability of another microphone: a smooth change of the spectrum.
        channel_db: its standard deviation at each octave.
        time_masks: SpecAugment masks over time, each of at most ``time_mask_frames``.
        time_mask_frames: longest time mask.
        mel_masks: SpecAugment masks over mel bands, each of at most ``mel_mask_bands``.
        mel_mask_bands: widest band mask.
        mixup_alpha: Beta(alpha, alpha) of mix-up; 0 is off, for it slowed the bundled network's learning (LOG.md).
    """

    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    pitch_p: float = 0.0
    pitch_semitones: tuple[float, float] = (-2.0, 2.0)
    stretch_p: float = 0.0
    stretch_rates: tuple[float, float] = (0.8, 1.25)
    expand: tuple[str, ...] = ("original",)
    splice_p: float = 0.0
    splice_s: tuple[float, float] = (0.3, 1.0)
    cut_p: float = 0.2
    trail_s: float = 0.5
    gain_db: float = 6.0
    noise_p: float = 0.25
    noise_snr_db: tuple[float, float] = (5.0, 30.0)
    noise_folder: str = ""
    noise_files: str = "*"
    noise_recorded: float = 0.5
    reverb_p: float = 0.15
    reverb_rt60_s: tuple[float, float] = (0.1, 0.5)
    reverb_folder: str = ""
    telephone_p: float = 0.0
    channel_p: float = 0.0
    channel_db: float = 5.0
    time_masks: int = 2
    time_mask_frames: int = 30
    mel_masks: int = 2
    mel_mask_bands: int = 8
    mixup_alpha: float = 0.0

    def __post_init__(self) -> None:
        for name in _PROBABILITIES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1]")
        if self.pitch_p + self.stretch_p > 1.0:
            raise ValueError("pitch_p and stretch_p must not exceed 1 together")
        for name in _NOT_NEGATIVE:
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative")
        if not self.speeds or not all(0.25 <= speed <= 4.0 for speed in self.speeds):
            raise ValueError("speeds must hold one or more factors in [0.25, 4]")
        for name in _RANGES:
            low_high = getattr(self, name)
            if len(low_high) != 2 or not low_high[0] <= low_high[1]:
                raise ValueError(f"{name} must be a lower and an upper bound")
        if self.splice_s[0] < 0.1:
            raise ValueError("splice_s must be at least 0.1")
        if self.reverb_rt60_s[0] <= 0.0:
            raise ValueError("reverb_rt60_s must be positive")
        if not (self.pitch_semitones[0] >= -24.0 and self.pitch_semitones[1] <= 24.0):
            raise ValueError("pitch_semitones must be in [-24, 24]")
        if not (self.stretch_rates[0] >= 0.25 and self.stretch_rates[1] <= 4.0):
            raise ValueError("stretch_rates must be in [0.25, 4]")
        if not self.expand or len(set(self.expand)) < len(self.expand) or not set(self.expand) <= set(EXPANSIONS):
            raise ValueError(f"expand must hold one or more of {', '.join(EXPANSIONS)}, each once")
