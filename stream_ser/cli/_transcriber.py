"""``stream-ser train transcriber``: the network that writes down what is said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream_ser.cli._bars import Bars, check_folder
from stream_ser.cli._multitask import print_results

if TYPE_CHECKING:
    from stream_ser.train.transcriber.loop import TranscriberTrainer

CONFIG = "transcriber-config.json"


@click.command()
@click.option(
    "--data",
    multiple=True,
    required=True,
    metavar="CORPUS=PATH",
    help="A corpus with transcripts, such as crema-d, ravdess, an4, librispeech; may be repeated.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder, such as runs/transcriber.")
@click.option("--ctc-weight", type=float, help="Share of the encoder's CTC loss, from 0 to below 1.")
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
    help="Change anything else, such as model.dim=144, model.max_tokens=400, train.repeat=2.",
)
@click.option("--resume", is_flag=True, help="Go on from the run folder's checkpoint.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
def transcriber(
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
    """Train a network that hears a whole clip and writes it down: an encoder, and a decoder with attention.

    Clips without a transcript are left out. With little speech it writes the sentences that it was trained on and
    their words; LibriSpeech makes a recogniser of it. Word and character error rates are of speakers that were held
    out, decoded greedily.

    \b
    Examples:
      stream-ser train transcriber --data crema-d=/data/crema-d --data an4=/data/an4 --out runs/transcriber
      stream-ser train transcriber --data librispeech=/data/LibriSpeech --set model.max_tokens=400 --out runs/words
    """  # noqa: D301 - click wants the character itself
    from dataclasses import replace

    import torch

    from stream_ser.errors import OutputError, TrainError
    from stream_ser.train.ctc import ENGLISH
    from stream_ser.train.multitask.data import gather
    from stream_ser.train.presets import apply_sections
    from stream_ser.train.record import write_json
    from stream_ser.train.transcriber import recipe
    from stream_ser.train.transcriber.loop import CHECKPOINT, TranscriberTrainer, with_texts

    if device == "cuda" and not torch.cuda.is_available():
        raise TrainError("--device cuda: torch sees no CUDA device; use --device cpu")
    named = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed, "ctc_weight": ctc_weight}
    shortcuts = [f"train.{name}={value}" for name, value in named.items() if value is not None]
    config = apply_sections(recipe.TranscriberRun(), [*changes, *shortcuts])
    if held_out:
        config = replace(config, train=replace(config.train, held_out=held_out))
    check_folder(out, CHECKPOINT, (out / CHECKPOINT).exists(), resume)
    train = config.train
    given = gather(data, ENGLISH, train.held_out, train.seed, train.validation_share)
    material = with_texts(given, config.model.max_tokens)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
    where = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    trainer = TranscriberTrainer(config, material, out, where)
    click.echo(
        f"split: {material.split}; {len(material.train)} training, {len(material.validation)} validation, "
        f"{len(material.test)} test clips with a transcript ({len(given.train) - len(material.train)} training clips "
        "have none that is to be learnt)",
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
    click.echo(f"next: stream-ser export --model transcriber --checkpoint {out / CHECKPOINT}", err=True)


def _fit(trainer: TranscriberTrainer, resume: bool) -> dict[str, Any]:
    """Decode, train and measure under a progress display; without a terminal, a line an epoch."""
    from rich.console import Console

    from stream_ser.train.transcriber.report import describe_epoch, finish

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
