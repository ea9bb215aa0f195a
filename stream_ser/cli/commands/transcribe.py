"""``stream-ser transcribe``: what is said in recordings, as text."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from stream_ser.cli.options.inputs import Input, channel_option, expand, raw_option, streams
from stream_ser.cli.run.errors import os_error_message
from stream_ser.cli.run.files import Claims, results_to
from stream_ser.errors import AudioError
from stream_ser.text import printable

if TYPE_CHECKING:
    from stream_ser.audio.wav import RawFormat
    from stream_ser.config import VadConfig
    from stream_ser.transcription.clip_splitter import Detector, Piece
    from stream_ser.transcription.clip_transcriber import Text, Transcriber


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--model",
    "-m",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="An .onnx file of 'stream-ser export --model transcriber'.",
)
@click.option(
    "--vad/--no-vad",
    default=None,
    help="Cut at pauses and write nothing where nobody speaks (voice activity detection); else cut at quiet moments. "
    "Default: on.",
)
@raw_option
@channel_option
@click.option("--json", "as_json", is_flag=True, help="A line of JSON a file, with its pieces and their times.")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write there.")
@click.pass_context
def transcribe(
    ctx: click.Context,
    paths: tuple[str, ...],
    model: Path,
    vad: bool | None,
    raw: RawFormat | None,
    channel: int | Literal["each"] | None,
    as_json: bool,
    output: Path | None,
) -> None:
    """Write down what is said in audio files, folders (with their subfolders), patterns or standard input (-).

    A line of text a file; of several files its name comes first, then a tab. A recording that is longer than the
    clips that the network was trained on is cut at pauses. Where nobody speaks the line is empty. Exit code 1: some of
    the files could not be read.

    \b
    Examples:
      stream-ser transcribe clip.wav --model transcriber.onnx
      stream-ser transcribe calls -m transcriber.onnx --json -o calls.jsonl
      arecord -f S16_LE -r 16000 -d 5 | stream-ser transcribe - -m transcriber.onnx
    """  # noqa: D301 - click wants the character itself
    from stream_ser.cli.run.recognizers import vad_config
    from stream_ser.transcription.clip_transcriber import Transcriber

    troubles = 0

    def trouble(message: str) -> None:
        nonlocal troubles
        troubles += 1
        click.echo(f"stream-ser: {printable(' '.join(message.splitlines()))}", err=True)

    unreadable: list[OSError] = []
    names = expand(paths, unreadable.append)
    alone = len(paths) == 1 and names == list(paths)
    transcriber, heard = Transcriber(model), vad_config(vad)
    _detector(transcriber, heard)  # before any file: it may not be there
    for failed in unreadable:
        trouble(f"error: {os_error_message(failed)}")
    with contextlib.ExitStack() as stack:
        inputs = streams(names, channel, raw, stack)
        claims = Claims([model, *(Path(one.path) for one in inputs)])
        out = stack.enter_context(results_to(output, claims))
        for one in inputs:
            try:
                found, seconds, warning = _transcribed(one, transcriber, heard, raw)
            except AudioError as error:
                if alone and len(inputs) == 1:
                    raise
                trouble(f"error: {error}")
                continue
            if warning:
                trouble(f"warning: {one.name}: {warning}")
            if as_json:
                out.write(json.dumps(_as_dict(one.name, found, seconds, transcriber.card.features.sample_rate)) + "\n")
            else:
                before = f"{printable(one.name)}\t" if len(inputs) > 1 else ""
                out.write(before + _joined(found) + "\n")
            out.flush()
    ctx.exit(1 if troubles else 0)


def _detector(transcriber: Transcriber, vad: VadConfig | None) -> Detector:
    """What finds the pauses, at the start of a stream.

    Raises:
        ModelError: voice activity detection is not there, or not for the model's sample rate.
    """
    from stream_ser.transcription.clip_splitter import Loudness
    from stream_ser.vad.detector import VoiceDetector

    rate = transcriber.card.features.sample_rate
    return VoiceDetector(rate, vad) if vad else Loudness(rate)


def _transcribed(
    one: Input, transcriber: Transcriber, vad: VadConfig | None, raw: RawFormat | None
) -> tuple[list[tuple[Piece, Text]], float, str | None]:
    """What is said in each piece of an input, its seconds, and what was wrong with it if it could be used."""
    from stream_ser.sources.file import FileSource
    from stream_ser.transcription.clip_splitter import Pieces

    card = transcriber.card
    rate, taken = card.features.sample_rate, 0
    pieces = Pieces(_detector(transcriber, vad), rate, card.max_samples)
    found = []
    with FileSource(one.path, raw=raw, sample_rate=rate, channel=one.channel) as source:
        for block in source:
            taken += len(block.samples)
            found += [(piece, transcriber.transcribe(piece.samples)) for piece in pieces.push(block.samples)]
        found += [(piece, transcriber.transcribe(piece.samples)) for piece in pieces.flush()]
        return found, taken / rate, source.warning


def _joined(found: list[tuple[Piece, Text]]) -> str:
    return " ".join(text.text for _, text in found if text.text)


def _as_dict(name: str, found: list[tuple[Piece, Text]], seconds: float, rate: int) -> dict[str, object]:
    return {
        "file": name,
        "duration_s": round(seconds, 3),
        "text": _joined(found),
        "pieces": [
            {
                "start_s": round(piece.start / rate, 3),
                "end_s": round(piece.end / rate, 3),
                "text": text.text,
                "confidence": round(text.confidence, 4),
            }
            for piece, text in found
        ],
    }
