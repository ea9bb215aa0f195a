"""``stream-ser train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_ser.models.registry import NETWORKS

if TYPE_CHECKING:
    from rich.console import Console

    from stream_ser.train.loop import Trainer


@click.command()
@click.argument("network", type=click.Choice(list(NETWORKS)))
@click.option("--data", "data", multiple=True, metavar="CORPUS=PATH", help="Corpus to train on, such as crema-d=PATH.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder, such as runs/first.")
@click.option("--preset", default="default", show_default=True, help="Recipe: default, patches or published.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training part.")
@click.option("--batch-size", type=click.IntRange(min=2), help="Windows a step.")
@click.option("--lr", type=float, help="Peak learning rate.")
@click.option("--seed", type=click.IntRange(min=0), help="Fixes every draw; the same seed gives the same numbers.")
@click.option("--precision", type=click.Choice(["bf16", "fp32"]), help="bf16 autocast or full float32.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="SECTION.FIELD=VALUE",
    help="Change anything else in the recipe.",
)
@click.option(
    "--split",
    type=click.Choice(["fixed", "speaker"]),
    default="fixed",
    show_default=True,
    help="The corpus' own list, or speakers drawn with the seed. No speaker is in both parts.",
)
@click.option("--resume", is_flag=True, help="Go on from the run folder's checkpoint.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
def train(
    network: str,
    data: tuple[str, ...],
    out: Path,
    preset: str,
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    seed: int | None,
    precision: str | None,
    changes: tuple[str, ...],
    split: str,
    resume: bool,
    device: str,
) -> None:
    r"""Train NETWORK and leave a run folder: configuration, metrics, curves, confusion matrix, checkpoints.

    \b
    Example:
      stream-ser train septr --data crema-d=/data/crema-d --out runs/first
    """
    import torch

    from stream_ser.errors import OutputError, TrainError
    from stream_ser.train import corpora, presets, report, splits
    from stream_ser.train.checkpoint import CHECKPOINT
    from stream_ser.train.loop import Trainer

    named = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed, "precision": precision}
    shortcuts = [f"train.{name}={value}" for name, value in named.items() if value is not None]
    config = presets.apply(presets.preset(network, preset), [*changes, *shortcuts])
    loaded = [corpora.load(name, path) for name, path in corpora.parse_data_option(data)]
    parts = splits.fixed(loaded) if split == "fixed" else splits.by_speaker(loaded, config.train.seed)
    if (out / CHECKPOINT).exists() and not resume:
        raise TrainError(f"{out}: holds a run already; go on with --resume or choose another --out")
    if resume and not (out / CHECKPOINT).exists():
        raise TrainError(f"{out}: holds no {CHECKPOINT} to resume; leave --resume away to start a run")
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainError("--device cuda: torch sees no CUDA device; use --device cpu")
    where = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
    trainer = Trainer(config, parts, loaded, out, where)
    for corpus in loaded:
        click.echo(corpus.describe(), err=True)
        for stem, reason in corpus.dropped:
            click.echo(f"  dropped {stem}: {reason}", err=True)
    click.echo(
        f"split: {parts.name}; {len(parts.train)} training, {len(parts.validation)} validation clips",
        err=True,
    )
    try:
        _fit(trainer, resume)
    except KeyboardInterrupt:
        click.echo(f"{out}: stopped after epoch {len(trainer.history)}; go on with --resume", err=True)
        raise
    report.write_report(trainer.history, trainer.labels, out)
    last = trainer.history[-1].scores
    click.echo(
        f"{out}: {trainer.parameters():,} parameters, {len(trainer.history)} epochs, validation UAR {last.uar:.4f} "
        f"WA {last.wa:.4f} F1 {last.f1:.4f} ({parts.name}, seed {config.train.seed})"
    )
    click.echo(f"next: stream-ser export --model {network} --checkpoint {out / CHECKPOINT}", err=True)


def _fit(trainer: Trainer, resume: bool) -> None:
    """Decode and train under a progress display; without a terminal, a line an epoch."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from stream_ser.train.loop import Epoch

    console: Console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        clips = len(trainer.split.train) + len(trainer.split.validation)
        decoding = progress.add_task("decoding", total=clips, note="")
        trainer.prepare(lambda: progress.advance(decoding))
        progress.remove_task(decoding)
        if resume and trainer.resume():
            console.print(f"resumed after epoch {len(trainer.history)}", highlight=False)
        epochs = progress.add_task("epochs", total=trainer.config.train.epochs, completed=len(trainer.history), note="")
        steps = progress.add_task("steps", total=trainer.data.batches, note="")

        def on_step(step: int, _total: int, loss: float) -> None:
            progress.update(steps, completed=step, note=f"loss {loss:.3f}")

        def on_epoch(epoch: Epoch) -> None:
            best = max(e.scores.uar for e in trainer.history)
            progress.update(epochs, advance=1, note=f"validation UAR {epoch.scores.uar:.4f}, best {best:.4f}")
            console.print(
                f"epoch {epoch.epoch:3d}  loss {epoch.train_loss:.4f}  validation loss {epoch.validation_loss:.4f}  "
                f"UAR {epoch.scores.uar:.4f}  WA {epoch.scores.wa:.4f}  lr {epoch.lr:.1e}  {epoch.seconds:.0f} s",
                highlight=False,
                soft_wrap=True,
            )

        trainer.fit(on_step, on_epoch)
