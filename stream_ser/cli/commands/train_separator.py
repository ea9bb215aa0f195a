"""``stream-ser train separator``: what ``stream-ser train`` hands on for networks that separate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_ser.cli.run.progress import Bars, check_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_ser.train.tasks.separation.config import SeparationConfig
    from stream_ser.train.tasks.separation.report import Scores
    from stream_ser.train.tasks.separation.task import Material, SeparatorTrainer

#: Names before the ``=`` of --data that mean a set on disk.
SETS = ("sines", "mixtures")
CONFIG = "separator.json"


@click.command()
@click.option(
    "--data",
    multiple=True,
    required=True,
    metavar="sines=PATH|mixtures=PATH|CORPUS=PATH",
    help="A set on disk, of 'stream-ser data'; or corpora with speakers, mixed anew for each step.",
)
@click.option("--noise", metavar="generated|PATH|CORPUS=PATH", help="Of corpora: add this, such as esc-50=PATH.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder, such as runs/sines.")
@click.option(
    "--preset", help="sines (default of sets), voices (default of corpora), mask, learned (basis), enhance (one voice)."
)
@click.option("--epochs", type=click.IntRange(min=1))
@click.option("--batch-size", type=click.IntRange(min=1), help="Mixtures a step.")
@click.option("--lr", type=float, help="Peak learning rate.")
@click.option("--hidden", type=click.IntRange(min=1), help="Size of the LSTM.")
@click.option("--loss", type=click.Choice(["l1", "si-snr", "snr"]))
@click.option("--seed", type=click.IntRange(min=0), help="Of initialisation, split, order and draws.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="SECTION.FIELD=VALUE",
    help="Change anything else, such as model.layers=2, train.ema_decay=0.99, mixtures.duration_s=3.",
)
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    metavar="CHECKPOINT",
    help="Start from another run's weights (its separator.pt), with the same network and held-out speakers.",
)
@click.option("--resume", is_flag=True, help="Go on from the run folder's checkpoint.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
def separator(
    data: tuple[str, ...],
    noise: str | None,
    out: Path,
    preset: str | None,
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    hidden: int | None,
    loss: str | None,
    seed: int | None,
    changes: tuple[str, ...],
    init: Path | None,
    resume: bool,
    device: str,
) -> None:
    """Train a network that separates mixtures into their sources, streaming.

    The reference on sinusoids: an LSTM of hidden size 8 between linear layers, L1 loss, Adam at 3e-4, ten epochs.
    Beside its score stands that of a closed-form control, which fits two sinusoids to each mixture alone: the best
    that is possible.

    The run folder gets curves of loss and SI-SNR (PNG, and every batch in separation.json), the separated test sources
    as WAV and their spectrograms beside the true ones.

    \b
    Examples:
      stream-ser train separator --data sines=sines --out runs/sines
      stream-ser train separator --data librispeech=/data/LibriSpeech --out runs/two
      stream-ser train separator --data librispeech=/data/LibriSpeech --preset enhance \\
        --noise esc-50=/data/esc-50 --out runs/clean
      stream-ser train separator --data librispeech=/data/LibriSpeech --out runs/longer --init runs/two/separator.pt
    """  # noqa: D301 - click wants the character itself
    import torch

    from stream_ser.errors import OutputError, TrainError
    from stream_ser.train.presets import apply_sections
    from stream_ser.train.run_folder import write_json
    from stream_ser.train.tasks.separation import config as recipe
    from stream_ser.train.tasks.separation.task import SEPARATOR, SeparatorTrainer

    if device == "cuda" and not torch.cuda.is_available():
        raise TrainError("--device cuda: torch sees no CUDA device; use --device cpu")
    on_disk = _on_disk(data)
    config = recipe.preset(preset or ("sines" if on_disk else "voices"))
    named = {
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.lr": lr,
        "train.seed": seed,
        "train.objective": loss,
        "model.hidden": hidden,
    }
    shortcuts = [f"{name}={value}" for name, value in named.items() if value is not None]
    config = apply_sections(config, [*changes, *shortcuts])
    check_folder(out, SEPARATOR, (out / SEPARATOR).exists(), resume)
    if on_disk is not None:
        if noise is not None:
            raise TrainError("--noise is for corpora; a set on disk has what was mixed into it")
        config, material = _of_set(on_disk, config)
    else:
        config, material = _of_corpora(data, noise, config)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
    where = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    trainer = SeparatorTrainer(config, material, out, where)
    if resume:
        trainer.resume()
        click.echo(f"resumed after epoch {len(trainer.history)}", err=True)
    elif init is not None:
        trainer.start_from(init)
    write_json(out / CONFIG, {**config.as_dict(), "data": dict(material.describe)})
    click.echo(f"data: {material.describe['data']}; {material.describe['split']}", err=True)
    try:
        _fit(trainer)
    except KeyboardInterrupt:
        click.echo(f"{out}: stopped after epoch {len(trainer.history)}; go on with --resume", err=True)
        raise
    _finish(trainer, sines=on_disk is not None and on_disk[0] == "sines")


def _on_disk(data: tuple[str, ...]) -> tuple[str, Path] | None:
    """Name and folder, where --data is a set on disk.

    Raises:
        TrainError: a set beside something else.
    """
    from stream_ser.errors import TrainError

    sets = [value for value in data if value.partition("=")[0] in SETS and value.partition("=")[2]]
    if not sets:
        return None
    if len(data) > 1:
        raise TrainError("--data: a set on disk stands alone; give one set, or corpora")
    name, _, path = sets[0].partition("=")
    return name, Path(path).expanduser()


def _of_set(on_disk: tuple[str, Path], config: SeparationConfig) -> tuple[SeparationConfig, Material]:
    from dataclasses import replace

    from stream_ser.train.tasks.separation import config as recipe
    from stream_ser.train.tasks.separation import mixture_folder
    from stream_ser.train.tasks.separation.task import SetMaterial

    kind, path = on_disk
    whole = mixture_folder.read(path)
    config = recipe.fit_rate(config, whole.sample_rate)
    # Voices have no order, sinusoids do: the lower one comes first.
    permute = kind == "mixtures" and whole.sources.shape[1] > 1
    config = replace(
        config,
        model=replace(config.model, sources=whole.sources.shape[1]),
        train=replace(config.train, permute=permute),
    )
    train = config.train
    return config, SetMaterial(whole, train.test_share, train.batch_size, train.seed)


def _of_corpora(
    data: tuple[str, ...], noise: str | None, config: SeparationConfig
) -> tuple[SeparationConfig, Material]:
    """Voices mixed on the fly, as the recipe says.

    Raises:
        TrainError: a recipe with recorded noise, and no recordings.
    """
    from dataclasses import replace

    from stream_ser.cli.commands.data_sets import read_corpora, read_pools
    from stream_ser.errors import TrainError
    from stream_ser.train.tasks.separation import config as recipe
    from stream_ser.train.tasks.separation.mixture_stream import CorpusMaterial
    from stream_ser.train.tasks.separation.speaker_parts import GENERATED, noise_licence

    mixtures, train = config.mixtures, config.train
    if noise is not None:
        mixtures = replace(mixtures, noise="generated" if noise == GENERATED else "recorded")
    elif mixtures.noise == "recorded":
        raise TrainError("mixtures.noise recorded: name the recordings, such as --noise esc-50=PATH")
    config = recipe.fit_rate(replace(config, mixtures=mixtures), mixtures.sample_rate)
    config = replace(config, model=replace(config.model, sources=mixtures.speakers))
    corpora = read_corpora(data)
    pools = read_pools(corpora, noise, mixtures.sample_rate, train.seed, ("train", "validation", "test"))
    names = " + ".join(value.partition("=")[0] for value in data) + (f", noise {_shown(noise)}" if noise else "")
    licences = {corpus.name: corpus.licence for corpus in corpora} | noise_licence(noise)
    material = CorpusMaterial(
        pools, mixtures, train.batch_size, train.steps, train.test_mixtures, train.seed, names, licences, train.workers
    )
    return config, material


def _shown(noise: str) -> str:
    """Where noise came from, without the folder that it lay in."""
    name, _, path = noise.partition("=")
    return name if path else Path(noise).name


def _fit(trainer: SeparatorTrainer) -> None:
    """Train under a progress display; without a terminal, a line an epoch."""
    from rich.console import Console

    from stream_ser.train.tasks.separation.task import Epoch

    console = Console(stderr=True)
    with Bars(console, console.is_terminal) as bars:
        bars.begin(trainer.config.train.epochs, len(trainer.history), trainer.material.steps)

        def on_epoch(epoch: Epoch) -> None:
            mean = sum(epoch.losses) / len(epoch.losses)
            bars.epoch(
                f"epoch {epoch.epoch:3d}  loss {mean:.4f}  held-out loss {epoch.held_out_loss:.4f}  "
                f"SI-SNR {epoch.held_out_si_snr_db:.2f} dB  SI-SNRi {epoch.held_out_si_snr_improvement_db:.2f} dB  "
                f"lr {epoch.lr:.1e}  {epoch.seconds:.0f} s"
            )

        trainer.fit(bars.step, on_epoch)


def _finish(trainer: SeparatorTrainer, sines: bool) -> None:
    """Write the report; print the scores."""
    import torch

    from stream_ser.train.tasks.separation import report
    from stream_ser.train.tasks.separation.metrics import si_snr

    test, rate = trainer.material.test, trainer.config.model.sample_rate
    target = torch.from_numpy(test.sources)
    estimate = trainer.estimate(test)
    scores = {
        "mixture": report.Scores.of(report.unprocessed(test), target),
        "separator": report.Scores.of(estimate, target),
    }
    if sines:
        scores["closed form"] = report.Scores.of(report.closed_form(test, rate), target)
    parameters = sum(p.numel() for p in trainer.network.parameters())
    report.write_metrics(trainer.out, trainer.history, scores, trainer.material.describe, parameters)
    report.plot_curves(trainer.history, trainer.out / report.CURVES, trainer.config.train.objective)
    report.write_separated(trainer.out, test, estimate, rate)
    click.echo(
        f"{trainer.out}: {parameters:,} parameters, {len(trainer.history)} epochs, {len(test.names)} test mixtures"
    )
    _print(scores)
    if sines:
        short = scores["closed form"].si_snr_db - scores["separator"].si_snr_db
        worst = int(si_snr(estimate, target).mean(-1).argmin())
        click.echo(
            f"The separator stays {short:.1f} dB below the closed form, which fits two sinusoids to the mixture alone; "
            f"hardest: {test.names[worst]}."
        )


def _print(scores: Mapping[str, Scores]) -> None:
    """A row a method."""
    click.echo(f"{'':12} {'SI-SNR':>8} {'SI-SNRi':>8} {'SI-SDR':>8} {'SDR':>8} {'worst':>8}  dB")
    before = scores["mixture"].si_snr_db
    for name, s in scores.items():
        values = (s.si_snr_db, s.si_snr_db - before, s.si_sdr_db, s.sdr_db, s.worst_si_snr_db)
        click.echo(f"{name:12} " + " ".join(f"{value:8.2f}" for value in values))
