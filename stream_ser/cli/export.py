"""``stream-ser export``."""

from __future__ import annotations

from pathlib import Path

import click

from stream_ser.models.registry import NETWORKS

#: As stream_ser.export.separator calls them: several voices, one voice in noise.
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
def export(network: str, checkpoint: Path | None, out: Path | None, weights: str) -> None:
    """Write one self-contained ONNX file with its card, proven against torch on real audio."""
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
    from stream_ser.export.to_onnx import export_checkpoint, newest_checkpoint
    from stream_ser.train.checkpoint import read_checkpoint

    if checkpoint is None:
        checkpoint = newest_checkpoint(network, weights=weights)
        click.echo(f"newest {network} run: {checkpoint}", err=True)
    elif (found := read_checkpoint(checkpoint)["network"]) != network:
        raise TrainError(f"{checkpoint}: holds a {found}, not a {network}")
    out = out or checkpoint.parent / f"{network}.onnx"
    exported = export_checkpoint(checkpoint, out)
    size_mb = exported.path.stat().st_size / 1e6
    click.echo(
        f"{exported.path}: {exported.card.parameters:,} parameters, {size_mb:.1f} MB; largest difference from torch "
        f"{exported.difference:.2e} over {exported.windows} {exported.source}"
    )


def _separator(name: str, checkpoint: Path | None, out: Path | None) -> None:
    """The same for a network that separates sources."""
    from stream_ser.export.separator import export_separator, newest_checkpoint

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
    from stream_ser.export.multitask import export_multitask, newest_checkpoint

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
    from stream_ser.export.transcriber import export_transcriber, newest_checkpoint

    if checkpoint is None:
        checkpoint = newest_checkpoint()
        click.echo(f"newest {TRANSCRIBER}: {checkpoint}", err=True)
    exported = export_transcriber(checkpoint, out or checkpoint.parent / f"{TRANSCRIBER}.onnx")
    click.echo(
        f"{exported.path}: {exported.card.parameters:,} parameters, {exported.path.stat().st_size / 1e6:.1f} MB, RTF "
        f"{exported.rtf:.3f} in one thread; the same {exported.tokens} tokens as torch on {exported.clips} clips, "
        f"largest difference of a log-probability {exported.difference:.2e}"
    )
