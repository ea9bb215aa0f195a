"""Training step at SepTr's published settings: ``python tests/benchmarks/train_step.py [--mels 64 --frames 128]``.

Tokens of 1 x 1, dim 256, depth 3, 5 heads of 256, MLP 256. The published input of 512 x 512 does not fit a small
machine, so the input is smaller. Both sides learn the same
network from the same windows:

============  ========================================================================================================
description   what the paper describes, written down as it stands: explicit softmax attention, float32, Adam
stream-ser    the project's network and optimisation step: attention head by head, of which the backward pass keeps
              nothing (on a GPU fused), bf16, fused AdamW; clipping and the weight average, which the other side does
              not have, included
recompute     the same with ``model.recompute``, on a GPU: there attention is computed again, too
compiled      as stream-ser, through ``torch.compile`` (``--compiled``; it needs a C++ compiler and minutes)
============  ========================================================================================================

Each runs in a process of its own, and the processes take turns step by step, so that whatever else the machine does
meets all of them. Where it is busy, compare processor time. Memory is what the process takes above the idle one with
torch loaded (CUDA: what torch allocates on the device).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

DIM, DEPTH, HEADS, DIM_HEAD, MLP, CLASSES = 256, 3, 5, 256, 256, 35
#: Steps of each process that are not counted: pages and kernels are new.
WARM_UP = 1


@dataclass(frozen=True, slots=True)
class Options:
    """What both sides train on.

    Attributes:
        mels, frames: of a window.
        batch: windows a step.
        threads: of torch.
        device: ``cpu`` or ``cuda``.
        precision: of stream-ser's step.
    """

    mels: int = 64
    frames: int = 128
    batch: int = 1
    threads: int = 1
    device: str = "cpu"
    precision: str = "bf16"


def description(mels: int, frames: int) -> nn.Module:
    """SepTr from the paper's text, one line after the other (Ristea et al. 2022; see stream_ser/models/septr.py).

    Parameters are called as in :class:`stream_ser.models.septr.SepTr`, so that one's weights can be loaded into the
    other.
    """
    import torch
    from torch import nn

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.to_qkv = nn.Linear(DIM, 3 * HEADS * DIM_HEAD, bias=False)
            self.to_out = nn.Linear(HEADS * DIM_HEAD, DIM)

        def forward(self, x: Tensor) -> Tensor:
            lines, tokens, _ = x.shape
            q, k, v = (part.view(lines, tokens, HEADS, -1).transpose(1, 2) for part in self.to_qkv(x).chunk(3, dim=-1))
            weights = torch.softmax(q @ k.transpose(-1, -2) / DIM_HEAD**0.5, dim=-1)
            return self.to_out((weights @ v).transpose(1, 2).reshape(lines, tokens, -1))

    class Layer(nn.Module):
        def __init__(self, length: int) -> None:
            super().__init__()
            self.position = nn.Parameter(0.02 * torch.randn(length + 1, DIM))
            self.norm_attention = nn.LayerNorm(DIM)
            self.attention = Attention()
            self.norm_mlp = nn.LayerNorm(DIM)
            # The third is dropout, which is 0 as published.
            self.mlp = nn.Sequential(nn.Linear(DIM, MLP), nn.GELU(), nn.Identity(), nn.Linear(MLP, DIM))

        def forward(self, lines: Tensor, cls: Tensor) -> tuple[Tensor, Tensor]:
            # (batch, line, token, dim) and (batch, dim)
            batch, n, length, _ = lines.shape
            x = torch.cat((cls[:, None, None].expand(-1, n, -1, -1), lines), dim=2) + self.position
            x = x.reshape(batch * n, length + 1, DIM)
            x = x + self.attention(self.norm_attention(x))
            x = x + self.mlp(self.norm_mlp(x))
            x = x.view(batch, n, length + 1, DIM)
            return x[:, :, 1:], x[:, :, 0].mean(dim=1)

    class Stem(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.projection = nn.Linear(1, DIM)

    class Description(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = Stem()
            self.cls_token = nn.Parameter(0.02 * torch.randn(DIM))
            self.layers = nn.ModuleList(Layer(length) for _ in range(DEPTH) for length in (mels, frames))
            self.head = nn.Linear(DIM, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            # (batch, mel, time)
            tokens, cls = self.stem.projection(x[..., None]), self.cls_token.expand(len(x), -1)
            for index, layer in enumerate(self.layers):
                vertical = index % 2 == 0
                lines, cls = layer(tokens.transpose(1, 2) if vertical else tokens, cls)
                tokens = lines.transpose(1, 2) if vertical else lines
            return self.head(cls)

    return Description()


def published(mels: int, frames: int, *, recompute: bool = False) -> nn.Module:
    """The project's network at the same settings: its defaults but for the input."""
    from stream_ser.models.septr import SepTr, SepTrConfig

    return SepTr(SepTrConfig(n_mels=mels, n_frames=frames, recompute=recompute))


