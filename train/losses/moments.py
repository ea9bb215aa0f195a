"""Networks that answer at any moment are also asked before the end of a window."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stream_ser.config import FeatureConfig
from stream_ser.errors import TrainError
from stream_ser.models.base import WindowNetwork
from stream_ser.models.streaming_septr import StreamingSepTr

#: Before it, nobody is asked for an emotion: seconds.
FIRST_S = 1.0


class EarlyToo(nn.Module):
    """A network that is asked twice for each window: at its end, and at a random earlier moment.

    Args:
        network: that answers at any moment; shared, not copied.
        features: gives the length of a frame.

    Raises:
        TrainError: the network answers at the window's end alone.
    """

    def __init__(self, network: WindowNetwork, features: FeatureConfig) -> None:
        super().__init__()
        if not isinstance(network, StreamingSepTr):
            raise TrainError("train.early asks for an answer before the window's end; only streaming-septr gives one")
        self.network = network
        first = FIRST_S * features.sample_rate / features.hop_length / network.config.stride
        self._first = min(round(first), network.config.grid[1]) - 1

    @property
    def head(self) -> nn.Linear:
        """The network's last layer."""
        return self.network.head

    def embed(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to embeddings ``(batch, 2, width)``: as of the end, and earlier."""
        moments = self.network.moments(x)
        end = moments.shape[1] - 1
        # Of torch's generator, which each epoch seeds.
        early = torch.randint(self._first, end + 1, (len(x),), device=x.device)
        return torch.stack((moments[:, end], moments[torch.arange(len(x), device=x.device), early]), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to logits ``(batch, 2, num_classes)``."""
        return self.head(self.embed(x))  # type: ignore[no-any-return]
