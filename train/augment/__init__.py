"""Augmentation of training clips. It is applied after the split, to the training part alone.

On samples, as windows are drawn: splicing, speed, pitch, stretch, time shift, room, noise, telephone, gain. On the
spectrogram: masks and mix-up. Ahead of training: further copies of the set (``expand``). Everything draws from the
generator or the seed that is passed in, so a seed reproduces a run.
"""

from stream_ser.train.data.pcm16 import coloured_noise

from .config import EXPANSIONS, AugmentConfig
from .copies import expanded, pitch_shifted, stretched, with_speeds
from .filters import telephone
from .noise import add_noise, noise_bank
from .rooms import add_reverb, convolved
from .sounds import Sounds
from .spectrum import mixup, spec_augment
from .splice import splice
from .window import augment_wave, draw_end, place

__all__ = [
    "EXPANSIONS",
    "AugmentConfig",
    "Sounds",
    "add_noise",
    "add_reverb",
    "augment_wave",
    "coloured_noise",
    "convolved",
    "draw_end",
    "expanded",
    "mixup",
    "noise_bank",
    "pitch_shifted",
    "place",
    "spec_augment",
    "splice",
    "stretched",
    "telephone",
    "with_speeds",
]
