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


NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (Network("septr", "separable transformer: attention along frequency, then along time", _septr),)
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
