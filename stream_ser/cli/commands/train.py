"""``stream-ser train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from stream_ser.cli.options.corpora import corpora_options, split_options
from stream_ser.models.registry import NETWORKS

if TYPE_CHECKING:
    from stream_ser.train.data.corpora import Modality
    from stream_ser.train.data.labels import LabelSet, SplitKind


class TrainCommand(click.Command):
    """``stream-ser train NETWORK``; ``separator``, ``multitask`` and ``transcriber`` have options of their own."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Hand over to the command of such a network where its name comes first."""
        if args[:1] == ["multitask"]:
            from stream_ser.cli.commands.train_multitask import multitask

            return multitask.make_context(f"{info_name} multitask", args[1:], parent, **extra)
        if args[:1] == ["transcriber"]:
            from stream_ser.cli.commands.train_transcriber import transcriber

            return transcriber.make_context(f"{info_name} transcriber", args[1:], parent, **extra)
        if args[:1] == ["separator"]:
            from stream_ser.cli.commands.train_separator import separator

            return separator.make_context(f"{info_name} separator", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(cls=TrainCommand)
@click.argument("network", type=click.Choice(list(NETWORKS)))
@corpora_options
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder, such as runs/first.")
@click.option("--preset", default="default", show_default=True, help="Recipe: a name, or a JSON file.")
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="Start from the weights of this run folder, checkpoint, ONNX file or bundled model, whose network, features "
    "and window are kept. Where the labels differ, the last layer is new. See train.body_lr.",
)
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="Learn from this model too (distillation); several are averaged. See train.distill.",
)
@click.option(
    "--taught",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Learn from a teacher's file: posteriors and features of every clip. See train.taught, train.features.",
)
@click.option(
    "--ordinary",
    multiple=True,
    metavar="CORPUS=PATH",
    help="Plain speech without labels, such as librispeech=PATH: four fifths of its speakers are trained on as mostly "
    "neutral. Repeatable. See train.ordinary.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training part, at most.")
@click.option("--batch-size", type=click.IntRange(min=2), help="Windows a step, over all processes.")
@click.option("--lr", type=float, help="Peak learning rate.")
@click.option("--seed", type=click.IntRange(min=0), help="Fixes every draw; the same seed gives the same numbers.")
@click.option("--seeds", metavar="N,N,...", help="One run for each seed, on one split; their mean and deviation.")
@click.option("--precision", type=click.Choice(["bf16", "fp16", "fp32"]), help="Autocast (fp16: CUDA only), or none.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="SECTION.FIELD=VALUE",
    help="Change anything else in the recipe, such as train.balance=weights, train.votes=0.5, train.patience=10.",
)
@split_options
@click.option(
    "--split-seed", type=click.IntRange(min=0), help="Of a drawn split, where it is not to be that of --seed."
)
@click.option(
    "--leave-out",
    "left_out",
    multiple=True,
    metavar="CORPUS",
    help="Do not train on this one of the corpora; all of it is the test part. Repeatable.",
)
@click.option("--resume", is_flag=True, help="Go on from the run folder's checkpoint; of a series, with what is left.")
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard events into the run folder, too.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
def train(
    network: str,
    data: tuple[str, ...],
    labels: LabelSet,
    mapping: tuple[str, ...],
    votes: Modality,
    out: Path,
    preset: str,
    init: Path | None,
    teachers: tuple[Path, ...],
    taught: Path | None,
    ordinary: tuple[str, ...],
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    seed: int | None,
    seeds: str | None,
    precision: str | None,
    changes: tuple[str, ...],
    split: SplitKind,
    fold: int | Literal["all"] | None,
    folds: int | None,
    split_seed: int | None,
    left_out: tuple[str, ...],
    resume: bool,
    tensorboard: bool,
    device: str,
) -> None:
    """Train NETWORK and leave a run folder: configuration, metrics, predictions, plots, checkpoints.

    \b
    Examples:
      stream-ser train septr --data crema-d=/data/crema-d --out runs/first
      stream-ser train septr --data esc-50=/data/esc-50 --split folds --fold all --out runs/esc-50
      stream-ser train septr --data crema-d=/data/crema-d --data nemo=/data/nemo --leave-out nemo --out runs/new
      stream-ser train septr --data folder=voices --split random --init runs/first --out runs/mine
      torchrun --nproc-per-node 2 -m stream_ser train septr --data crema-d=/data/crema-d --out runs/two

    Networks that separate mixtures, the one that also spells, and the one that writes down what is said have options of
    their own: see 'stream-ser train separator --help', and the same of multitask and transcriber.
    """  # noqa: D301 - click wants the backspace itself
    from dataclasses import replace

    import torch

    from stream_ser.cli.run.training import Job, train_one, train_series
    from stream_ser.errors import TrainError
    from stream_ser.train import distributed, presets
    from stream_ser.train.data import labels as selection
    from stream_ser.train.data import splits
    from stream_ser.train.data.teacher_scores import Taught
    from stream_ser.train.evaluation import series
    from stream_ser.train.transfer import finetune

    start = finetune.read_run(init) if init else None
    named = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed, "precision": precision}
    shortcuts = [f"train.{name}={value}" for name, value in named.items() if value is not None]
    config = presets.preset(network, preset)
    config = presets.apply(finetune.adapt(config, start) if start else config, [*changes, *shortcuts])
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainError("--device cuda: torch sees no CUDA device; use --device cpu")
    if seed is not None and seeds:
        raise TrainError("--seed and --seeds: give one of them; --split-seed fixes the split of a series")
    seed_list = series.parse_seeds(seeds) if seeds else (config.train.seed,)
    corpora = selection.load_corpora(data, labels, mapping, votes)
    config = replace(config, model=replace(config.model, num_classes=len(corpora[0].labels)))
    plain = tuple(selection.load_plain(ordinary)) if ordinary else ()
    file = Taught.read(taught) if taught else None
    drawn = config.train.seed if split_seed is None else split_seed
    held_out: list[int | None] = [1 if fold == "all" else fold]
    if fold == "all" and split in selection.FOLDED:
        kept = [corpus for corpus in corpora if corpus.name not in left_out]
        held_out = [*range(1, splits.fold_count(kept, folds) + 1)]
    runs = series.members(held_out, seed_list)
    parts = [selection.make_split(corpora, split, drawn, run.fold, folds, left_out) for run in runs]
    cuda = device != "cpu" and torch.cuda.is_available()
    with distributed.join_world(cuda) as world:
        where = torch.device("cuda", world.local_rank) if cuda else torch.device("cpu")
        job = Job(config, corpora, world, where, start, teachers, resume, tensorboard, file, plain)
        if len(runs) == 1:
            train_one(job, out, parts[0])
        else:
            train_series(job, out, runs, parts)
