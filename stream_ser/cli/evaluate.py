"""``stream-ser evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from stream_ser.cli._run import provider_option

if TYPE_CHECKING:
    from stream_ser.card import Card
    from stream_ser.engine import Engine, Provider
    from stream_ser.train.corpora import Clip
    from stream_ser.train.evaluate import Evaluation


@click.command()
@click.argument("model", metavar="NAME|FILE")
@click.option("--data", "data", multiple=True, metavar="CORPUS=PATH", help="Corpus, such as crema-d=PATH.")
@click.option(
    "--part",
    type=click.Choice(["validation", "train", "test", "all"]),
    default="validation",
    show_default=True,
    help="Part of the corpus' fixed list.",
)
@provider_option
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
@click.option("--record", is_flag=True, help="Write the scores into the model's card.")
def evaluate(model: str, data: tuple[str, ...], part: str, provider: Provider, as_json: bool, record: bool) -> None:
    """Measure a model on whole clips, through the pipeline of `stream-ser file`.

    WA is accuracy, UAR the mean recall over the classes, ECE the expected calibration error with 15 bins. Whether the
    speakers were heard in training is read from the model's card and said beside the numbers.
    """
    import json
    from dataclasses import replace

    from stream_ser.engine import load
    from stream_ser.errors import DataError
    from stream_ser.train import corpora
    from stream_ser.train.evaluate import evaluate as run

    if record:
        from stream_ser.export.to_onnx import rewrite_card
    engine = load(model, provider)
    loaded = [corpora.load(name, path) for name, path in corpora.parse_data_option(data)]
    clips = [clip for corpus in loaded for clip in corpus.clips if part in ("all", clip.part)]
    if not clips:
        raise DataError(f"no clip is in the {part} part; choose another --part")
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(f"{len(clips)} clips", total=len(clips))
        result = run(engine, clips, lambda: progress.advance(task))
    names = " + ".join(corpus.name for corpus in loaded)
    protocol = f"{names}, {part} part, {speakers(clips, engine.card)}; ONNX, {engine.provider}"
    if as_json:
        content = {"model": engine.path.name, "protocol": protocol, "silent": result.silent}
        click.echo(json.dumps({**content, **result.scores.as_dict()}, indent=1))
    else:
        _print(engine, result, protocol)
    if record:
        kept = {k: v for k, v in result.scores.as_dict().items() if k != "confusion"}
        results = {**engine.card.results, f"{names} {part}": {"protocol": protocol, **kept}}
        rewrite_card(engine.path, replace(engine.card, results=results))
        click.echo(f"{engine.path}: card updated", err=True)


def speakers(clips: Sequence[Clip], card: Card) -> str:
    """How many speakers there are, and whether the model knows them from its training."""
    present = {clip.speaker for clip in clips}
    heard = card.training.get("train_speakers")
    if not isinstance(heard, list):
        return f"{len(present)} speakers, training speakers unknown"
    seen = len(present & set(heard))
    if seen:
        return f"{len(present)} speakers, {seen} of them heard in training: not speaker-independent"
    return f"{len(present)} speakers, none of them heard in training"


def _print(engine: Engine, result: Evaluation, protocol: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    scores = result.scores
    console.print(f"{engine.path.name}: {protocol}", highlight=False, soft_wrap=True)
    console.print(
        f"clips {scores.clips}  WA {scores.wa:.4f}  UAR {scores.uar:.4f}  F1 {scores.f1:.4f}  "
        f"ECE {scores.ece:.4f}  NLL {scores.nll:.4f}  heard as silence {result.silent}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("truth", *engine.card.labels, "recall", title="confusion (columns: predicted)", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for label, row, recall in zip(engine.card.labels, scores.confusion, scores.recall, strict=True):
        table.add_row(label, *map(str, row), f"{recall:.3f}")
    console.print(table)
