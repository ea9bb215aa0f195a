"""What decides a run's result: plain, frozen configuration that goes to JSON and back."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from stream_ser.config import FeatureConfig, WindowConfig
from stream_ser.errors import TrainError
from stream_ser.models import registry
from stream_ser.models.base import NetworkConfig

from .augment import AugmentConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Precision = Literal["bf16", "fp16", "fp32"]
Optimizer = Literal["adamw", "adam"]
Schedule = Literal["cosine", "plateau", "constant"]
Balance = Literal["none", "weights", "sampling"]


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        epochs: passes over the training part, at most.
        batch_size: windows a step, over all processes.
        accumulate: parts in which a batch goes through the network, for one that does not fit the memory. Without
            batch norm and dropout the result is that of the whole batch.
        optimizer: adamw or adam.
        lr: peak learning rate.
        body_lr: learning rate of everything but the classifier, as a share of ``lr``; 0 freezes it, statistics of
            batch norm included. For fine-tuning.
        schedule: after the warm-up, ``cosine`` falls to zero at the last epoch, ``plateau`` lowers the rate where the
            validation loss no longer falls, ``constant`` leaves it.
        warmup_epochs: linear rise of the learning rate.
        plateau_factor: what a plateau multiplies the rate with.
        plateau_patience: epochs without a lower validation loss that are let pass first.
        patience: epochs without a better validation UAR after which training ends early; 0 is never. The end is then
            chosen on the validation part.
        weight_decay: not on norms, biases, positions and the class token.
        label_smoothing: share of the target that is spread over all classes.
        votes: share of the raters' votes in the target of a clip that has them; the rest is its label.
        sentences: weight of an auxiliary loss, by which the embedding must also tell which of the sentences that
            several training speakers say is spoken; it needs no network of its own, and texts are used where known.
        early: share of the loss at a random earlier moment of each window, from which a network that answers at any
            moment learns to answer soon; only for such a network.
        taught: share of a teacher's posterior (``--taught``) in the target of a clip that it has heard.
        features: weight of an auxiliary loss, by which the embedding must also give the teacher's features.
        ordinary: probability of neutral in the weak target of plain speech (``--ordinary``).
        balance: between the classes: ``weights`` in the loss, ``sampling`` of the clips, or none.
        distill: share of the teachers in the loss, where there are teachers.
        distill_temperature: softens the teachers' and the network's probabilities for that.
        ema_decay: of the weight average that is validated and exported; 0 is no average.
        grad_clip: largest gradient norm; 0 is no limit.
        precision: bf16 or fp16 (CUDA only) autocast, or fp32.
        seed: fixes initialisation, order, augmentation and dropout.
        threads: torch threads; 0 leaves torch's choice.
    """

    epochs: int = 34
    batch_size: int = 32
    accumulate: int = 1
    optimizer: Optimizer = "adamw"
    lr: float = 1e-3
    body_lr: float = 1.0
    schedule: Schedule = "cosine"
    warmup_epochs: float = 2.0
    plateau_factor: float = 0.1
    plateau_patience: int = 5
    patience: int = 0
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    votes: float = 0.0
    sentences: float = 0.3
    early: float = 0.0
    taught: float = 0.5
    features: float = 0.3
    ordinary: float = 0.9
    balance: Balance = "none"
    distill: float = 0.5
    distill_temperature: float = 2.0
    ema_decay: float = 0.998
    grad_clip: float = 1.0
    precision: Precision = "bf16"
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        for name, kind in (
            ("precision", Precision),
            ("optimizer", Optimizer),
            ("schedule", Schedule),
            ("balance", Balance),
        ):
            if getattr(self, name) not in get_args(kind):
                raise TrainError(f"{name} {getattr(self, name)!r} is not one of {', '.join(get_args(kind))}")
        if self.epochs < 1 or self.batch_size < 2 or not 0.0 < self.lr < math.inf:
            raise TrainError("epochs must be at least 1, batch_size at least 2 and lr a positive number")
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            raise TrainError(f"accumulate {self.accumulate} must divide batch_size {self.batch_size}")
        for name in ("label_smoothing", "ema_decay"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise TrainError(f"{name} must be in [0, 1)")
        for name in ("votes", "distill", "body_lr", "early", "taught", "ordinary"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise TrainError(f"{name} must be in [0, 1]")
        if not (0.0 < self.plateau_factor < 1.0 and 0.0 < self.distill_temperature < math.inf):
            raise TrainError("plateau_factor must be in (0, 1) and distill_temperature a positive number")
        for name in (
            "grad_clip",
            "sentences",
            "features",
            "warmup_epochs",
            "weight_decay",
            "plateau_patience",
            "patience",
            "threads",
            "seed",
        ):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise TrainError(f"{name} must not be negative")


def plain(config: DataclassInstance) -> dict[str, Any]:
    """A configuration in plain types for JSON; tuples become lists."""
    content: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return content


def tuples(values: dict[str, Any]) -> dict[str, Any]:
    """Fields as they come from JSON, with lists as the tuples that they were."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


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
        TrainError: an unknown network, ``model`` is of another one, or it cannot hear what the other sections say.
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
        try:
            self.model.check_input(self.features, self.window)
        except ValueError as error:
            raise TrainError(f"{self.network}: {error}") from None

    def as_dict(self) -> dict[str, Any]:
        """Plain types for JSON; tuples become lists."""
        return plain(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> RunConfig:
        """Inverse of :meth:`as_dict`.

        Raises:
            TrainError: unknown network, unknown or missing fields.
        """
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
