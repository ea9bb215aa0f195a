"""``--separate`` of the commands that recognise: what it takes, and where a separator goes into a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from stream_ser.separation.separator import Separator
    from stream_ser.separation.source import SeparatedSource
    from stream_ser.sources.base import Source

AnySource = TypeVar("AnySource", bound="Source")
Command = TypeVar("Command", bound=Callable[..., object])
OPTION = "--separate"
SUFFIX = ".onnx"
#: Where nothing is named; as ``stream_ser.separation.separator.DEFAULT_SEPARATOR``.
DEFAULT = "separator"


class Separating(click.Command):
    """A command whose ``--separate`` may stand without a value, also right before a file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give a bare ``--separate`` its default: what follows is a value only where it names a separator."""
        return super().parse_args(ctx, _filled(args))


def _filled(args: Sequence[str]) -> list[str]:
    filled: list[str] = []
    for position, argument in enumerate(args):
        if argument == "--":
            return [*filled, *args[position:]]
        following = args[position + 1] if position + 1 < len(args) else ""
        if argument == OPTION and not _names_separator(following):
            argument = f"{OPTION}={DEFAULT}"
        filled.append(argument)
    return filled


def _names_separator(argument: str) -> bool:
    if argument.lower().endswith(SUFFIX):
        return True
    from stream_ser.separation.separator import bundled_separators

    return argument in {path.stem for path in bundled_separators()}


def separate_option(command: Command) -> Command:
    """Add ``--separate``; the command is a :class:`Separating`."""
    return click.option(
        OPTION,
        metavar="[NAME|FILE]",
        help=f"Separate first, and hear each voice as a stream of its own, #1, #2; 'enhancer' takes noise off one. A "
        f"bundled separator (see 'stream-ser models') or an .onnx file.  [bare: {DEFAULT}]",
    )(command)


def separator_for(name: str | None) -> Separator | None:
    """The separator that was asked for.

    Raises:
        ModelError: there is no such separator, or it cannot be read.
    """
    if name is None:
        return None
    from stream_ser.separation.separator import Separator

    return Separator(name)


def count_of(separator: Separator | None) -> int:
    """Streams that one becomes."""
    return 1 if separator is None else len(separator.card.sources)


def separated(
    source: AnySource, separator: Separator | None, index: int | None, rate: int
) -> AnySource | SeparatedSource:
    """What a separator makes of a source, or one of it; the source itself where nothing separates.

    Args:
        source: opened.
        separator: which may be shared.
        index: of the one that is wanted, from 0; None for all.
        rate: of the recogniser, Hz.
    """
    if separator is None:
        return source
    from stream_ser.separation.source import SeparatedSource

    return SeparatedSource(source, separator, rate, index)
