"""``stream-ser export --precision``: a variant of an exported or bundled model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_ser.text import printable

if TYPE_CHECKING:
    from stream_ser.export.quantize import Precision, Quantized

#: As in stream_ser.export.quantize, which needs onnx.
PRECISIONS = ("fp32", "fp16", "int8", "int8-dynamic")


def run(source: Path, out: Path, precision: Precision, data: tuple[str, ...]) -> None:
    """Write the variant, and print what it costs and gains.

    Args:
        source: ONNX file with its card.
        out: where the variant goes.
        precision: of the variant.
        data: ``CORPUS=PATH`` each; without any, the loss is not measured.
    """
    from rich.console import Console
    from rich.progress import Progress

    from stream_ser.export.quantize import quantize
    from stream_ser.runtime.engine import Engine
    from stream_ser.train.data import labels, splits

    split = splits.fixed(labels.load_corpora(data, Engine(source, "cpu").card.labels)) if data else None
    waiting = Console(stderr=True)
    with Progress(console=waiting, disable=not waiting.is_terminal, transient=True) as progress:
        total = None if split is None else 2 * len(split.validation)
        task = progress.add_task(f"fp32 and {precision}", total=total)
        made = quantize(source, out, precision, split, advance=lambda: progress.advance(task))
    _print(made, precision)


def _print(made: Quantized, precision: Precision) -> None:
    before, after = made.before, made.after
    faster = before.run_ms / after.run_ms
    click.echo(
        f"{printable(str(made.path))}: {precision}, {after.size / 1e6:.1f} MB (from {before.size / 1e6:.1f}), "
        f"{after.run_ms:.2f} ms a window or hop on one thread (from {before.run_ms:.2f}: {faster:.2f} times as fast)"
    )
    if before.uar is None or after.uar is None or before.wa is None or after.wa is None:
        click.echo(
            "stream-ser: what it loses was not measured; give --data CORPUS=PATH to measure it on the validation part",
            err=True,
        )
        return
    click.echo(
        f"UAR {before.uar:.4f} to {after.uar:.4f} ({100 * (after.uar - before.uar):+.2f} points), "
        f"WA {before.wa:.4f} to {after.wa:.4f} on {made.clips} validation clips"
    )
