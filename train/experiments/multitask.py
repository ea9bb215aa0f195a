"""Does CTC help emotion, and what does the multitask network reach? Trains it; started again, it goes on where it was.

``python -m stream_ser.train.experiments.multitask sweep --data-root FOLDER --out runs/ctc-weights``: the weights of
the CTC loss from none on, everything else equal, clips decoded once. ``default``: the recipe of the bundled network.

Corpora are looked for by name in the data root. Two of CREMA-D's sentences are never learnt as text, and are reported
apart.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from stream_ser.train.losses.ctc import ENGLISH
from stream_ser.train.presets import apply_sections
from stream_ser.train.tasks.multitask import config as recipe
from stream_ser.train.tasks.multitask import report
from stream_ser.train.tasks.multitask.config import MultitaskRun
from stream_ser.train.tasks.multitask.data import Material, gather
from stream_ser.train.tasks.multitask.task import CHECKPOINT, MultitaskTrainer

from .command import Command, make_parent, print_table, write_json

WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0)
CORPORA = ("crema-d", "an4")
HELD_OUT = ("Don't forget a jacket", "The surface is slick")
RESULTS = "results.json"


def configured(changes: tuple[str, ...]) -> MultitaskRun:
    """The recipe, with the held-out sentences."""
    config = recipe.MultitaskRun()
    return apply_sections(replace(config, train=replace(config.train, held_out=HELD_OUT)), changes)


def material_of(root: Path, config: MultitaskRun) -> Material:
    """The corpora of the data root, split."""
    train = config.train
    data = [f"{name}={root / name}" for name in CORPORA]
    return gather(data, ENGLISH, train.held_out, train.seed, train.validation_share)


def run(trainer: MultitaskTrainer, language_model: bool) -> dict[str, Any]:
    """Train what is left of a prepared run, with a line an epoch, and measure it; a finished run is read."""
    content: dict[str, Any]
    done = trainer.out / report.METRICS
    if (trainer.out / CHECKPOINT).exists():
        trainer.resume()
        if len(trainer.history) == trainer.config.train.epochs and done.exists():
            content = json.loads(done.read_text(encoding="utf-8"))
            return content
    trainer.fit(on_epoch=lambda epoch: click.echo(report.describe_epoch(epoch), err=True))
    content = report.finish(trainer, language_model=language_model)
    return content


def sweep(config: MultitaskRun, material: Material, out: Path) -> dict[str, dict[str, Any]]:
    """Results by CTC weight, each run in a folder of its own."""
    first: MultitaskTrainer | None = None
    found = {}
    for weight in WEIGHTS:
        name = f"ctc-{weight:g}"
        (out / name).mkdir(parents=True, exist_ok=True)
        trainer = MultitaskTrainer(
            replace(config, train=replace(config.train, ctc_weight=weight)), material, out / name, torch.device("cpu")
        )
        if first is None:
            trainer.prepare()
            first = trainer
        else:
            trainer.take(first)
        click.echo(f"CTC weight {weight:g}", err=True)
        found[f"{weight:g}"] = run(trainer, language_model=False)["results"]
    return found


def table(found: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: emotion of the validation speakers, and greedy word error rates by corpus, percent."""
    corpora = list(dict.fromkeys(name for results in found.values() for name in results["validation"]["greedy"]))
    rows = []
    for weight, results in found.items():
        part = results["validation"]
        emotion = part.get("emotion", {})
        scores = [f"{100 * emotion[name]:.2f}" if emotion else "" for name in ("uar", "wa")]
        rows.append([weight, *scores, *(f"{100 * part['greedy'][name]['wer']:.1f}" for name in corpora)])
    return ["CTC weight", "UAR %", "WA %", *(f"WER % {name}" for name in corpora)], rows


@click.command(cls=Command)
@click.argument("plan", type=click.Choice(["sweep", "default"]))
@click.option("--data-root", type=click.Path(path_type=Path), required=True, help="Folder of the corpora's folders.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder, of a sweep one of several.")
@click.option("--set", "changes", multiple=True, metavar="SECTION.FIELD=VALUE", help="Such as train.epochs=8.")
def main(plan: str, data_root: Path, out: Path, changes: tuple[str, ...]) -> None:
    """Train the multitask network, or compare weights of its CTC loss."""
    config = configured(changes)
    material = material_of(data_root, config)
    make_parent(out / RESULTS)
    if plan == "default":
        trainer = MultitaskTrainer(config, material, out, torch.device("cpu"))
        trainer.prepare()
        results = run(trainer, language_model=True)["results"]
        header = ["part", "corpus", "words", "WER %", "CER %", "WER+LM %", "CER+LM %"]
        print_table("error rates of held-out speakers", header, [list(row) for row in report.rows(results)])
        return
    found = sweep(config, material, out)
    write_json(out / RESULTS, {"config": config.as_dict(), "split": material.split, "by_ctc_weight": found})
    print_table(f"weight of the CTC loss, {config.train.epochs} epochs; {material.split}", *table(found))


if __name__ == "__main__":
    main()
