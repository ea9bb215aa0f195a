"""All networks by name. Names and summaries are known without torch; classes are imported when asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stream_ser.errors import TrainError

if TYPE_CHECKING:
    from .base import NetworkConfig, WindowNetwork

    Classes = tuple[type[NetworkConfig], type[WindowNetwork]]


@dataclass(frozen=True)
class Network:
    """A kind of network.

    Attributes:
        name: as in ``stream-ser train NAME``.
        summary: one line for people.
        load: imports the classes of the settings and of the module.
    """

    name: str
    summary: str
    load: Callable[[], Classes]

    @property
    def config(self) -> type[NetworkConfig]:
        """Class of its settings, a frozen dataclass."""
        return self.load()[0]

    @property
    def module(self) -> type[WindowNetwork]:
        """Class of the network, built from its settings alone."""
        return self.load()[1]


def _septr() -> Classes:
    from .septr import SepTr, SepTrConfig

    return SepTrConfig, SepTr


def _streaming_septr() -> Classes:
    from .streaming_septr import StreamingSepTr, StreamingSepTrConfig

    return StreamingSepTrConfig, StreamingSepTr


def _vit() -> Classes:
    from .vit import ViT, ViTConfig

    return ViTConfig, ViT


def _ast() -> Classes:
    from .ast import AST, ASTConfig

    return ASTConfig, AST


def _alexnet_1d() -> Classes:
    from .alexnet import AlexNet1d, AlexNet1dConfig

    return AlexNet1dConfig, AlexNet1d


def _vgg16_1d() -> Classes:
    from .vgg import VGG16, VGG1dConfig

    return VGG1dConfig, VGG16


def _vgg16_2d() -> Classes:
    from .vgg import VGG16, VGG2dConfig

    return VGG2dConfig, VGG16


def _lenet5_1d() -> Classes:
    from .lenet import LeNet1dConfig, LeNet5

    return LeNet1dConfig, LeNet5


def _lenet5_2d() -> Classes:
    from .lenet import LeNet2dConfig, LeNet5

    return LeNet2dConfig, LeNet5


NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network("septr", "separable transformer: attention along frequency, then along time", _septr),
        Network("vit", "joint attention over SepTr's tokens, its control", _vit),
        Network("ast", "audio spectrogram transformer: overlapping patches, plain encoder", _ast),
        Network("alexnet-1d", "AlexNet over the mean log-mel vector, or over time", _alexnet_1d),
        Network("vgg16-1d", "VGG-16 over the mean log-mel vector, or over time", _vgg16_1d),
        Network("vgg16-2d", "VGG-16 over the mel image", _vgg16_2d),
        Network("lenet5-1d", "LeNet-5 over the mean log-mel vector, or over time", _lenet5_1d),
        Network("lenet5-2d", "LeNet-5 over the mel image, 32 x 32", _lenet5_2d),
        Network("streaming-septr", "SepTr for streams: a hop costs the same however much was heard", _streaming_septr),
    )
}


def get(name: str) -> Network:
    """A kind of network by its name.

    Raises:
        TrainError: unknown name.
    """
    if name not in NETWORKS:
        raise TrainError(f"unknown network {name!r}; known: {', '.join(NETWORKS)}")
    return NETWORKS[name]


def build(name: str, config: NetworkConfig) -> WindowNetwork:
    """An untrained network.

    Raises:
        TrainError: unknown name, or settings of another network.
    """
    network = get(name)
    if type(config) is not network.config:
        raise TrainError(f"{name} is built from a {network.config.__name__}, not from a {type(config).__name__}")
    return network.module(config)
