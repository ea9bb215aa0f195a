"""Options that name corpora and their split, the same in every command that reads some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])

#: As in stream_ser.train.data.labels, which needs numpy.
SPLITS = ("fixed", "speaker", "folds", "nested", "random", "random-70-30")
LABEL_SETS = ("auto", "own", "common")
MODALITIES = ("voice", "face", "both")


def corpora_options(command: Command) -> Command:
    """Add ``--data``, ``--labels``, ``--map`` (as ``mapping``) and ``--votes``: what ``load_corpora`` takes."""
    for option in (
        click.option(
            "--votes",
            type=click.Choice(MODALITIES),
            default="voice",
            show_default=True,
            help="Which of CREMA-D's raters: those who were given the voice, the face, or both.",
        ),
        click.option(
            "--map",
            "mapping",
            multiple=True,
            metavar="LABEL=LABEL",
            help="Take a label for another (calm=neutral), or leave it out (calm=drop).",
        ),
        click.option(
            "--labels",
            type=click.Choice(LABEL_SETS),
            default="auto",
            show_default=True,
            help="The corpora's own labels, or the common ones: anger, disgust, fear, happy, neutral, sad. Auto: "
            "common only where corpora differ. What is not common (calm, surprise, boredom) is left out, "
            "unless mapped.",
        ),
        click.option(
            "--data",
            "data",
            multiple=True,
            metavar="CORPUS=PATH",
            help="Corpus, such as crema-d=PATH; several are joined. Your own: folder=PATH (a sub-folder for each "
            "label) or csv=FILE (columns path, label and, where known, speaker, text, split).",
        ),
    ):
        command = option(command)
    return command


def split_options(command: Command) -> Command:
    """Add ``--split``, ``--fold`` (a number, ``all`` or None) and ``--folds``: what ``make_split`` takes."""
    for option in (
        click.option(
            "--folds",
            type=click.IntRange(min=2),
            help="How many folds; by default the corpus' official number, or five by speaker.",
        ),
        click.option("--fold", callback=_fold, metavar="N|all", help="Which fold to hold out, from 1; or all of them."),
        click.option(
            "--split",
            type=click.Choice(SPLITS),
            default="fixed",
            show_default=True,
            help="The corpora's own lists; speakers drawn with the seed; one of k folds held out; the same, with "
            "another fold for validation (nested); random clips 70/15/15 or 70/30, in which speakers overlap.",
        ),
    ):
        command = option(command)
    return command


def _fold(ctx: click.Context, param: click.Parameter, value: str | None) -> int | Literal["all"] | None:
    if value is None:
        return None
    if value == "all":
        return "all"
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither a number from 1 nor 'all'", ctx, param)
    return int(value)
