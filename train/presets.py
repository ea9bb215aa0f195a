"""Recipes by name or from a file, and changes to them from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from stream_ser.config import FeatureConfig, WindowConfig
from stream_ser.errors import TrainError
from stream_ser.features.log_mel import mel_filterbank
from stream_ser.models import registry
from stream_ser.models.alexnet import AlexNet1dConfig
from stream_ser.models.ast import ASTConfig
from stream_ser.models.base import NetworkConfig
from stream_ser.models.lenet import LeNet1dConfig, LeNet2dConfig
from stream_ser.models.septr import SepTrConfig
from stream_ser.models.streaming_septr import StreamingSepTrConfig
from stream_ser.models.vgg import VGG1dConfig, VGG2dConfig
from stream_ser.models.vit import ViTConfig

from .augment import AugmentConfig
from .config import RunConfig, TrainConfig


def inputs() -> tuple[FeatureConfig, WindowConfig]:
    """What every recipe but the published SepTr's hears: 3.04 s at a common level; 16-frame tokens fill it."""
    return FeatureConfig(normalization="level"), WindowConfig(frames=304)


def default() -> RunConfig:
    """The recipe of the bundled model: a convolution stem, then separable attention over 4 x 19 tokens."""
    features, window = inputs()
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
    return RunConfig(model, TrainConfig(epochs=45), features=features, window=window)


def streaming() -> RunConfig:
    """The bundled model's recipe for a network that hears each frame once, and answers after each column of 160 ms.

    A window is a stream that has just begun. Its level is the network's own affair, for what comes is not known yet.
    """
    features, window = FeatureConfig(), WindowConfig(frames=304, hop=16, minimum=96)
    model = StreamingSepTrConfig(n_mels=features.n_mels, n_frames=window.frames)
    return RunConfig(
        model, TrainConfig(epochs=45, early=0.3), features=features, window=window, network="streaming-septr"
    )


def patches() -> RunConfig:
    """SepTr as described, without convolutions, on 8 x 10 patches: streams on a CPU."""
    changes: dict[str, Any] = {"patch": (8, 10), "stem": "patch", "stem_channels": (), "depth": 3, "dropout": 0.1}
    config = default()
    return replace(config, model=replace(config.model, **changes))


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


def control(of: Callable[[], RunConfig]) -> Callable[[], RunConfig]:
    """The recipe of joint attention over the tokens of SepTr's recipe ``of``, in as many layers of the same size."""

    def recipe() -> RunConfig:
        config = of()
        assert isinstance(config.model, SepTrConfig)
        values = {field.name: getattr(config.model, field.name) for field in fields(ViTConfig)}
        values["depth"] = config.model.depth * len(config.model.axes)
        return replace(config, network="vit", model=ViTConfig(**values))

    return recipe


def of_model(network: str, model: NetworkConfig, train: TrainConfig | None = None) -> Callable[[], RunConfig]:
    """A recipe in which only the network, and perhaps the loop, differs from SepTr's."""
    features, window = inputs()
    sized = replace(model, n_mels=features.n_mels, n_frames=window.frames)
    return lambda: RunConfig(sized, train or TrainConfig(), features=features, window=window, network=network)


#: A frozen dataclass whose fields are frozen dataclasses.
Settings = TypeVar("Settings", bound=Any)

#: Transformers without convolutions want smaller steps and longer warm-up.
GENTLE = TrainConfig(lr=5e-4, warmup_epochs=4.0)
#: Hidden widths as published.
WIDE = (4096, 4096)

#: network: its recipes by name. ``published`` has the published widths; ``time`` is a 1-D network over time instead of
#: over the mean vector.
PRESETS: dict[str, dict[str, Callable[[], RunConfig]]] = {
    "septr": {"default": default, "patches": patches, "published": published},
    "vit": {"default": control(default), "patches": control(patches)},
    "ast": {
        "default": of_model("ast", ASTConfig(), GENTLE),
        "columns": of_model("ast", ASTConfig(patch=(64, 2), stride=(64, 2)), GENTLE),
        "published": of_model("ast", ASTConfig(stride=(10, 10), dim=768, depth=12, heads=12, mlp_dim=3072), GENTLE),
    },
    "alexnet-1d": {
        "default": of_model("alexnet-1d", AlexNet1dConfig()),
        "time": of_model("alexnet-1d", AlexNet1dConfig(signal="time")),
        "published": of_model("alexnet-1d", AlexNet1dConfig(hidden=WIDE, norm=False)),
    },
    "vgg16-1d": {
        "default": of_model("vgg16-1d", VGG1dConfig()),
        "time": of_model("vgg16-1d", VGG1dConfig(signal="time")),
        "published": of_model("vgg16-1d", VGG1dConfig(hidden=WIDE, norm=False)),
    },
    "vgg16-2d": {
        "default": of_model("vgg16-2d", VGG2dConfig()),
        "published": of_model(
            "vgg16-2d", VGG2dConfig(channels=(64, 128, 256, 512, 512), hidden=WIDE, norm=False, image=(0, 0))
        ),
    },
    "lenet5-1d": {
        "default": of_model("lenet5-1d", LeNet1dConfig()),
        "time": of_model("lenet5-1d", LeNet1dConfig(signal="time")),
    },
    "lenet5-2d": {"default": of_model("lenet5-2d", LeNet2dConfig())},
    "streaming-septr": {"default": streaming},
}


