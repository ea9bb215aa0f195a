"""Recipes by name, and changes to them from the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any

from stream_ser.config import FeatureConfig, WindowConfig
from stream_ser.errors import TrainError
from stream_ser.features import mel_filterbank
from stream_ser.models import registry
from stream_ser.models.septr import SepTrConfig

from .augment import AugmentConfig
from .recipe import RunConfig, TrainConfig


def default() -> RunConfig:
    """The recipe of the bundled model: a convolution stem, then separable attention over 4 x 18 tokens."""
    features, window = FeatureConfig(), WindowConfig()
    model = SepTrConfig(
        n_mels=features.n_mels,
        n_frames=window.frames,
        num_classes=6,
        patch=(16, 16),
        dim=192,
        depth=2,
        heads=4,
        dim_head=48,
        mlp_dim=384,
        stem="conv",
        stem_channels=(32, 32, 64, 64, 128, 128, 256, 256),
        final_norm=True,
    )
    return RunConfig(model, features=features, window=window)


def patches() -> RunConfig:
    """SepTr as described, without convolutions, on 8 x 10 patches: streams on a CPU."""
    config = default()
    changes = {"patch": (8, 10), "stem": "patch", "stem_channels": (), "depth": 3, "dropout": 0.1}
    model = replace(config.model, **changes)
    return replace(config, model=model)


def published() -> RunConfig:
    """The published network (1 x 1 tokens of a 4 s spectrogram with 128 mel bands): a GPU's work.

    The paper takes the square root of the magnitude and a 512-sample Hamming window inside a 1024-point FFT; ours is
    the log-mel of this project at the same FFT size, hop, bands and length.
    """
    features = FeatureConfig(n_fft=1024, hop_length=64, n_mels=128)
    window = WindowConfig(frames=1000, hop=125, minimum=250, shortest=75)
    model = SepTrConfig(n_mels=128, n_frames=1000, num_classes=6)
    train = TrainConfig(epochs=50, batch_size=4, lr=1e-4, warmup_epochs=1.0)
    return RunConfig(model, train, AugmentConfig(), features, window)


#: network: its recipes by name; the first is the one that is taken where none is asked for.
PRESETS: dict[str, dict[str, Callable[[], RunConfig]]] = {
    "septr": {"default": default, "patches": patches, "published": published},
}


def preset(network: str, name: str = "default") -> RunConfig:
    """The recipe ``name`` of ``network``.

    Raises:
        TrainError: unknown network or recipe.
    """
    registry.get(network)
    recipes = PRESETS[network]
    if name not in recipes:
        raise TrainError(f"unknown preset {name!r}; {network} has {', '.join(recipes)}")
    return recipes[name]()


def _parse(text: str, old: Any, name: str) -> Any:
    """Read ``text`` as the type of the value that it replaces."""
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(old, int):
            return int(text)
        if isinstance(old, float):
            return float(text)
        if isinstance(old, tuple):
            kind = type(old[0]) if old else int
            return tuple(kind(part) for part in text.replace("x", ",").split(",") if part)
    except (ValueError, KeyError):
        raise TrainError(f"--set {name}={text}: expected a value like {old!r}") from None
    return text


def apply(config: RunConfig, changes: Iterable[str]) -> RunConfig:
    """Apply ``SECTION.FIELD=VALUE`` changes, such as ``model.dim=128`` or ``augment.speeds=0.9,1.0,1.1``.

    They are checked together, so their order does not matter; of two for one field the last counts.

    Raises:
        TrainError: an unknown field, or a value of the wrong kind or out of range.
    """
    sections: dict[str, dict[str, Any]] = {}
    for change in changes:
        path, equals, text = change.partition("=")
        section, dot, name = path.strip().partition(".")
        if not equals or not dot:
            raise TrainError(f"--set {change!r}: expected SECTION.FIELD=VALUE, such as model.dim=128")
        part = getattr(config, section, None)
        if not is_dataclass(part) or isinstance(part, type):
            known = ", ".join(field.name for field in fields(config))
            raise TrainError(f"--set {change!r}: unknown section {section!r}; known: {known}")
        names = [field.name for field in fields(part)]
        if name not in names:
            raise TrainError(f"--set {change!r}: unknown field {name!r}; {section} has {', '.join(names)}")
        sections.setdefault(section, {})[name] = _parse(text.strip(), getattr(part, name), path)
    model = sections.pop("model", {})
    try:
        parts = {section: replace(getattr(config, section), **values) for section, values in sections.items()}
        config = replace(config, **parts)
        mel_filterbank(config.features)
        # The network's input size follows the features and the window.
        size = {"n_mels": config.features.n_mels, "n_frames": config.window.frames}
        return replace(config, model=replace(config.model, **{**model, **size}))
    except ValueError as error:
        raise TrainError(f"--set: {error}") from None
