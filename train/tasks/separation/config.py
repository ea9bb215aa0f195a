"""What decides a separator's training: frozen configuration that goes to JSON and back, and recipes by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from stream_ser.errors import TrainError
from stream_ser.models import separator
from stream_ser.models.separator import LSTMMaskConfig, LSTMTasNetConfig, SeparatorConfig, frame_sizes
from stream_ser.train.config import Optimizer, Precision, TrainConfig, plain, tuples

Objective = Literal["l1", "si-snr", "snr"]
Schedule = Literal["cosine", "constant"]


@dataclass(frozen=True)
class LoopConfig:
    """How to train.

    Attributes:
        epochs: passes over the training part, or of ``steps`` drawn batches.
        batch_size: mixtures a step.
        steps: batches an epoch where mixtures are drawn from a corpus; a set on disk gives as many as it has.
        objective: l1, si-snr, or snr, by which the level is learnt, too.
        permute: the order of sources is free (uPIT); for voices, which have none.
        optimizer: adam or adamw.
        lr: peak learning rate.
        schedule: after the warm-up, ``cosine`` falls to zero at the last epoch, ``constant`` stays.
        warmup_epochs: linear rise of the learning rate.
        weight_decay: of matrices outside the LSTM.
        ema_decay: of the weight average that is tested and exported; 0 is no average.
        grad_clip: largest gradient norm; 0 is no limit.
        precision: of the network's passes in training; loss, weights and tests stay float32. fp16 needs CUDA.
        test_share: of a set on disk, drawn with the seed.
        test_mixtures: drawn from the test part of a corpus, as many from the validation part.
        seed: of initialisation, split, order and draws.
        threads: torch threads; 0 leaves torch's choice.
        workers: processes that draw mixtures; 0 draws between the steps. Nothing else hangs on it.
    """

    epochs: int = 10
    batch_size: int = 1
    steps: int = 200
    objective: Objective = "l1"
    permute: bool = False
    optimizer: Optimizer = "adam"
    lr: float = 3e-4
    schedule: Schedule = "constant"
    warmup_epochs: float = 0.0
    weight_decay: float = 0.0
    ema_decay: float = 0.0
    grad_clip: float = 0.0
    precision: Precision = "fp32"
    test_share: float = 0.2
    test_mixtures: int = 100
    seed: int = 0
    threads: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        for name, kind in (
            ("objective", Objective),
            ("optimizer", Optimizer),
            ("schedule", Schedule),
            ("precision", Precision),
        ):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(get_args(kind))}")
        for name in ("epochs", "batch_size", "steps", "test_mixtures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if not 0.0 < self.lr < math.inf:
            raise ValueError("lr must be a positive number")
        if not 0.0 < self.test_share < 1.0 or not 0.0 <= self.ema_decay < 1.0:
            raise ValueError("test_share must be in (0, 1), ema_decay in [0, 1)")
        for name in ("warmup_epochs", "weight_decay", "grad_clip", "seed", "threads", "workers"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative")

    def optimizer_settings(self) -> TrainConfig:
        """The same for :mod:`stream_ser.train.optim`, which the classifiers' loop has, too."""
        return TrainConfig(
            epochs=self.epochs,
            optimizer=self.optimizer,
            lr=self.lr,
            schedule=self.schedule,
            warmup_epochs=self.warmup_epochs,
            weight_decay=self.weight_decay,
            grad_clip=self.grad_clip,
            ema_decay=self.ema_decay,
            precision=self.precision,
        )


@dataclass(frozen=True)
class MixtureConfig:
    """How mixtures are drawn from a corpus with speakers.

    Attributes:
        sample_rate: Hz.
        duration_s: of a mixture.
        speakers: in each, all different.
        level_db: the levels of two speakers differ by at most so much.
        noise: ``none``, ``generated`` (coloured) or ``recorded``, for which a folder or corpus is given.
        snr_db: range of all speech over the noise.
        narrow_p: probability that a mixture ends at 4 kHz, as over a telephone; no change at 8 kHz.
        room_p: probability of a generated room, one for all speakers of a mixture.
        rt60_s: range of its reverberation time.
        speeds: factors of tempo and pitch to draw from, in training alone.
        gain_db: range of the whole mixture's level, RMS in dB of full scale.
    """

    sample_rate: int = 8_000
    duration_s: float = 4.0
    speakers: int = 2
    level_db: float = 5.0
    noise: Literal["none", "generated", "recorded"] = "none"
    snr_db: tuple[float, float] = (-5.0, 15.0)
    narrow_p: float = 0.0
    room_p: float = 0.0
    rt60_s: tuple[float, float] = (0.1, 0.5)
    speeds: tuple[float, ...] = (0.9, 0.95, 1.0, 1.05, 1.1)
    gain_db: tuple[float, float] = (-35.0, -20.0)

    def __post_init__(self) -> None:
        if self.sample_rate not in (8_000, 16_000):
            raise ValueError(f"a rate of {self.sample_rate} Hz, expected 8000 or 16000 Hz")
        if not 0.5 <= self.duration_s <= 60.0:
            raise ValueError(f"a duration of {self.duration_s:g} s, expected 0.5 to 60 s")
        if not 1 <= self.speakers <= 3:
            raise ValueError(f"{self.speakers} speakers, expected 1 to 3")
        if self.noise not in ("none", "generated", "recorded"):
            raise ValueError(f"noise {self.noise!r} is not one of none, generated, recorded")
        if self.speakers == 1 and self.noise == "none":
            raise ValueError("one speaker and no noise are no mixture; add noise")
        if not 0.0 <= self.level_db <= 40.0:
            raise ValueError("level_db must be in [0, 40]")
        if not (0.0 <= self.room_p <= 1.0 and 0.0 <= self.narrow_p <= 1.0):
            raise ValueError("room_p and narrow_p must be in [0, 1]")
        for name, least, most in (("snr_db", -40.0, 60.0), ("rt60_s", 0.05, 3.0), ("gain_db", -60.0, -12.0)):
            bounds = getattr(self, name)
            if len(bounds) != 2 or not least <= bounds[0] <= bounds[1] <= most:
                raise ValueError(f"{name} must be a lower and an upper bound from {least:g} to {most:g}")
        if not self.speeds or not all(0.5 <= speed <= 2.0 for speed in self.speeds):
            raise ValueError("speeds must hold one or more factors in [0.5, 2]")


