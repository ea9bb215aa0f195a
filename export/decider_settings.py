"""Write the decider's settings that were tuned for a model into its card, which the runtime reads them from.

``python -m stream_ser.export.decider_settings septr R.json``, the results of ``stream_ser.train.experiments.decider``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import click

from stream_ser.config import DeciderConfig
from stream_ser.errors import DataError
from stream_ser.export.checkpoints import rewrite_card
from stream_ser.runtime.card.recognition import Card
from stream_ser.runtime.engine import load
from stream_ser.train.experiments.command import Command


def tuned_card(card: Card, results: Path) -> Card:
    """The card with the settings that ``results`` chose.

    Raises:
        DataError: the file cannot be read, or holds no settings that a card may have.
    """
    try:
        chosen = json.loads(results.read_text(encoding="utf-8"))["chosen"]["decider"]
        tuned = replace(card, decider=DeciderConfig(**chosen))
        # As it will be read: out of range is refused here, not by the next one who loads the model.
        return Card.from_json(tuned.to_json())
    except (OSError, ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{results}: no settings in it ({error}); expected the results of stream_ser.train.experiments.decider"
        ) from None


@click.command(cls=Command)
@click.argument("model", metavar="NAME|FILE")
@click.argument("results", type=click.Path(path_type=Path), metavar="RESULTS.json")
def main(model: str, results: Path) -> None:
    """Write the settings that were tuned into a model's card."""
    engine = load(model, "cpu")
    card = tuned_card(engine.card, results)
    rewrite_card(engine.path, card)
    before = asdict(engine.card.decider)
    changes = [f"{name} {before[name]:g} -> {value:g}" for name, value in asdict(card.decider).items()]
    click.echo(f"{engine.path}: {', '.join(changes)}")


if __name__ == "__main__":
    main()
