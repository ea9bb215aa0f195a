"""What every network is: log-mel windows of one size in, logits out, the last layer called ``head``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stream_ser.config import FeatureConfig, WindowConfig


@dataclass(frozen=True)
class NetworkConfig:
    """Settings that every network has; each network's own follow in its subclass.

    Attributes:
        n_mels: height of the input.
        n_frames: width of the input.
        num_classes: logits.
    """

    n_mels: int = 64
    n_frames: int = 300
    num_classes: int = 6

    def __post_init__(self) -> None:
        if min(self.n_mels, self.n_frames, self.num_classes) < 1:
            raise ValueError("n_mels, n_frames and num_classes must all be at least 1")

    def check_input(self, features: FeatureConfig, window: WindowConfig) -> None:
        """Refuse what such a network cannot hear; most hear any log-mel and window.

        Raises:
            ValueError: says what it needs.
        """


class WindowNetwork(nn.Module):
    """Classifier of normalised log-mel windows; subclasses implement :meth:`embed` and call :meth:`make_head`.

    Attributes:
        head: the last layer, from the embedding to the logits; a network of other classes differs in it alone.
    """

    head: nn.Linear

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config

    def make_head(self, width: int) -> None:
        """Add the last layer, on embeddings of ``width``."""
        self.head = nn.Linear(width, self.config.num_classes)

    def set_normalization(self, mean: Tensor, std: Tensor, log_floor: float) -> None:
        """Tell the network how its input is normalised, before it is trained.

        Args:
            mean: per band, ``(mel,)``.
            std: per band, ``(mel,)``.
            log_floor: power that was added before the logarithm.
        """

    def embed(self, x: Tensor) -> Tensor:
        """``(batch, mel, time)`` to embeddings ``(batch, width)``, which :attr:`head` classifies."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Classify log-mel windows.

        Args:
            x: ``(batch, mel, time)`` of ``n_mels`` by ``n_frames``, the newest frame last.

        Returns:
            logits, ``(batch, num_classes)``.

        Raises:
            ValueError: the window is not of the configured size (not checked while exporting).
        """
        expected = (self.config.n_mels, self.config.n_frames)
        if not torch.compiler.is_compiling() and tuple(x.shape[1:]) != expected:
            raise ValueError(f"input has shape {tuple(x.shape)}, expected (batch, {expected[0]}, {expected[1]})")
        return self.head(self.embed(x))  # type: ignore[no-any-return]