def preset(network: str, name: str = "default") -> RunConfig:
    """The recipe ``name`` of ``network``, or the recipe file of that name.

    Raises:
        TrainError: unknown network or recipe, or a file that is none.
    """
    registry.get(network)
    if name.endswith(".json"):
        return read(network, Path(name))
    recipes = PRESETS[network]
    if name not in recipes:
        raise TrainError(f"unknown preset {name!r}; {network} has {', '.join(recipes)}, or give a recipe file, *.json")
    return recipes[name]()


def read(network: str, path: Path) -> RunConfig:
    """A recipe file: JSON with the sections and fields of ``--set``, in place of those of the default recipe.

    ``network``, where it is there, must be the wanted one; ``preset`` names another recipe to start from. The
    ``config.json`` that a run leaves behind is such a file, with every field.

    Raises:
        TrainError: not readable, of another network, or with unknown or impossible values.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainError(f"{path}: not a readable recipe ({error})") from None
    if not isinstance(content, dict):
        raise TrainError(f'{path}: expected sections, such as {{"model": {{"dim": 128}}}}')
    found, start = content.pop("network", network), content.pop("preset", "default")
    if found != network:
        raise TrainError(f"{path}: a recipe of {found}, not of {network}")
    if start not in PRESETS[network]:
        raise TrainError(f"{path}: unknown preset {start!r}; {network} has {', '.join(PRESETS[network])}")
    changes = []
    for section, values in content.items():
        if not isinstance(values, dict):
            raise TrainError(f"{path}: {section} is {values!r}, expected a section with fields")
        changes += [f"{section}.{name}={_text(value)}" for name, value in values.items()]
    return apply(PRESETS[network][start](), changes, source=str(path))


def _text(value: Any) -> str:
    """A value of JSON as it would stand behind ``--set``."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _parse(text: str, kind: Any) -> Any:
    """Read ``text`` as a field's type.

    Raises:
        ValueError: it is not of that type.
    """
    if getattr(kind, "__origin__", None) is tuple:
        item = get_args(kind)[0]
        # 8x10 for sizes; words may have an x in them.
        parts = (text if item is str else text.replace("x", ",")).split(",")
        return tuple(_parse(part.strip(), item) for part in parts if part.strip())
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    return kind(text) if kind in (int, float) else text


def read_changes(config: Any, changes: Iterable[str], source: str = "--set") -> dict[str, dict[str, Any]]:
    """Values by section and field of ``SECTION.FIELD=VALUE`` changes to a dataclass of dataclasses.

    Raises:
        TrainError: an unknown section or field, or a value of the wrong kind.
    """
    sections: dict[str, dict[str, Any]] = {}
    for change in changes:
        path, equals, text = change.partition("=")
        section, dot, name = path.strip().partition(".")
        if not equals or not dot:
            raise TrainError(f"{source} {change!r}: expected SECTION.FIELD=VALUE, such as model.dim=128")
        part = getattr(config, section, None)
        if not is_dataclass(part) or isinstance(part, type):
            known = ", ".join(field.name for field in fields(config))
            raise TrainError(f"{source} {change!r}: unknown section {section!r}; known: {known}")
        names = [field.name for field in fields(part)]
        if name not in names:
            raise TrainError(f"{source} {change!r}: unknown field {name!r}; {section} has {', '.join(names)}")
        try:
            value = _parse(text.strip(), get_type_hints(type(part))[name])
        except ValueError:
            raise TrainError(f"{source} {change}: expected a value like {getattr(part, name)!r}") from None
        sections.setdefault(section, {})[name] = value
    return sections


def apply_sections(config: Settings, changes: Iterable[str], source: str = "--set") -> Settings:
    """Apply ``SECTION.FIELD=VALUE`` changes to a dataclass of dataclasses, such as ``model.width=256``.

    They are checked together, so their order does not matter; of two for one field the last counts.

    Args:
        config: what is changed.
        changes: as they are written behind ``--set``.
        source: where they stand, for messages.

    Raises:
        TrainError: an unknown field, or a value of the wrong kind or out of range.
    """
    sections = read_changes(config, changes, source)
    try:
        return replace(config, **{name: replace(getattr(config, name), **values) for name, values in sections.items()})
    except ValueError as error:
        raise TrainError(f"{source}: {error}") from None


def apply(config: RunConfig, changes: Iterable[str], source: str = "--set") -> RunConfig:
    """As :func:`apply_sections`; the size of the network's input follows from the features and the window.

    Raises:
        TrainError: as there, or an input size that is set against them.
    """
    sections = read_changes(config, changes, source)
    model = sections.pop("model", {})
    try:
        parts = {section: replace(getattr(config, section), **values) for section, values in sections.items()}
        features, window = (parts.get(name, getattr(config, name)) for name in ("features", "window"))
        mel_filterbank(features)
        # The network's input size follows the features and the window.
        size = {"n_mels": features.n_mels, "n_frames": window.frames}
        for name, source_of in (("n_mels", "features.n_mels"), ("n_frames", "window.frames")):
            if model.get(name, size[name]) != size[name]:
                raise ValueError(f"model.{name} {model[name]} is not {source_of} {size[name]}; set {source_of} alone")
        return replace(config, **parts, model=replace(config.model, **{**model, **size}))
    except ValueError as error:
        raise TrainError(f"{source}: {error}") from None
