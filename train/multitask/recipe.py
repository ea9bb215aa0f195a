"""What decides a multitask training: frozen configuration that goes to JSON and back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, get_args

from stream_ser.config import FeatureConfig
from stream_ser.errors import TrainError
from stream_ser.models.multitask import MultitaskConfig
from stream_ser.train.augment import AugmentConfig
from stream_ser.train.recipe import Precision, TrainConfig, plain, tuples


@dataclass(frozen=True)
class LoopConfig:
    """How to train.

    Attributes:
        epochs: passes over the training part.
        batch_size: clips a step.
        lr: peak learning rate.
        warmup_epochs: linear rise of the learning rate, without which CTC may never leave the blank.
        weight_decay: not on norms, biases and LSTMs.
        ctc_weight: of the CTC loss, a character, beside the emotion's cross-entropy. 0 trains on emotion alone.
        emotion_weight: of the cross-entropy. 0 trains on transcripts alone.
        early: share of the cross-entropy that is taken somewhere after the first second instead of at the clip's end.
        label_smoothing: share of the emotion's target that is spread over all classes.
        ema_decay: of the weight average that is validated and exported; 0 is no average.
        grad_clip: largest gradient norm; 0 is no limit.
        copies: augmented copies of each clip that are made once, of which an epoch draws one.
        repeat: how often an epoch holds a clip that has a transcript and no emotion.
        held_out: sentences whose transcripts are not trained on, to measure what the network makes of new ones.
        validation_share: of the speakers of a corpus that comes without a validation part; as many are drawn for the
            test where it has no such part.
        precision: bf16 or fp16 (CUDA only) autocast, or fp32.
        seed: fixes initialisation, split, order, augmentation and dropout.
        threads: torch threads; 0 leaves torch's choice.
    """

    epochs: int = 15
    batch_size: int = 32
    lr: float = 2e-3
    warmup_epochs: float = 1.5
    weight_decay: float = 0.01
    ctc_weight: float = 1.0
    emotion_weight: float = 1.0
    early: float = 0.3
    label_smoothing: float = 0.05
    ema_decay: float = 0.998
    grad_clip: float = 5.0
    copies: int = 3
    repeat: int = 3
    held_out: tuple[str, ...] = ()
    validation_share: float = 0.07
    precision: Precision = "bf16"
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision {self.precision!r} is not one of {', '.join(get_args(Precision))}")
        for name in ("epochs", "batch_size", "copies", "repeat"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if not 0.0 < self.lr < math.inf:
            raise ValueError("lr must be a positive number")
        for name in ("early", "label_smoothing", "ema_decay", "validation_share"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1)")
        for name in ("warmup_epochs", "weight_decay", "ctc_weight", "emotion_weight", "grad_clip", "seed", "threads"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative")
        if self.ctc_weight == self.emotion_weight == 0.0:
            raise ValueError("ctc_weight and emotion_weight are both 0: nothing would be learnt")

    def optimizer_settings(self) -> TrainConfig:
        """The same for :mod:`stream_ser.train.optim`, which the classifiers' loop has, too."""
        return TrainConfig(
            epochs=self.epochs,
            lr=self.lr,
            warmup_epochs=self.warmup_epochs,
            weight_decay=self.weight_decay,
            grad_clip=self.grad_clip,
            ema_decay=self.ema_decay,
            precision=self.precision,
        )


#: Whole clips, whose text must stay whole, too: nothing is cut off, and masks are shorter than a syllable. The gain is
#: drawn twice, for a copy and whenever it is used.
AUGMENT = AugmentConfig(cut_p=0.0, trail_s=0.3, gain_db=6.0, time_mask_frames=12, mel_mask_bands=8)


@dataclass(frozen=True)
class MultitaskRun:
    """Everything that decides a run's result besides the recordings.

    Attributes:
        model: settings of the network.
        train: the loop.
        augment: of the training part.
        features: the log-mel, normalised with the training part's constants alone: a stream has no whole to look at.

    Raises:
        TrainError: features that a stream cannot have, or a network for others.
    """

    model: MultitaskConfig = field(default_factory=MultitaskConfig)
    train: LoopConfig = field(default_factory=LoopConfig)
    augment: AugmentConfig = AUGMENT
    features: FeatureConfig = field(default_factory=FeatureConfig)

    def __post_init__(self) -> None:
        if self.features.normalization != "corpus":
            raise TrainError(f"features.normalization {self.features.normalization} looks at a window; take corpus")
        if self.model.n_mels != self.features.n_mels:
            raise TrainError(
                f"model.n_mels {self.model.n_mels} is not features.n_mels {self.features.n_mels}; set both"
            )
        if self.augment.cut_p or self.augment.mixup_alpha or self.augment.expand != ("original",):
            raise TrainError("augment.cut_p, mixup_alpha and expand would part a clip from its text; leave them off")

    def as_dict(self) -> dict[str, Any]:
        """Plain types for JSON; tuples become lists."""
        content: dict[str, Any] = plain(self)
        return content

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> MultitaskRun:
        """Inverse of :meth:`as_dict`.

        Raises:
            TrainError: unknown or missing fields.
        """
        try:
            return cls(
                MultitaskConfig(**tuples(content["model"])),
                LoopConfig(**tuples(content["train"])),
                AugmentConfig(**tuples(content["augment"])),
                FeatureConfig(**tuples(content["features"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TrainError(f"multitask configuration: {type(error).__name__}: {error}") from None
