"""Time and memory of the CTC loss beside torch's native one."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from .loss import ctc_loss

#: Frames, items, classes, tokens.
SIZES = ((100, 16, 32, 20), (500, 16, 32, 60), (500, 1, 32, 60), (1000, 8, 32, 120), (500, 16, 1000, 60))
#: Of the sizes, the one that has a target: at most this many times torch's time, forward and backward, on the CPU.
TARGET_SIZE = (500, 16, 32, 60)
TARGET_RATIO = 2.0


@dataclass(frozen=True)
class Cost:
    """What a batch costs, float32.

    Attributes:
        size: frames, items, classes, tokens of an item.
        forward_ms: median time of the loss alone, ours and torch's.
        both_ms: of the loss and its gradient at ``log_probs``.
        forward_mb: peak memory beyond the arguments, MB.
        both_mb: likewise, with the gradient.
    """

    size: tuple[int, int, int, int]
    forward_ms: tuple[float, float]
    both_ms: tuple[float, float]
    forward_mb: tuple[float, float]
    both_mb: tuple[float, float]

    @property
    def ratio(self) -> float:
        """Our time over torch's, forward and backward."""
        return self.both_ms[0] / self.both_ms[1]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "ratio": self.ratio}


def measure(
    repeats: int = 7, device: torch.device | str = "cpu", sizes: Sequence[tuple[int, int, int, int]] = ()
) -> Iterator[Cost]:
    """Measure both implementations at :data:`SIZES` or others, taking turns, so that other load meets both."""
    device = torch.device(device)
    for size in sizes or SIZES:
        calls = [_calls(loss, size, device) for loss in (ctc_loss, F.ctc_loss)]
        steps = list(zip(*calls, strict=True))
        forward_ms, both_ms = ([statistics.median(t) for t in _times(step, repeats, device)] for step in steps)
        forward_mb, both_mb = ([_peak_mb(call, device) for call in step] for step in steps)
        yield Cost(size, *((ours, theirs) for ours, theirs in (forward_ms, both_ms, forward_mb, both_mb)))


def _calls(
    loss: Callable[..., Tensor], size: tuple[int, int, int, int], device: torch.device
) -> tuple[Callable[[], object], Callable[[], object]]:
    frames, items, classes, tokens = size
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(frames, items, classes, generator=generator).log_softmax(dim=2).to(device)
    targets = torch.randint(1, classes, (items, tokens), generator=generator).to(device)
    lengths = torch.full((items,), frames), torch.full((items,), tokens)
    leaf = log_probs.clone().requires_grad_()
    return (
        lambda: loss(log_probs, targets, *lengths),
        lambda: torch.autograd.grad(loss(leaf, targets, *lengths), leaf),
    )


def _times(calls: tuple[Callable[[], object], ...], repeats: int, device: torch.device) -> list[list[float]]:
    """Milliseconds of each call, after one that is not counted."""
    times: list[list[float]] = [[] for _ in calls]
    for number in range(repeats + 1):
        for call, taken in zip(calls, times, strict=True):
            _wait(device)
            start = time.perf_counter()
            call()
            _wait(device)
            if number:
                taken.append(1e3 * (time.perf_counter() - start))
    return times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_mb(call: Callable[[], object], device: torch.device) -> float:
    """What torch's allocator had given out at most during ``call``, beyond what it had before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    # Without acc_events torch warns that it forgets them.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as record:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        record.export_chrome_trace(str(path))
        trace = json.loads(path.read_text(encoding="utf-8"))
    steps = [event for event in trace["traceEvents"] if event.get("name") == "[memory]"]
    now = top = 0
    for step in sorted(steps, key=lambda event: event["ts"]):
        now += step["args"]["Bytes"]
        top = max(top, now)
    return top / 1e6
