"""``--lm``: a language model for what is said."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from stream_ser.transcription.rescoring import LanguageModel


def lm_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that gives a command ``--lm`` and what belongs to it, as ``lm``: a path, a weight and a bonus."""

    @functools.wraps(function)
    def command(*args: Any, lm: Path | None, lm_weight: float | None, lm_bonus: float | None, **options: Any) -> Any:
        if lm is None and (lm_weight is not None or lm_bonus is not None):
            raise click.UsageError("--lm-weight and --lm-bonus say how much --lm counts; give one")
        return function(*args, lm=(lm, lm_weight, lm_bonus), **options)

    for option in (
        click.option("--lm-bonus", type=click.FloatRange(-20, 20), help="For each word it finds.  [default: 1.5]"),
        click.option("--lm-weight", type=click.FloatRange(0, 20), help="Of --lm beside the network.  [default: 0.8]"),
        click.option(
            "--lm",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="NAME|ARPA",
            help="Spell what is said with this n-gram language model, with a model that transcribes: a file (.arpa, "
            ".arpa.gz), or 'multitask', that of the bundled one.",
        ),
    ):
        command = option(command)
    return command


def language_model(lm: tuple[Path | None, float | None, float | None]) -> LanguageModel | None:
    """What ``--lm`` asks for.

    Raises:
        DataError: the file cannot be read.
    """
    path, weight, bonus = lm
    if path is None:
        return None
    from stream_ser.transcription.rescoring import BONUS, WEIGHT, LanguageModel

    return LanguageModel.read(path, WEIGHT if weight is None else weight, BONUS if bonus is None else bonus)
