"""``stream-ser models``: what there is to choose from, and how well it does."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pathlib import Path

    from stream_ser.card import Card


@click.command()
@click.argument("paths", nargs=-1, metavar="[NAME|FILE.onnx]...")
@click.option("--json", "as_json", is_flag=True, help="One JSON array with the whole cards.")
def models(paths: tuple[str, ...], as_json: bool) -> None:
    """List the bundled models, or the given ones: labels, size, training data, measured results, licence."""
    from stream_ser.engine import bundled, load

    engines = [load(path, "cpu") for path in paths or bundled()]
    # The engine's path: what was given may be the name of a bundled model.
    cards = [(engine.path, engine.card) for engine in engines]
    if as_json:
        import json

        content = [
            {"path": str(path), "bytes": path.stat().st_size, **json.loads(card.to_json())} for path, card in cards
        ]
        click.echo(json.dumps(content, indent=1))
        return
    if not cards:
        click.echo("stream-ser: no model is bundled with this installation; give an .onnx file", err=True)
        return
    from rich.table import Table

    from stream_ser.sinks.table import console_for

    console = console_for(sys.stdout)
    for path, card in cards:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="grey62", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in describe(path, card):
            grid.add_row(name, value)
        console.print(card.name, style="bold")
        console.print(grid)
        console.print()


def describe(path: Path, card: Card) -> list[tuple[str, str]]:
    """What a card says, as rows for people."""
    features, window = card.features, card.window
    window_s = features.samples_for(window.frames) / features.sample_rate
    hop_s = window.hop * features.hop_length / features.sample_rate
    first_s = features.samples_for(window.minimum) / features.sample_rate
    return [
        ("file", str(path)),
        ("labels", ", ".join(card.labels)),
        ("size", f"{card.parameters:,} parameters, {path.stat().st_size / 1e6:.2f} MB"),
        ("window", f"{window_s:.2f} s, a prediction every {hop_s:.2f} s, the first after {first_s:.2f} s"),
        ("input", f"log-mel, {features.n_mels} bands, {features.f_min:g} to {features.f_max:g} Hz"),
        ("trained on", _say(card.training) or "not recorded"),
        ("measured", _say(card.results) or "not recorded"),
        ("licence", card.licence or "not recorded"),
    ]


def _say(value: Any) -> str:
    """Nested card content on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{str(key).replace('_', ' ')}: {_say(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(_say(entry) for entry in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
