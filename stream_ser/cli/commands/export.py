"""``stream-ser export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_ser.cli.commands.export_quantized import PRECISIONS
from stream_ser.models.registry import NETWORKS

if TYPE_CHECKING:
    from stream_ser.export.quantize import Precision

#: As stream_ser.export.kinds.separator calls them: several voices, one voice in noise.
SEPARATORS = ("separator", "enhancer")
MULTITASK, TRANSCRIBER = "multitask", "transcriber"


@click.command()
@click.option(
    "--model",
    "network",
    type=click.Choice([*NETWORKS, *SEPARATORS, MULTITASK, TRANSCRIBER]),
    required=True,
    help="Network to export.",
)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Checkpoint; default: the newest run under runs/.")
@click.option("--out", type=click.Path(path_type=Path), help="ONNX file; default: beside the checkpoint.")
@click.option(
    "--weights",
    type=click.Choice(["last", "best"]),
    default="last",
    show_default=True,
    help="Last epoch, or the best on the validation part (which then is no longer unseen).",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="Of an emotion network. int8 needs --data; none may lose more than .5 points of UAR there.",
)
@click.option(
    "--memory",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Attach a memory of the voice that was fitted on the checkpoint (streaming-septr).",
)
@click.option("--from", "source", metavar="ONNX", help="Start from a bundled model or an ONNX file, not a checkpoint.")
@click.option(
    "--data",
    multiple=True,
    metavar="CORPUS=PATH",
    help="With --precision: calibrate on the corpus' training clips, measure the loss on its validation clips.",
)
def export(
    network: str,
    checkpoint: Path | None,
    out: Path | None,
    weights: str,
    precision: Precision,
    memory: Path | None,
    source: str | None,
    data: tuple[str, ...],
) -> None:
    """Write one self-contained ONNX file with its card, proven against torch on real audio.

    With --precision, a smaller or faster variant of it, measured against it.

    \b
    Example:
      stream-ser export --model septr --from septr --precision int8 --data crema-d=/data/crema-d
    """  # noqa: D301 - click wants the character itself
    if memory is not None and (network not in NETWORKS or source is not None or precision != "fp32"):
        raise click.UsageError("--memory goes with a checkpoint of streaming-septr; export it first, then --from it")
    if source is not None or precision != "fp32" or data:
        _variant(network, checkpoint, out, weights, precision, source, data)
        return
    if network in SEPARATORS:
        _separator(network, checkpoint, out)
        return
    if network == MULTITASK:
        _multitask(checkpoint, out)
        return
    if network == TRANSCRIBER:
        _transcriber(checkpoint, out)
        return
    from stream_ser.errors import TrainError
    from stream_ser.export.checkpoints import export_checkpoint, newest_checkpoint
    from stream_ser.train.checkpoint import read_checkpoint

    if checkpoint is None:
        checkpoint = newest_checkpoint(network, weights=weights)
        click.echo(f"newest {network} run: {checkpoint}", err=True)
    elif (found := read_checkpoint(checkpoint)["network"]) != network:
        raise TrainError(f"{checkpoint}: holds a {found}, not a {network}")
    out = out or checkpoint.parent / f"{network}.onnx"
    exported = export_checkpoint(checkpoint, out, memory=memory)
    size_mb = exported.path.stat().st_size / 1e6
    with_memory = "" if memory is None else ", with a memory of the voice"
    click.echo(
        f"{exported.path}: {exported.card.parameters:,} parameters, {size_mb:.1f} MB{with_memory}; largest difference "
        f"from torch {exported.difference:.2e} over {exported.windows} {exported.source}"
    )


def _variant(
    network: str,
    checkpoint: Path | None,
    out: Path | None,
    weights: str,
    precision: Precision,
    source: str | None,
    data: tuple[str, ...],
) -> None:
    """A variant of a bundled or exported model, or of a checkpoint that is exported first."""
    import tempfile

    from stream_ser.cli.commands import export_quantized
    from stream_ser.runtime.engine import find_model, load

    if network not in NETWORKS:
        raise click.UsageError(f"--precision, --from and --data are for networks of emotion, not for {network}")
    if source is None:
        from stream_ser.export.checkpoints import export_checkpoint, newest_checkpoint

        checkpoint = checkpoint or newest_checkpoint(network, weights=weights)
        with tempfile.TemporaryDirectory() as folder:
            whole = export_checkpoint(checkpoint, Path(folder) / f"{network}.onnx").path
            export_quantized.run(whole, out or checkpoint.parent / f"{network}-{precision}.onnx", precision, data)
        return
    if checkpoint is not None:
        raise click.UsageError("--from and --checkpoint both say what to start from; give one")
    path = find_model(source)
    if (found := load(source, "cpu").card.name) != network:
        raise click.UsageError(f"--from {source}: holds a {found}, not a {network}")
    export_quantized.run(path, out or Path(f"{network}-{precision}.onnx"), precision, data)


def _separator(name: str, checkpoint: Path | None, out: Path | None) -> None:
    """The same for a network that separates sources."""
    from stream_ser.export.kinds.separator import export_separator, newest_checkpoint

    if checkpoint is None:
        checkpoint = newest_checkpoint(name)
        click.echo(f"newest {name}: {checkpoint}", err=True)
    exported = export_separator(checkpoint, out or checkpoint.parent / f"{name}.onnx")
    card = exported.card
    click.echo(
        f"{exported.path}: {card.parameters:,} parameters, {exported.path.stat().st_size / 1e6:.1f} MB, latency "
        f"{1000 * card.window / card.sample_rate:g} ms, RTF {exported.rtf:.3f} in one thread; largest difference from "
        f"torch {exported.offline:.2e} offline, {exported.streaming:.2e} streamed, over {exported.seconds:.1f} s"
    )


def _multitask(checkpoint: Path | None, out: Path | None) -> None:
    """The same for the network that also spells."""
    from stream_ser.export.kinds.multitask import export_multitask, newest_checkpoint

    if checkpoint is None:
        checkpoint = newest_checkpoint()
        click.echo(f"newest multitask network: {checkpoint}", err=True)
    exported = export_multitask(checkpoint, out or checkpoint.parent / f"{MULTITASK}.onnx")
    card = exported.card
    click.echo(
        f"{exported.path}: {card.parameters:,} parameters, {exported.path.stat().st_size / 1e6:.1f} MB, a hop of "
        f"{1000 * card.window.hop * card.features.hop_length / card.features.sample_rate:g} ms, RTF {exported.rtf:.3f} "
        f"in one thread; largest difference from torch on the whole {exported.torch_streaming:.2e} in torch and "
        f"{exported.onnx_streaming:.2e} in ONNX, hop by hop over {exported.seconds:.1f} s"
    )


def _transcriber(checkpoint: Path | None, out: Path | None) -> None:
    """The same for the network that writes down what is said."""
    from stream_ser.export.kinds.transcriber import export_transcriber, newest_checkpoint

    if checkpoint is None:
        checkpoint = newest_checkpoint()
        click.echo(f"newest {TRANSCRIBER}: {checkpoint}", err=True)
    exported = export_transcriber(checkpoint, out or checkpoint.parent / f"{TRANSCRIBER}.onnx")
    click.echo(
        f"{exported.path}: {exported.card.parameters:,} parameters, {exported.path.stat().st_size / 1e6:.1f} MB, RTF "
        f"{exported.rtf:.3f} in one thread; the same {exported.tokens} tokens as torch on {exported.clips} clips, "
        f"largest difference of a log-probability {exported.difference:.2e}"
    )
