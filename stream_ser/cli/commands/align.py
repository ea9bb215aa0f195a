"""``stream-ser align``: when each word of a known text is said."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from stream_ser.cli.options.recognition import provider_option

if TYPE_CHECKING:
    from stream_ser.events import Word
    from stream_ser.runtime.engine import Provider

#: format: the suffix that names it.
FORMATS = {"table": ".txt", "jsonl": ".jsonl", "csv": ".csv", "srt": ".srt", "vtt": ".vtt"}
#: A longer pause between two words begins a new subtitle.
PAUSE_S = 0.7
_LONGEST_TEXT = 1024**2


@click.command()
@click.argument("audio", type=click.Path(path_type=Path, dir_okay=False), metavar="AUDIO")
@click.argument("text", required=False)
@click.option("--text-file", type=click.File(encoding="utf-8"), metavar="FILE", help="The text; - is standard input.")
@click.option("--model", "-m", metavar="NAME|FILE", help="A model that transcribes.  [default: multitask]")
@provider_option
@click.option(
    "--format", "format_", type=click.Choice([*FORMATS]), help="Of the words.  [default: by --output, else table]"
)
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write there.")
def align(
    audio: Path,
    text: str | None,
    text_file: TextIO | None,
    model: str | None,
    provider: Provider,
    format_: str | None,
    output: Path | None,
) -> None:
    """Find when each word of TEXT is said in AUDIO, which must be a recording of all of it.

    A word's time is that of its characters in the network's output, which names each where it is sure of it: words
    seem shorter than they are. The confidence is the network's probability of a word's characters; one that was not
    said has a low one.

    \b
    Examples:
      stream-ser align clip.wav "kids are talking by the door"
      stream-ser align talk.flac --text-file talk.txt -o talk.vtt
    """  # noqa: D301 - click wants the character itself
    from stream_ser.cli.run.files import Claims, results_to
    from stream_ser.errors import AudioError
    from stream_ser.runtime.engine import load
    from stream_ser.transcription.forced_alignment import DEFAULT_MODEL, align_samples, at_rate
    from stream_ser.transcription.line_decoder import vocabulary_of

    text = _text(text, text_file)
    format_ = format_ or _by_suffix(output)
    claims = Claims([audio, *(Path(name) for name in (text_file and text_file.name, model) if name)])
    engine = load(model or DEFAULT_MODEL, provider)
    vocabulary_of(engine.card)
    rate = engine.card.features.sample_rate
    samples = at_rate(audio, rate, rate)
    try:
        words = align_samples(engine, samples, text)
    except AudioError as error:
        raise AudioError(f"{audio}: {error}") from None
    with results_to(output, claims) as out:
        write(out, format_, str(audio), words, engine.card.name, rate)


def _text(text: str | None, file: TextIO | None) -> str:
    if (text is None) == (file is None):
        raise click.UsageError("give the text as an argument, or with --text-file")
    if file is None:
        assert text is not None
        return text
    try:
        return file.read(_LONGEST_TEXT)
    except UnicodeDecodeError as error:
        raise click.UsageError(f"--text-file {file.name}: is no UTF-8 text ({error.reason})") from None


def _by_suffix(output: Path | None) -> str:
    if output is None:
        return "table"
    for format_, suffix in FORMATS.items():
        if output.suffix.lower() == suffix:
            return format_
    raise click.UsageError(f"--output {output}: no suffix names its format; expected {' '.join(FORMATS.values())}")


def write(out: TextIO, format_: str, name: str, words: Sequence[Word], model: str, rate: int) -> None:
    """Write aligned words.

    Args:
        out: text stream; stays open.
        format_: one of :data:`FORMATS`.
        name: of the audio.
        words: in order.
        model: name of the model.
        rate: Hz, at which the words' samples count.
    """
    if format_ == "jsonl":
        import json

        for word in words:
            times = {"start": word.start, "end": word.end, "start_s": word.start / rate, "end_s": word.end / rate}
            line = {"file": name, "text": word.text, **times, "confidence": round(word.confidence, 4)}
            out.write(json.dumps(line) + "\n")
    elif format_ == "csv":
        import csv

        from stream_ser.sinks.csv_ import cell

        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(("file", "start_s", "end_s", "text", "confidence"))
        for word in words:
            times_s = (f"{word.start / rate:.4f}", f"{word.end / rate:.4f}")
            rows.writerow((cell(name), *times_s, cell(word.text), f"{word.confidence:.4f}"))
    elif format_ in ("srt", "vtt"):
        _subtitles(out, format_, name, words, model, rate)
    else:
        width = max(len(word.text) for word in words)
        for word in words:
            span = f"{word.start / rate:9.2f} – {word.end / rate:9.2f} s"
            out.write(f"{span}  {word.text:<{width}}  {word.confidence:4.0%}\n")


def _subtitles(out: TextIO, format_: str, name: str, words: Sequence[Word], model: str, rate: int) -> None:
    from stream_ser.events import StreamInfo, Summary, Transcript
    from stream_ser.sinks.subtitles import Srt, Vtt

    sink = (Srt if format_ == "srt" else Vtt)(out)
    sink.open(StreamInfo(name, model, (), rate, transcribes=True))
    breaks = [place for place, (a, b) in enumerate(itertools.pairwise(words), 1) if b.start - a.end > PAUSE_S * rate]
    for first, last in itertools.pairwise([0, *breaks, len(words)]):
        sink.write(Transcript(tuple(words[first:last]), "", final=True))
    sink.close(Summary(words[-1].end, 0, "", (), {}))
