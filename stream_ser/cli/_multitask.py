"""``stream-ser train multitask``: what ``stream-ser train`` hands on for the network that also spells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream_ser.cli._bars import Bars, check_folder

if TYPE_CHECKING:
    from stream_ser.train.multitask.loop import MultitaskTrainer

CONFIG = "multitask-config.json"


@click.command()
@click.option(
    "--data",
    multiple=True,
    required=True,
    metavar="CORPUS=PATH",
    help="A corpus with emotions, transcripts or both, such as crema-d, ravdess, an4, librispeech; may be repeated.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder, such as runs/multitask.")
@click.option("--ctc-weight", type=float, help="Of the CTC loss beside the emotion's; 0 learns emotion alone.")
@click.option(
    "--held-out",
    multiple=True,
    metavar="SENTENCE",
    help="Learn no transcript of this sentence, and report it apart; may be repeated.",
)
@click.option("--epochs", type=click.IntRange(min=1))
@click.option("--batch-size", type=click.IntRange(min=1), help="Clips a step.")
@click.option("--lr", type=float, help="Peak learning rate.")
@click.option("--seed", type=click.IntRange(min=0), help="Of initialisation, drawn splits, order and draws.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="SECTION.FIELD=VALUE",
    help="Change anything else, such as model.width=320, train.repeat=3, augment.noise_p=0.5.",
)
@click.option("--resume", is_flag=True, help="Go on from the run folder's checkpoint.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
def multitask(
    data: tuple[str, ...],
    out: Path,
    ctc_weight: float | None,
    held_out: tuple[str, ...],
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    seed: int | None,
    changes: tuple[str, ...],
    resume: bool,
    device: str,
) -> None:
    """Train a streaming network that hears both what is said and how: transcript by CTC, and emotion.

    A clip without an emotion or without a transcript adds nothing to the loss of what it lacks. With little speech it
    spells the sentences that it was trained on and their words; LibriSpeech makes a recogniser of it.

    Word and character error rates are of speakers that were held out, decoded greedily and by beam search with a
    trigram model of the training texts, which is written as lm.arpa.

    \b
    Examples:
      stream-ser train multitask --data crema-d=/data/crema-d --data an4=/data/an4 --out runs/multitask
      stream-ser train multitask --data librispeech=/data/LibriSpeech --out runs/words
    """  # noqa: D301 - click wants the character itself
    from dataclasses import replace

    import torch

    from stream_ser.errors import OutputError, TrainError
    from stream_ser.train.ctc import ENGLISH
    from stream_ser.train.multitask import recipe
    from stream_ser.train.multitask.data import gather
    from stream_ser.train.multitask.loop import CHECKPOINT, MultitaskTrainer
    from stream_ser.train.presets import apply_sections
    from stream_ser.train.record import write_json

    if device == "cuda" and not torch.cuda.is_available():
        raise TrainError("--device cuda: torch sees no CUDA device; use --device cpu")
    named = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed, "ctc_weight": ctc_weight}
    shortcuts = [f"train.{name}={value}" for name, value in named.items() if value is not None]
    config = apply_sections(recipe.MultitaskRun(), [*changes, *shortcuts])
    if held_out:
        config = replace(config, train=replace(config.train, held_out=held_out))
    check_folder(out, CHECKPOINT, (out / CHECKPOINT).exists(), resume)
    train = config.train
    material = gather(data, ENGLISH, train.held_out, train.seed, train.validation_share)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
    where = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    trainer = MultitaskTrainer(config, material, out, where)
    click.echo(
        f"split: {material.split}; {len(material.train)} training, {len(material.validation)} validation, "
        f"{len(material.test)} test clips",
        err=True,
    )
    write_json(out / CONFIG, config.as_dict())
    try:
        content = _fit(trainer, resume)
    except KeyboardInterrupt:
        click.echo(f"{out}: stopped after epoch {len(trainer.history)}; go on with --resume", err=True)
        raise
    click.echo(f"{out}: {content['parameters']:,} parameters, {len(trainer.history)} epochs")
    print_results(content["results"])
    click.echo(f"next: stream-ser export --model multitask --checkpoint {out / CHECKPOINT}", err=True)


def _fit(trainer: MultitaskTrainer, resume: bool) -> dict[str, Any]:
    """Decode, train and measure under a progress display; without a terminal, a line an epoch."""
    from rich.console import Console

    from stream_ser.train.multitask.report import describe_epoch, finish

    console = Console(stderr=True)
    with Bars(console, console.is_terminal) as bars:
        bars.prepare(len(trainer.material.train) + len(trainer.material.validation), trainer.prepare)
        if resume:
            trainer.resume()
            console.print(f"resumed after epoch {len(trainer.history)}")
        bars.begin(trainer.config.train.epochs, len(trainer.history), trainer.steps)
        trainer.fit(bars.step, lambda epoch: bars.epoch(describe_epoch(epoch)))
        content: dict[str, Any] = finish(trainer)
        return content


def print_results(results: dict[str, Any]) -> None:
    """Emotion and error rates of the held-out speakers."""
    from stream_ser.train.multitask.report import rows

    for part in ("validation", "test"):
        if emotion := results.get(part, {}).get("emotion"):
            click.echo(f"{part}: emotion UAR {emotion['uar']:.4f} WA {emotion['wa']:.4f}, {emotion['clips']} clips")
    found = rows(results)
    if not found:
        return
    names = ("part", "corpus", "words", "WER %", "CER %", "WER+LM %", "CER+LM %")[: max(map(len, found))]
    width = max(len(row[1]) for row in found)
    for row in (names, *found):
        click.echo(f"{row[0]:10} {row[1]:{width}} " + " ".join(f"{value:>8}" for value in row[2:]))
