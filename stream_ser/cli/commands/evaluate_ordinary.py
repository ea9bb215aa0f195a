"""``stream-ser evaluate --ordinary``: how often an emotion is claimed of plain speech."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from stream_ser.text import printable

if TYPE_CHECKING:
    from stream_ser.config import VadConfig
    from stream_ser.runtime.engine import Engine
    from stream_ser.train.evaluation.ordinary import Claims


def run(engines: Sequence[Engine], ordinary: Sequence[str], vad: VadConfig | None, as_json: bool, record: bool) -> None:
    """Measure models on corpora of plain speech, each on speakers that it was not trained on, and print the shares.

    Args:
        engines: the models.
        ordinary: ``CORPUS=PATH`` each.
        vad: voice activity detection, or none.
        as_json: print JSON instead of a table.
        record: write the shares into the models' cards.

    Raises:
        DataError: clips that cannot be used.
        AudioError: a clip that cannot be decoded.
    """
    import json
    import sys

    from rich.console import Console
    from rich.progress import Progress

    from stream_ser.cli.commands.evaluate_tables import WIDTH
    from stream_ser.sinks.table import console_for
    from stream_ser.train.data.labels import load_plain
    from stream_ser.train.evaluation.ordinary import measure, unheard

    corpora = load_plain(ordinary)
    rows: list[tuple[Engine, str, str, Claims]] = []
    waiting = Console(stderr=True)
    with Progress(console=waiting, disable=not waiting.is_terminal, transient=True) as progress:
        for engine in engines:
            heard = engine.card.training.get("train_speakers")
            for corpus in corpora:
                clips, known = unheard(corpus.clips, heard if isinstance(heard, list) else ())
                note = f"{known} training speakers left out" if isinstance(heard, list) else "training speakers unknown"
                if not clips:
                    click.echo(f"{printable(engine.path.name)}: was trained on all speakers of {corpus.name}", err=True)
                    continue
                task = progress.add_task(printable(engine.path.name), total=len(clips))
                found = measure(engine, clips, functools.partial(progress.advance, task), vad=vad)
                rows.append((engine, corpus.name, note, found))
    if as_json:
        click.echo(json.dumps([_content(*row) for row in rows], indent=1))
    else:
        console = console_for(sys.stdout, WIDTH)
        console.print(_table(rows))
        for engine, name, note, found in rows:
            labels = ", ".join(f"{label} {share:.1%}" for label, share in found.labels.items())
            console.print(f"{printable(engine.path.name)}, {name}: {labels}; {note}", soft_wrap=True, markup=False)
    if record:
        _record(rows)


def _content(engine: Engine, corpus: str, note: str, found: Claims) -> dict[str, Any]:
    return {"model": engine.path.name, "corpus": corpus, "protocol": note, **found.as_dict()}


def _table(rows: Sequence[tuple[Engine, str, str, Claims]]) -> Any:
    """A ``rich`` table: a row a model and corpus."""
    from rich.markup import escape
    from rich.table import Table

    from stream_ser.train.evaluation.ordinary import CONFIDENCES

    heads = ["an emotion claimed", *(f"above {confidence:g}" for confidence in CONFIDENCES[1:])]
    caption = "Share of the clips; of the hops at which the network was asked; of the timeline without silence."
    table = Table("model", "plain speech", caption=caption, caption_justify="left")
    for head in ("clips", "speakers", *heads, "hops", "hops above .7", "time"):
        table.add_column(head, justify="right")
    for engine, corpus, _, found in rows:
        shares = [found.clips_claimed[confidence] for confidence in CONFIDENCES]
        shares += [found.hops_claimed[0.0], found.hops_claimed[0.7], found.time_claimed]
        counts = (str(found.clips), str(found.speakers))
        table.add_row(escape(printable(engine.path.name)), corpus, *counts, *(f"{share:.1%}" for share in shares))
    return table


def _record(rows: Sequence[tuple[Engine, str, str, Claims]]) -> None:
    from dataclasses import replace

    from stream_ser.export.checkpoints import rewrite_card

    cards = {engine.path: engine.card for engine, *_ in rows}
    for engine, corpus, note, found in rows:
        card = cards[engine.path]
        entry = {f"{corpus} plain speech": {"protocol": note, **found.as_dict()}}
        cards[engine.path] = replace(card, results={**card.results, **entry})
    for path, card in cards.items():
        rewrite_card(path, card)
        click.echo(f"{printable(str(path))}: card updated", err=True)
