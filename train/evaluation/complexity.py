"""What a network costs: parameters, and multiplications with addition of one window."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Complexity:
    """Cost of a network.

    Attributes:
        parameters: all of them, frozen ones too.
        macs: multiply-accumulates of one window, half the floating-point operations of its matrix products and
            convolutions: those of linear layers, convolutions and attention. Not counted are additions of biases,
            norms, activations, softmax, pooling and the log-mel, all of a lower order.
    """

    parameters: int
    macs: int

    def as_dict(self) -> dict[str, int]:
        """For JSON."""
        return asdict(self)


def complexity(network: nn.Module, n_mels: int, n_frames: int) -> Complexity:
    """Count on torch's meta device: nothing is computed and ``network`` stays as it is.

    Args:
        network: from ``(batch, n_mels, n_frames)``.
        n_mels: height of its input.
        n_frames: width of its input.
    """
    parameters = sum(p.numel() for p in network.parameters())
    ghost = copy.deepcopy(network).to("meta").train()
    for module in ghost.modules():
        # In training, batch norm over several processes would ask them for their statistics.
        if isinstance(module, nn.SyncBatchNorm):
            module.eval()
    # Fused kernels hide their products from the counter: plain attention, and training mode for torch's encoder layers.
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        ghost(torch.empty(2, n_mels, n_frames, device="meta"))
    return Complexity(parameters, counter.get_total_flops() // 4)
