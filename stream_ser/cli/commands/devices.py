"""``stream-ser devices``: the audio inputs that ``listen --device`` can choose from."""

from __future__ import annotations

import sys

import click

from stream_ser.text import printable


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def devices(as_json: bool) -> None:
    """List the audio inputs; give an index or a part of a name to listen --device."""
    import json
    from dataclasses import asdict

    from stream_ser.sources.portaudio import find_device, list_devices

    found = list_devices()
    find_device(None, found)  # without any device: the same message as listen gives
    if as_json:
        click.echo(json.dumps([asdict(device) for device in found], indent=2, ensure_ascii=False))
        return
    columns = ("index", "name", "host API", "channels", "rate (Hz)", "default")
    rows = [
        (
            str(device.index),
            printable(device.name),
            printable(device.host_api),
            str(device.input_channels),
            str(device.default_sample_rate),
            "yes" if device.is_default else "",
        )
        for device in found
    ]
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in columns:
        table.add_column(column, justify="right" if column in {"index", "channels", "rate (Hz)"} else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: a name may hold what rich takes for markup
    Console().print(table)
