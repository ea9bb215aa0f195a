"""``stream-ser schema``: the JSON Schema of the JSON lines."""

from __future__ import annotations

from importlib import resources

import click

FILE = "events.schema.json"


@click.command()
def schema() -> None:
    """Print the JSON Schema that every line of --format jsonl obeys; the stream line names its version."""
    click.echo((resources.files("stream_ser.assets") / FILE).read_text(encoding="utf-8"), nl=False)
