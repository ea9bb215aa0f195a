"""``stream-ser ctc-check``: proof that the CTC loss is right, and what it costs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from stream_ser.train.losses.ctc.benchmark import Cost
    from stream_ser.train.losses.ctc.check import Row

#: Columns where standard output is no terminal.
_WIDTH = 150


@click.command("ctc-check")
@click.option("--batches", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="To compare.")
@click.option("--seed", type=click.IntRange(0, 10**9), default=0, show_default=True, help="Of the batches.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--benchmark/--no-benchmark", default=True, help="Also measure time and memory.")
@click.option("--repeats", type=click.IntRange(1, 1000), default=7, show_default=True, help="Of each measurement.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with everything.")
@click.pass_context
def ctc_check(
    ctx: click.Context, batches: int, seed: int, device: str, benchmark: bool, repeats: int, as_json: bool
) -> None:
    """Compare the CTC loss with torch's native one; exit code 1 if they differ.

    Random batches of every kind (repeated tokens, empty targets, as many frames as tokens, too few of them, padding,
    targets in one row, nothing but the blank, long ones) are solved by both in float64, and a tenth as many by
    enumerating every path of up to six frames and by plain autograd. Losses may differ by 1e-10, gradients by 1e-9.

    Time (median) and peak memory of both are measured in float32, as they are used; they decide nothing.

    \b
    Why other comparisons fail:
      - torch's "mean" is no mean of the losses: each is divided by its target's
        length (at least 1) first. Per sequence, compare with reduction="none".
      - torch's gradient at log_probs is larger by exp(log_probs): it takes a
        log-softmax before it for granted. At the logits, behind one, both are equal.
      - a sequence of fewer frames than tokens and repetitions has no alignment: its
        loss is inf and its gradient NaN, or both 0 with zero_infinity. inf - inf is
        NaN, which no tolerance accepts.
      - the loss grows with the frames, and so does float32's rounding: a loss of 1000
        is known to 1e-4 only. Compare in float64.
      - torch takes the blank inside targets without a word and gives some number; here
        it is a ValueError.
    """  # noqa: D301 - click wants the character itself
    import os
    from functools import partial

    # Its library reports, before every profile, that a machine without a GPU has none.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    import torch
    from rich.console import Console
    from rich.progress import track

    from stream_ser.errors import TrainError
    from stream_ser.sinks.table import console_for
    from stream_ser.train.losses.ctc.benchmark import SIZES, measure
    from stream_ser.train.losses.ctc.check import COMPARISONS, compare
    from stream_ser.train.run_folder import processor

    if device == "cuda" and not torch.cuda.is_available():
        raise TrainError("torch finds no CUDA device on this machine; leave --device out to check on the CPU")
    machine = torch.cuda.get_device_name() if device == "cuda" else processor()
    shown: Callable[[str], None] = (lambda text: None) if as_json else (lambda text: click.echo(text, err=True))
    shown(f"comparing {batches:,} batches on {machine}, torch {torch.__version__}")
    errors = Console(stderr=True)
    watched = partial(track, console=errors, transient=True, disable=not errors.is_terminal)
    rows = list(watched(compare(batches, seed, device), "comparing", total=COMPARISONS))
    costs: list[Cost] = []
    if benchmark:
        threads = torch.get_num_threads()
        shown(f"measuring time and memory, {threads} thread{'s' * (threads != 1)}")
        costs = list(watched(measure(repeats, device), "measuring", total=len(SIZES)))
    passed = all(row.passed for row in rows)
    if as_json:
        import json

        content = {
            "passed": passed,
            "machine": machine,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "parity": [row.as_dict() for row in rows],
            "benchmark": [cost.as_dict() for cost in costs],
        }
        click.echo(json.dumps(content, indent=1))
    else:
        console = console_for(sys.stdout)
        if not console.is_terminal:
            console.width = _WIDTH
        console.print(_parity(rows))
        if costs:
            console.print()
            console.print("Time and peak memory, ours / torch's, of the loss and of both the loss and its gradient:")
            console.print(_costs(costs))
        console.print()
        console.print(_verdict(rows, costs), style="bold green" if passed else "bold red")
    if not passed:
        ctx.exit(1)


def _table(*headings: str) -> Table:
    """A table without a frame: names to the left, numbers to the right."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="grey62")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    return table


def _parity(rows: Sequence[Row]) -> Table:
    table = _table("difference of", "from", "batches", "items", "no path", "loss", "gradient")
    for row in rows:
        gradient = "-" if row.gradient is None else f"{row.gradient:.1e}"
        counts = (f"{count:,}" for count in (row.batches, row.sequences, row.impossible))
        style = None if row.passed else "bold red"
        table.add_row(row.case, row.against, *counts, f"{row.loss:.1e}", gradient, style=style)
    return table


def _costs(costs: Sequence[Cost]) -> Table:
    """Ours, and behind the slash torch's."""
    table = _table("T N C S", "forward ms", "both ms", "ratio", "forward MB", "both MB")
    for cost in costs:
        times = ("{:.1f} / {:.1f}".format(*pair) for pair in (cost.forward_ms, cost.both_ms))
        sizes = ("{:.1f} / {:.1f}".format(*pair) for pair in (cost.forward_mb, cost.both_mb))
        table.add_row(" ".join(map(str, cost.size)), *times, f"{cost.ratio:.2f}", *sizes)
    return table


def _verdict(rows: Sequence[Row], costs: Sequence[Cost]) -> str:
    from stream_ser.train.losses.ctc.benchmark import TARGET_RATIO, TARGET_SIZE
    from stream_ser.train.losses.ctc.check import GRADIENT_TOLERANCE, LOSS_TOLERANCE

    failed = [f"{row.case} (against {row.against})" for row in rows if not row.passed]
    within = f"losses within {LOSS_TOLERANCE:.0e}, gradients within {GRADIENT_TOLERANCE:.0e}"
    said = f"outside the tolerance: {', '.join(failed)}" if failed else f"equal: {within}"
    for cost in costs:
        if cost.size == TARGET_SIZE:
            said += f"; {cost.ratio:.2f} times torch's time at T, N, C, S = {', '.join(map(str, cost.size))}"
            said += f" (target on the CPU: at most {TARGET_RATIO:g})"
    return said
