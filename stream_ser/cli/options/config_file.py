"""``--config file.toml``: options from a file; the command line wins.

Keys are the long names of options. Those on top are for every command that knows them, those in a table such as
``[listen]`` for that command alone::

    model = "septr"
    log-file = "stream-ser.log"

    [listen]
    device = "USB"
    output = ["talk.jsonl", "talk.srt"]

A flag that a file sets is taken back by its other form, as in ``--no-quiet``.

The file is data: nothing in it is evaluated, and paths in it are taken from the working folder.
"""

from __future__ import annotations

import difflib
import importlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

#: Commands that have ``--config``, and their modules.
CONFIGURED = {
    "listen": "stream_ser.cli.commands.listen",
    "file": "stream_ser.cli.commands.file",
    "demo": "stream_ser.cli.commands.demo",
}
_OWN = "config"
_MAX_BYTES = 1 << 20


def options_of(command: click.Command) -> dict[str, click.Option]:
    """Options of a command by the name that a file gives them: the long one, without its dashes."""
    found: dict[str, click.Option] = {}
    for option in command.params:
        if isinstance(option, click.Option) and option.name != _OWN:
            long = next(name for name in option.opts if name.startswith("--"))
            found[long[2:]] = option
    return found


def defaults_from(path: Path, command: str) -> dict[str, Any]:
    """What a file sets for a command: values by parameter, for click's ``default_map``.

    Args:
        path: of the TOML file.
        command: its name.

    Raises:
        click.UsageError: no TOML, an unknown key or table, or a value of a type that the option cannot take.
        OSError: it cannot be read.
    """
    known = {name: options_of(getattr(importlib.import_module(module), name)) for name, module in CONFIGURED.items()}
    read = _parse(path)
    tables = {name: value for name, value in read.items() if isinstance(value, dict)}
    shared = {name: value for name, value in read.items() if name not in tables}
    for name in tables:
        if name not in known:
            raise click.UsageError(f"{path}: [{name}] is no command with options{_nearest(name, known)}")
    # An option of several commands is that of the one that is called: listen takes several channels, file one.
    everywhere = {name: option for options in (*known.values(), known[command]) for name, option in options.items()}
    values = _checked(path, "", shared, everywhere)
    values = {name: value for name, value in values.items() if name in known[command]}
    for name, table in tables.items():
        checked = _checked(path, f"[{name}] ", table, known[name])
        if name == command:
            values |= checked
    return {str(known[command][name].name): value for name, value in values.items()}


def _parse(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        data = stream.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise click.UsageError(f"{path}: more than {_MAX_BYTES // 1024} KiB, expected a file of options")
    try:
        options: dict[str, Any] = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f'{path}: no TOML: {error}; expected lines such as model = "septr"') from None
    return options


def _checked(path: Path, where: str, table: Mapping[str, Any], options: Mapping[str, click.Option]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("_", "-")
        if name not in options:
            raise click.UsageError(f"{path}: {where}{key} is no option{_nearest(name, options)}")
        if name in values:
            raise click.UsageError(f"{path}: {where}{key} is set twice; keep one of the two")
        values[name] = _value(f"{path}: {where}{key}", value, options[name])
    return values


def _value(where: str, value: object, option: click.Option) -> object:
    if option.is_flag:
        if not isinstance(value, bool):
            raise click.UsageError(f"{where} is {value!r}, expected true or false")
        return value
    if option.multiple:
        values = value if isinstance(value, list) else [value]
        return [_scalar(where, item) for item in values]
    return _scalar(where, value)


def _scalar(where: str, value: object) -> object:
    """TOML also has dates, lists and tables, which no option takes."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise click.UsageError(f"{where} is {value}, expected a string or a number")
    return value


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; expected one of {', '.join(sorted(known))}"


def _apply(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Eager: before the other options look for their defaults."""
    if path is not None:
        values = defaults_from(path, str(ctx.command.name))
        ctx.default_map = {**(ctx.default_map or {}), **values}
    return path


config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="TOML",
    is_eager=True,
    callback=_apply,
    help="Take options from this file; the command line wins.",
)
