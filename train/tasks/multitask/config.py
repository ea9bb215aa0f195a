"""What decides a training on clips with text: frozen configuration that goes to JSON and back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, get_args

from stream_ser.config import FeatureConfig
from stream_ser.errors import TrainError
from stream_ser.models.multitask import MultitaskConfig
from stream_ser.train.augment import AugmentConfig
from stream_ser.train.config import Precision, TrainConfig, plain, tuples

Run = TypeVar("Run", bound="SpokenRun")


@dataclass(frozen=True)
class SpokenLoop:
    """How to train a network that spells.

    Attributes:
        epochs: passes over the training part.
        batch_size: clips a step.
        lr: peak learning rate.
        warmup_epochs: linear rise of the learning rate, without which CTC may never leave the blank.
        weight_decay: not on norms, biases and LSTMs.
        label_smoothing: share of a class's target that is spread over all classes.
        ema_decay: of the weight average that is validated and exported; 0 is no average.
        grad_clip: largest gradient norm; 0 is no limit.
        copies: augmented copies of each clip that are made once, of which an epoch draws one.
        repeat: how often an epoch holds a clip that has a transcript and no emotion.
        joined: share of the batches whose clips are joined in pairs, one text behind the other, if all have one; their
            emotions are not learnt. Where a network knows few sentences, it has to listen for where it is.
        held_out: sentences whose transcripts are not trained on, to measure what the network makes of new ones.
        validation_share: of the speakers of a corpus that comes without a validation part; as many are drawn for the
            test where it has no such part.
        precision: bf16 or fp16 (CUDA only) autocast, or fp32.
        seed: fixes initialisation, split, order, augmentation and dropout.
        threads: torch threads; 0 leaves torch's choice.

    Raises:
        ValueError: a value out of range.
    """

    epochs: int = 15
    batch_size: int = 32
    lr: float = 2e-3
    warmup_epochs: float = 1.5
    weight_decay: float = 0.01
    label_smoothing: float = 0.05
    ema_decay: float = 0.998
    grad_clip: float = 5.0
    copies: int = 3
    repeat: int = 3
    joined: float = 0.0
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
        self._check_shares("label_smoothing", "ema_decay", "joined", "validation_share")
        self._check_not_negative("warmup_epochs", "weight_decay", "grad_clip", "seed", "threads")

    def _check_shares(self, *names: str) -> None:
        for name in names:
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1)")

    def _check_not_negative(self, *names: str) -> None:
        for name in names:
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative")

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


@dataclass(frozen=True)
class LoopConfig(SpokenLoop):
    """How to train the multitask network.

    Attributes:
        ctc_weight: of the CTC loss, a character, beside the emotion's cross-entropy. 0 trains on emotion alone.
        emotion_weight: of the cross-entropy. 0 trains on transcripts alone.
        early: share of the cross-entropy that is taken somewhere after the first second instead of at the clip's end.
        hear_first_s: of a clip's sound, before which no character is learnt. Where most sentences begin alike, a causal
            network otherwise learns to guess the first letter at the first sound, and cannot take it back.
    """

    ctc_weight: float = 1.0
    emotion_weight: float = 1.0
    early: float = 0.3
    hear_first_s: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_shares("early")
        self._check_not_negative("ctc_weight", "emotion_weight", "hear_first_s")
        if self.ctc_weight == self.emotion_weight == 0.0:
            raise ValueError("ctc_weight and emotion_weight are both 0: nothing would be learnt")


#: Whole clips, whose text must stay whole, too: nothing is cut off, and masks are shorter than a syllable. The gain is
#: drawn twice, for a copy and whenever it is used.
AUGMENT = AugmentConfig(cut_p=0.0, trail_s=0.3, gain_db=6.0, time_mask_frames=12, mel_mask_bands=8)


@dataclass(frozen=True)
class SpokenRun:
    """Everything that decides a run's result besides the recordings.

    Attributes:
        model: settings of the network; with ``n_mels``, ``vocabulary`` and ``stride``.
        train: the loop.
        augment: of the training part.
        features: the log-mel, normalised with the training part's constants alone: a stream has no whole to look at.

    Raises:
        TrainError: features that a stream cannot have, or a network for others.
    """

    model: Any
    train: SpokenLoop = field(default_factory=SpokenLoop)
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
    def from_dict(cls: type[Run], content: dict[str, Any]) -> Run:
        """Inverse of :meth:`as_dict`.

        Raises:
            TrainError: unknown or missing fields.
        """
        like = cls()  # type: ignore[call-arg]  # the network's settings have a default in each kind of run
        try:
            return cls(*(type(getattr(like, part.name))(**tuples(content[part.name])) for part in fields(cls)))
        except (KeyError, TypeError, ValueError) as error:
            raise TrainError(f"configuration: {type(error).__name__}: {error}") from None


@dataclass(frozen=True)
class MultitaskRun(SpokenRun):
    """A run of the multitask network."""

    model: MultitaskConfig = field(default_factory=MultitaskConfig)
    train: LoopConfig = field(default_factory=LoopConfig)