@dataclass(frozen=True)
class SeparationConfig:
    """Everything that decides a run's result besides the recordings.

    Attributes:
        network: name in :data:`stream_ser.models.separator.SEPARATORS`.
        model: its settings.
        train: the loop.
        mixtures: how a corpus is mixed; a set on disk is what it is.
    """

    model: SeparatorConfig
    train: LoopConfig = field(default_factory=LoopConfig)
    mixtures: MixtureConfig = field(default_factory=MixtureConfig)
    network: str = "lstm-mask"

    def __post_init__(self) -> None:
        wanted = separator.kind_of(self.network).config
        if type(self.model) is not wanted:
            raise TrainError(f"{self.network} needs a {wanted.__name__}, not a {type(self.model).__name__}")

    def as_dict(self) -> dict[str, Any]:
        """Plain types for JSON; tuples become lists."""
        content: dict[str, Any] = plain(self)
        return content

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> SeparationConfig:
        """Inverse of :meth:`as_dict`.

        Raises:
            TrainError: unknown network, unknown or missing fields.
        """
        try:
            return cls(
                separator.kind_of(content["network"]).config(**tuples(content["model"])),
                LoopConfig(**tuples(content["train"])),
                MixtureConfig(**tuples(content["mixtures"])),
                content["network"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TrainError(f"separator's configuration: {type(error).__name__}: {error}") from None


def sines() -> SeparationConfig:
    """The reference on sinusoids: an LSTM of 8 between linear layers, L1, Adam at 3e-4, ten epochs."""
    return SeparationConfig(LSTMMaskConfig())


def mask() -> SeparationConfig:
    """Two voices with the simple network, a larger LSTM."""
    train = LoopConfig(
        epochs=100,
        batch_size=16,
        objective="snr",
        permute=True,
        lr=1e-3,
        schedule="cosine",
        warmup_epochs=1.0,
        ema_decay=0.998,
        grad_clip=5.0,
    )
    return SeparationConfig(LSTMMaskConfig(hidden=384, layers=2), train)


def voices() -> SeparationConfig:
    """Two voices: causal LSTM-TasNet on an STFT of 32 ms, at the rate that the emotion networks hear."""
    config = mask()
    return replace(
        config,
        # Half a window is the longest hop that a mask of square-root Hann frames allows: half the steps of a quarter.
        model=LSTMTasNetConfig(sample_rate=16_000, window=512, hop=256),
        # Many small steps: an hour on one core holds few large ones.
        train=replace(config.train, precision="bf16", batch_size=8),
        mixtures=replace(config.mixtures, sample_rate=16_000, narrow_p=0.2),
        network="lstm-tasnet",
    )


def learned() -> SeparationConfig:
    """Two voices on a learnt basis with frames of 8 ms."""
    model = LSTMTasNetConfig(sample_rate=16_000, window=128, hop=64, basis="learned", channels=256, mask="relu")
    return replace(voices(), model=model)


def enhance() -> SeparationConfig:
    """One voice out of noise."""
    config = voices()
    return replace(
        config,
        model=replace(config.model, sources=1),
        train=replace(config.train, permute=False),
        mixtures=replace(config.mixtures, speakers=1, noise="generated"),
    )


#: The first is for sets on disk, the second for corpora, where no recipe is asked for.
PRESETS: dict[str, Callable[[], SeparationConfig]] = {
    "sines": sines,
    "voices": voices,
    "mask": mask,
    "learned": learned,
    "enhance": enhance,
}


def preset(name: str) -> SeparationConfig:
    """A recipe by its name.

    Raises:
        TrainError: unknown name.
    """
    if name not in PRESETS:
        raise TrainError(f"unknown preset {name!r} of separators; known: {', '.join(PRESETS)}")
    return PRESETS[name]()


def fit_rate(config: SeparationConfig, sample_rate: int) -> SeparationConfig:
    """The recipe at another rate: its frames keep their length in time, within powers of two."""
    model = config.model
    window, hop = model.window, model.hop
    if sample_rate != model.sample_rate:
        window, _ = frame_sizes(sample_rate, model.latency_ms)
        hop = max(1, window * model.hop // model.window)
    try:
        return replace(config, model=replace(model, sample_rate=sample_rate, window=window, hop=hop))
    except ValueError as error:
        raise TrainError(f"at {sample_rate} Hz: {error}") from None