def make_step(variant: str, options: Options) -> Callable[[], float]:
    """A function that makes one step on a window of noise and returns its loss."""
    import torch
    from torch.nn import functional as F

    torch.manual_seed(0)
    device = torch.device(options.device)
    x = torch.randn(options.batch, options.mels, options.frames, device=device)
    y = torch.randint(CLASSES, (options.batch,), device=device)
    if variant == "description":
        network = description(options.mels, options.frames).to(device)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

        def plain() -> float:
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x), y)
            loss.backward()
            optimizer.step()
            return float(loss.detach())

        return plain

    from stream_ser.train.config import TrainConfig
    from stream_ser.train.optimization import Optimization

    config = TrainConfig(lr=1e-4, precision=options.precision)
    learner = published(options.mels, options.frames, recompute=variant == "recompute").to(device)
    optimization = Optimization(learner, config, 1_000, device)
    forward = torch.compile(learner) if variant == "compiled" else learner
    done = iter(range(1_000_000))

    def ours() -> float:
        step = next(done)
        optimization.begin(step)
        with optimization.autocast():
            logits = forward(x)
        return optimization.end(step, F.cross_entropy(logits.float(), y))

    return ours


def work(variant: str, options: Options) -> None:
    """A process: a step for every line of standard input, a line of JSON for every step."""
    import torch

    torch.set_num_threads(options.threads)
    cuda = options.device == "cuda"
    # What a first matrix product and a first optimiser take for good is no step's.
    for kind in (torch.float32, torch.bfloat16):
        matrix = torch.ones(8, 8, dtype=kind, device=options.device)
        torch.optim.Adam([torch.nn.Parameter(matrix @ matrix)])
    idle_mb = _peak_mb()
    step = make_step(variant, options)
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        loss = step()
        if cuda:
            torch.cuda.synchronize()
        peak_mb = torch.cuda.max_memory_allocated() / 1e6 if cuda else _peak_mb() - idle_mb
        row = {
            "wall_s": time.perf_counter() - wall,
            "cpu_s": time.process_time() - processor,
            "peak_mb": peak_mb,
            "loss": loss,
        }
        print(json.dumps(row), flush=True)


def _peak_mb() -> float:
    """Largest resident memory so far, 10**6 bytes (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def measure(variants: list[str], options: Options, steps: int) -> dict[str, dict[str, float]]:
    """Let the variants take turns; medians over the steps, and the largest memory."""
    command = [sys.executable, str(Path(__file__).resolve())]
    command += [part for name, value in asdict(options).items() for part in (f"--{name}", str(value))]
    threads = {"OMP_NUM_THREADS": str(options.threads), "MKL_NUM_THREADS": str(options.threads)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    rows: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants}
    workers: dict[str, subprocess.Popen[str]] = {}
    try:
        for variant in variants:
            workers[variant] = subprocess.Popen([*command, "--one", variant], env={**os.environ, **threads}, **pipes)
            _read(workers[variant])
        for _ in range(WARM_UP + steps):
            for variant, worker in workers.items():
                assert worker.stdin is not None
                worker.stdin.write("step\n")
                rows[variant].append(json.loads(_read(worker)))
    finally:
        for worker in workers.values():
            worker.kill()
            worker.communicate()
    found = {}
    for variant, all_steps in rows.items():
        counted = all_steps[WARM_UP:]
        wall_s, cpu_s = (median(row[name] for row in counted) for name in ("wall_s", "cpu_s"))
        found[variant] = {
            "samples_per_s": options.batch / wall_s,
            "wall_s": wall_s,
            "cpu_s": cpu_s,
            "peak_mb": max(row["peak_mb"] for row in all_steps),
            "first_loss": all_steps[0]["loss"],
        }
    return found


def _read(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise SystemExit("train_step.py: a process ended early; what it said stands above")
    return line


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in asdict(Options()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--steps", type=int, default=5, help="counted, of each")
    parser.add_argument("--compiled", action="store_true", help="also torch.compile")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = vars(parser.parse_args())
    options = Options(**{name: given[name] for name in asdict(Options())})
    if given["one"]:
        work(given["one"], options)
        return
    from stream_ser.bench import machine

    variants = ["description", "stream-ser"]
    # Heads as wide as the published ones do that on a CPU anyway.
    variants += ["recompute"] if options.device == "cuda" else []
    variants += ["compiled"] if given["compiled"] else []
    found = measure(variants, options, given["steps"])
    print(
        f"{machine.cpu_name()}, {options.threads} thread, {options.device}: SepTr as published, {options.mels} x "
        f"{options.frames} tokens, batch {options.batch}, median of {given['steps']} steps"
    )
    print(f"{'':>12}{'samples/s':>11}{'step s':>9}{'CPU s':>9}{'MB':>8}{'speed':>8}{'CPU':>7}{'memory':>8}")
    plain = found["description"]
    for variant, row in found.items():
        row["speed"] = plain["wall_s"] / row["wall_s"]
        row["memory"] = row["peak_mb"] / plain["peak_mb"]
        print(
            f"{variant:>12}{row['samples_per_s']:11.3f}{row['wall_s']:9.2f}{row['cpu_s']:9.2f}{row['peak_mb']:8.0f}"
            f"{row['speed']:8.2f}{plain['cpu_s'] / row['cpu_s']:7.2f}{row['memory']:8.2f}"
        )
    if given["json"]:
        content = {"machine": machine.describe(), "options": asdict(options), "steps": given["steps"], **found}
        given["json"].write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
