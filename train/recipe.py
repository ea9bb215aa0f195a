"""What decides a run's result: plain, frozen configuration that goes to JSON and back."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from stream_ser.config import FeatureConfig, WindowConfig
from stream_ser.errors import TrainError
from stream_ser.models import registry
from stream_ser.models.base import NetworkConfig

from .augment import AugmentConfig

Precision = Literal["bf16", "fp32"]


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        epochs: passes over the training part.
        batch_size: windows a step.
        lr: peak learning rate of AdamW.
        weight_decay: decoupled; not on norms, biases, positions and the class token.
        warmup_epochs: linear rise of the learning rate, before its cosine fall to zero.
        label_smoothing: share of the target that is spread over all classes.
        ema_decay: of the weight average that is validated and exported.
        grad_clip: largest gradient norm.
        precision: bf16 autocast, or fp32.
        seed: fixes initialisation, order, augmentation and dropout.
        threads: torch threads; 0 leaves torch's choice.
    """

    epochs: int = 34
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 2.0
    label_smoothing: float = 0.05
    ema_decay: float = 0.998
    grad_clip: float = 1.0
    precision: Precision = "bf16"
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise TrainError(f"precision {self.precision!r} is not one of {', '.join(get_args(Precision))}")
        if self.epochs < 1 or self.batch_size < 2 or not 0.0 < self.lr < math.inf:
            raise TrainError("epochs must be at least 1, batch_size at least 2 and lr a positive number")
        if not (0.0 <= self.label_smoothing < 1.0 and 0.0 <= self.ema_decay < 1.0):
            raise TrainError("label_smoothing and ema_decay must be in [0, 1)")
        if not (self.grad_clip > 0.0 and self.warmup_epochs >= 0.0 and self.weight_decay >= 0.0):
            raise TrainError("grad_clip must be positive, warmup_epochs and weight_decay not negative")
        if self.threads < 0 or self.seed < 0:
            raise TrainError("threads and seed must not be negative")


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's result; written to ``config.json`` and into each checkpoint.

    Attributes:
        model: settings of the network, of the class that ``network`` has in the registry.
        train: the loop.
        augment: of the training part.
        features: the log-mel.
        window: its length and hop.
        network: name in the registry.

    Raises:
        TrainError: an unknown network, or ``model`` is of another one.
    """

    model: NetworkConfig
    train: TrainConfig = field(default_factory=TrainConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    network: str = "septr"

    def __post_init__(self) -> None:
        wanted = registry.get(self.network).config
        if type(self.model) is not wanted:
            raise TrainError(f"{self.network} needs a {wanted.__name__}, not a {type(self.model).__name__}")

    def as_dict(self) -> dict[str, Any]:
        """Plain types for JSON; tuples become lists."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> RunConfig:
        """Inverse of :meth:`as_dict`.

        Raises:
            TrainError: unknown network, unknown or missing fields.
        """

        def tuples(values: dict[str, Any]) -> dict[str, Any]:
            return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}

        try:
            network = content.get("network", "septr")  # the only one there was before the field
            return cls(
                network=network,
                model=registry.get(network).config(**tuples(content["model"])),
                train=TrainConfig(**tuples(content["train"])),
                augment=AugmentConfig(**tuples(content["augment"])),
                features=FeatureConfig(**tuples(content["features"])),
                window=WindowConfig(**tuples(content["window"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TrainError(f"run configuration: {type(error).__name__}: {error}") from None
