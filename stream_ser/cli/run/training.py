"""How ``stream-ser train`` runs: one network or a series of them, with progress on standard error."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream_ser.cli.run.progress import Bars, check_folder

if TYPE_CHECKING:
    import torch

    from stream_ser.train.config import RunConfig
    from stream_ser.train.data.corpora import Corpus
    from stream_ser.train.data.splits import Split
    from stream_ser.train.data.teacher_scores import Taught
    from stream_ser.train.distributed import World
    from stream_ser.train.evaluation.series import Member
    from stream_ser.train.run_folder import Epoch
    from stream_ser.train.trainer import Trainer


@dataclass(frozen=True)
class Job:
    """What all runs of one command have in common.

    Attributes:
        config: the recipe; a member of a series has its own seed.
        corpora: with the same labels.
        world: the processes that train together; only the first one speaks and writes.
        device: of this process.
        start: checkpoint to start from.
        teachers: checkpoints or run folders to learn from.
        taught: a teacher's file, or None.
        ordinary: corpora of plain speech.
        resume: go on from what is there.
        tensorboard: write events.
    """

    config: RunConfig
    corpora: tuple[Corpus, ...]
    world: World
    device: torch.device
    start: dict[str, Any] | None
    teachers: tuple[Path, ...]
    resume: bool
    tensorboard: bool
    taught: Taught | None = None
    ordinary: tuple[Corpus, ...] = ()

    def say(self, text: str) -> None:
        """A line for people."""
        if self.world.first:
            click.echo(text, err=True)

    def introduce(self) -> None:
        """Say what there is to train on."""
        for corpus in (*self.corpora, *self.ordinary):
            self.say(corpus.describe())
            for stem, reason in corpus.dropped:
                self.say(f"  dropped {stem}: {reason}")

    def run(self, out: Path, split: Split, seed: int) -> Trainer:
        """Train one network into ``out``; in the first process, write its report.

        Raises:
            TrainError: ``out`` holds a run, or none to resume.
            OutputError: ``out`` cannot be written.
        """
        from stream_ser.errors import OutputError
        from stream_ser.train.evaluation import report
        from stream_ser.train.trainer import Trainer

        if self.world.first:
            try:
                out.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
        config = replace(self.config, train=replace(self.config.train, seed=seed))
        trainer = Trainer(
            config,
            split,
            self.corpora,
            out,
            self.device,
            world=self.world,
            start=self.start,
            teachers=self.teachers,
            taught=self.taught,
            ordinary=self.ordinary,
        )
        test = f", {len(split.test)} test" if split.test else ""
        self.say(f"split: {split.name}; {len(split.train)} training, {len(split.validation)} validation{test} clips")
        if trainer.ordinary:
            self.say(f"plain speech: {len(trainer.ordinary)} training clips; the other speakers are held out")
        if heard := trainer.heard_before():
            self.say(
                f"warning: {heard} of the speakers held out here were heard in training by the model to start from or "
                "by a teacher: scores are not speaker-independent"
            )
        try:
            self._fit(trainer)
        except KeyboardInterrupt:
            self.say(f"{out}: stopped after epoch {len(trainer.history)}; go on with --resume")
            raise
        if self.world.first:
            report.write_report(trainer.history, trainer.labels, out)
        return trainer

    def _fit(self, trainer: Trainer) -> None:
        """Decode and train under a progress display; without a terminal, a line an epoch."""
        from rich.console import Console

        from stream_ser.train.tensorboard import TensorBoardLog

        console = Console(stderr=True, quiet=not self.world.first)
        with contextlib.ExitStack() as stack:
            bars = stack.enter_context(Bars(console, console.is_terminal and self.world.first))
            split = trainer.split
            bars.prepare(
                len(split.train) + len(trainer.ordinary) + len(split.validation) + len(split.test), trainer.prepare
            )
            if trainer.taken_over is not None:
                self.say(trainer.taken_over.describe())
            if self.resume and trainer.resume():
                self.say(f"resumed after epoch {len(trainer.history)}")
            done = len(trainer.history)
            log = None
            if self.tensorboard and self.world.first:
                log = stack.enter_context(contextlib.closing(TensorBoardLog(trainer.out, done)))
            bars.begin(trainer.config.train.epochs, done, trainer.data.batches)

            def on_epoch(epoch: Epoch) -> None:
                best = max(e.scores.uar for e in trainer.history)
                bars.epoch(describe_epoch(epoch), f"validation UAR {epoch.scores.uar:.4f}, best {best:.4f}")
                if log is not None:
                    log(epoch)

            trainer.fit(lambda step, _total, loss: bars.step(step, loss), on_epoch)
            if len(trainer.history) < trainer.config.train.epochs:
                self.say(f"stopped early: no better UAR for {trainer.config.train.patience} epochs")


def describe_epoch(epoch: Epoch) -> str:
    """One line for people."""
    return (
        f"epoch {epoch.epoch:3d}  loss {epoch.train_loss:.4f}  validation loss {epoch.validation_loss:.4f}  "
        f"UAR {epoch.scores.uar:.4f}  WA {epoch.scores.wa:.4f}  lr {epoch.lr:.1e}  {epoch.seconds:.0f} s"
    )


def train_one(job: Job, out: Path, split: Split) -> None:
    """One run, and its result on standard output."""
    from stream_ser.train.checkpoint import CHECKPOINT

    check_folder(out, CHECKPOINT, job.world.from_first((out / CHECKPOINT).exists), job.resume)
    job.introduce()
    seed = job.config.train.seed
    trainer = job.run(out, split, seed)
    if not job.world.first:
        return
    last = trainer.history[-1].scores
    parts = [("validation", last)] + ([("test", trainer.tested.scores)] if trainer.tested else [])
    if trainer.tested and len(set(trainer.tested.part.truth.tolist())) < len(trainer.labels):
        parts.append(("test, of the classes that it has,", trainer.tested.present_scores))
    said = "; ".join(f"{name} UAR {s.uar:.4f} WA {s.wa:.4f} F1 {s.f1:.4f}" for name, s in parts)
    epochs = len(trainer.history)
    click.echo(f"{out}: {trainer.parameters():,} parameters, {epochs} epochs, {said} ({split.name}, seed {seed})")
    job.say(f"next: stream-ser export --model {job.config.network} --checkpoint {out / CHECKPOINT}")


def train_series(job: Job, out: Path, runs: Sequence[Member], splits: Sequence[Split]) -> None:
    """Every run of a series, skipping those that are finished, and their table on standard output."""
    from stream_ser.errors import TrainError
    from stream_ser.train.checkpoint import CHECKPOINT
    from stream_ser.train.evaluation.series import finished, write_summary

    there = job.world.from_first(lambda: [run.name for run in runs if (out / run.name / CHECKPOINT).exists()])
    if there and not job.resume:
        raise TrainError(f"{out}: holds {there[0]} already; go on with --resume or choose another --out")
    job.introduce()
    for number, (run, split) in enumerate(zip(runs, splits, strict=True), start=1):
        config = replace(job.config, train=replace(job.config.train, seed=run.seed))
        if job.resume and job.world.from_first(functools.partial(finished, out / run.name, config)):
            job.say(f"{run.name}: finished before")
            continue
        job.say(f"{run.name}: run {number} of {len(runs)}")
        job.run(out / run.name, split, run.seed)
    if job.world.first:
        print_summary(write_summary(out, runs), out)


def print_summary(summary: dict[str, Any], out: Path) -> None:
    """A series as a table."""
    from rich.console import Console
    from rich.table import Table

    from stream_ser.train.evaluation.series import SCORES

    console = Console()
    names = [name.upper() for name in SCORES]
    table = Table("run", "clips", *names, title=f"{out}, {summary['part']} part", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in summary["runs"]:
        table.add_row(row["name"], str(row["clips"]), *(f"{row[name]:.4f}" for name in SCORES))
    table.add_section()
    for name, values in (("mean", summary["mean"]), ("± std", summary["std"])):
        table.add_row(name, "", *(f"{values[score]:.4f}" for score in SCORES))
    if summary["folds"] > 1:
        pooled = summary["pooled"]
        table.add_row("pooled", str(pooled["clips"]), *(f"{pooled[name]:.4f}" for name in SCORES))
    console.print(table)
    for split in dict.fromkeys(row["split"] for row in summary["runs"]):
        console.print(split, highlight=False, soft_wrap=True)
