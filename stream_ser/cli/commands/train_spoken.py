"""What the trainings of networks that spell have in common: their options, and the way from these to a report."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stream_ser.cli.run.progress import Bars, check_folder

if TYPE_CHECKING:
    import torch

    from stream_ser.train.tasks.multitask.config import SpokenRun
    from stream_ser.train.tasks.multitask.trainer import SpokenTrainer

Run = TypeVar("Run", bound="SpokenRun")


@dataclass(frozen=True)
class Asked:
    """The options, as they were given."""

    data: tuple[str, ...]
    out: Path
    ctc_weight: float | None
    held_out: tuple[str, ...]
    epochs: int | None
    batch_size: int | None
    lr: float | None
    seed: int | None
    changes: tuple[str, ...]
    resume: bool
    device: str


def spoken_options(
    *, out: str, data: str, ctc_weight: str, changes: str
) -> Callable[[Callable[[Asked], None]], Callable[..., None]]:
    """A decorator that gives a command these options, as :class:`Asked`.

    Args:
        out: a run folder, as an example.
        data: help of ``--data``.
        ctc_weight: help of ``--ctc-weight``.
        changes: examples of ``--set``.
    """

    def decorate(function: Callable[[Asked], None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**given: Any) -> None:
            function(Asked(**given))

        options = (
            click.option("--data", multiple=True, required=True, metavar="CORPUS=PATH", help=data),
            click.option("--out", type=click.Path(path_type=Path), required=True, help=f"Run folder, such as {out}."),
            click.option("--ctc-weight", type=float, help=ctc_weight),
            click.option(
                "--held-out",
                multiple=True,
                metavar="SENTENCE",
                help="Learn no transcript of this sentence, and report it apart; may be repeated.",
            ),
            click.option("--epochs", type=click.IntRange(min=1)),
            click.option("--batch-size", type=click.IntRange(min=1), help="Clips a step."),
            click.option("--lr", type=float, help="Peak learning rate."),
            click.option(
                "--seed", type=click.IntRange(min=0), help="Of initialisation, drawn splits, order and draws."
            ),
            click.option(
                "--set",
                "changes",
                multiple=True,
                metavar="SECTION.FIELD=VALUE",
                help=f"Change anything else, such as {changes}.",
            ),
            click.option("--resume", is_flag=True, help="Go on from the run folder's checkpoint."),
            click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
        )
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def configured(asked: Asked, default: Run, checkpoint: str) -> Run:
    """The recipe with what was asked for, once device and folder are seen to be possible.

    Raises:
        TrainError: no such device or setting, or the folder holds a run that is not to be resumed, or none that is.
    """
    from dataclasses import replace

    import torch

    from stream_ser.errors import TrainError
    from stream_ser.train.presets import apply_sections

    if asked.device == "cuda" and not torch.cuda.is_available():
        raise TrainError("--device cuda: torch sees no CUDA device; use --device cpu")
    names = ("epochs", "batch_size", "lr", "seed", "ctc_weight")
    shortcuts = [f"train.{name}={value}" for name in names if (value := getattr(asked, name)) is not None]
    config: Run = apply_sections(default, [*asked.changes, *shortcuts])
    if asked.held_out:
        config = replace(config, train=replace(config.train, held_out=asked.held_out))
    check_folder(asked.out, checkpoint, (asked.out / checkpoint).exists(), asked.resume)
    return config


def carry_out(
    asked: Asked,
    name: str,
    checkpoint: str,
    make: Callable[[torch.device], SpokenTrainer[Any, Any, Any]],
    report: ModuleType,
    note: str = "",
) -> None:
    """Train, measure and say what came of it.

    Args:
        asked: the options.
        name: of the network.
        checkpoint: its file in the run folder.
        make: the trainer, for a device.
        report: the module with the network's ``describe_epoch`` and ``finish``.
        note: behind the number of clips.
    """
    import torch

    from stream_ser.errors import OutputError
    from stream_ser.train.run_folder import write_json

    out = asked.out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
    trainer = make(torch.device("cuda" if asked.device != "cpu" and torch.cuda.is_available() else "cpu"))
    material = trainer.material
    click.echo(
        f"split: {material.split}; {len(material.train)} training, {len(material.validation)} validation, "
        f"{len(material.test)} test clips{note}",
        err=True,
    )
    write_json(out / f"{name}-config.json", trainer.config.as_dict())
    try:
        content = _fit(trainer, asked.resume, report)
    except KeyboardInterrupt:
        click.echo(f"{out}: stopped after epoch {len(trainer.history)}; go on with --resume", err=True)
        raise
    click.echo(f"{out}: {content['parameters']:,} parameters, {len(trainer.history)} epochs")
    _print(content["results"])
    click.echo(f"next: stream-ser export --model {name} --checkpoint {out / checkpoint}", err=True)


def _fit(trainer: SpokenTrainer[Any, Any, Any], resume: bool, report: ModuleType) -> dict[str, Any]:
    """Decode, train and measure under a progress display; without a terminal, a line an epoch."""
    from rich.console import Console

    console = Console(stderr=True)
    with Bars(console, console.is_terminal) as bars:
        bars.prepare(len(trainer.material.train) + len(trainer.material.validation), trainer.prepare)
        if resume:
            trainer.resume()
            console.print(f"resumed after epoch {len(trainer.history)}")
        bars.begin(trainer.config.train.epochs, len(trainer.history), trainer.steps)
        trainer.fit(bars.step, lambda epoch: bars.epoch(report.describe_epoch(epoch)))
        content: dict[str, Any] = report.finish(trainer)
        return content


def _print(results: dict[str, Any]) -> None:
    """Emotion and error rates of the held-out speakers."""
    from stream_ser.train.tasks.multitask.report import rows

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
