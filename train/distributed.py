"""Data-parallel training under ``torchrun``: a process a device, each with its share of every batch.

Every process prepares the same batch from the same draws and keeps every ``size``-th row of it, so the processes
together train on the batch that one process alone would have, and the mean of their gradients is that batch's gradient.
Batch norm on CUDA takes its statistics over all processes (SyncBatchNorm); on CPU, where torch has no such layer, each
process takes them over its own rows, and the result is that of a smaller batch.

The gradients are averaged here, in one all-reduce a step. What DistributedDataParallel would win, gradients that travel
while others are computed, is little for networks of a few million parameters.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn

from stream_ser.errors import TrainError

T = TypeVar("T")
N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class World:
    """This process among those that train together; by default it is alone.

    Attributes:
        rank: number of this process; the first one writes the files.
        size: number of processes.
        local_rank: number on this machine, which is that of its CUDA device.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, rows: torch.Tensor) -> torch.Tensor:
        """This process' rows of ``(rows, ...)``."""
        return rows[self.rank :: self.size]

    def join(self, share: torch.Tensor, rows: int) -> torch.Tensor:
        """Inverse of :meth:`share`: all processes' rows, in order, ``(rows, ...)``."""
        if self.size == 1:
            return share
        whole = share.new_zeros((rows, *share.shape[1:]))
        whole[self.rank :: self.size] = share
        dist.all_reduce(whole)
        return whole

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Mean of ``value`` over the processes."""
        if self.size > 1:
            dist.all_reduce(value)
        return value / self.size

    def from_first(self, make: Callable[[], T]) -> T:
        """What ``make`` gives in the first process, so that only that one needs the file it reads."""
        if self.size == 1:
            return make()
        content: list[Any] = [make() if self.first else None]
        dist.broadcast_object_list(content, src=0)
        return content[0]  # type: ignore[no-any-return]

    def copy_buffers(self, module: nn.Module) -> None:
        """Give all processes the first one's buffers, such as the statistics of batch norm."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    @torch.no_grad()
    def copy_parameters(self, module: nn.Module) -> None:
        """Give all processes the first one's parameters."""
        if self.size > 1:
            for parameter in module.parameters():
                dist.broadcast(parameter, src=0)

    def synchronize_batch_norm(self, network: N, device: torch.device) -> N:
        """Batch norm over all processes, where there is more than one and torch can."""
        if self.size == 1 or device.type != "cuda":
            return network
        return cast(N, nn.SyncBatchNorm.convert_sync_batchnorm(network))

    def mean_gradients(self, module: nn.Module) -> None:
        """Put the mean of all processes' gradients in place of this one's.

        Parameters without a gradient are passed over; they must be the same ones in all processes.
        """
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        flat = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def check_batch(self, batch_size: int, accumulate: int) -> None:
        """Refuse a batch that cannot be dealt out evenly.

        Raises:
            TrainError: ``size * accumulate`` does not divide the batch.
        """
        if batch_size % (self.size * accumulate):
            raise TrainError(
                f"batch_size {batch_size} cannot be dealt out to {self.size} processes in {accumulate} equal parts "
                f"each; take a multiple of {self.size * accumulate}"
            )


@contextlib.contextmanager
def join_world(cuda: bool) -> Iterator[World]:
    """Join the processes that ``torchrun`` started; without it, this process is the world.

    Args:
        cuda: train on CUDA devices (NCCL) or on CPUs (gloo).

    Raises:
        TrainError: more processes than CUDA devices, or the others cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1")) if dist.is_torchelastic_launched() else 1
    if size == 1:
        yield World()
        return
    world = World(int(os.environ["RANK"]), size, int(os.environ["LOCAL_RANK"]))
    if cuda:
        if world.local_rank >= torch.cuda.device_count():
            raise TrainError(
                f"torchrun started {world.local_rank + 1} or more processes here for {torch.cuda.device_count()} CUDA "
                "devices; lower --nproc-per-node"
            )
        torch.cuda.set_device(world.local_rank)
    # Optimisers import it when they are made. Imported while there is a process group it keeps it for ever, and gloo's
    # threads, still at work while the interpreter shuts down, may abort the process after all its work was done.
    from torch import _dynamo  # noqa: F401

    try:
        dist.init_process_group("nccl" if cuda else "gloo")
    except (RuntimeError, ValueError) as error:
        raise TrainError(f"the processes cannot reach each other: {str(error).splitlines()[0]}") from None
    try:
        yield world
    finally:
        dist.destroy_process_group()
