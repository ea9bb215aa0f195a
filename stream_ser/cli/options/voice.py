"""``--adapt`` and ``--voice`` of the commands that recognise, and the key that forgets a voice."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from stream_ser.cli.run.voice import Memory

Command = Callable[..., Any]


def memory_options(command: Command) -> Command:
    """Add ``--adapt`` and ``--voice``, as one argument ``memory`` of :class:`Memory`."""

    @functools.wraps(command)
    def decorated(*args: Any, **options: Any) -> Any:
        return command(*args, memory=Memory(options.pop("adapt"), options.pop("voice")), **options)

    # Hidden as long as no bundled model has a memory.
    decorated = click.option(
        "--voice",
        metavar="NAME|FILE",
        hidden=True,
        help="Begin with this voice, known from 'stream-ser enroll'; of a model with a memory.",
    )(decorated)
    return click.option(
        "--adapt/--no-adapt",
        default=None,
        hidden=True,
        help="Get to know the voice: what was said conditions what is heard next, for this session. Only with a model "
        "that has a memory.  [default: on]",
    )(decorated)
