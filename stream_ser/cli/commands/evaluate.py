"""``stream-ser evaluate``."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal

import click

from stream_ser.cli.commands.evaluate_streams import stream_options
from stream_ser.cli.commands.evaluate_tables import WIDTH, Measured, as_json_content, print_tables, shown
from stream_ser.cli.options.corpora import split_options
from stream_ser.cli.options.recognition import provider_option, vad_option
from stream_ser.cli.run.recognizers import vad_config
from stream_ser.text import printable

if TYPE_CHECKING:
    from stream_ser.runtime.engine import Provider
    from stream_ser.train.data.labels import SplitKind


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="NAME|FILE...")
@click.option("--data", "data", multiple=True, metavar="CORPUS=PATH", help="Corpus, such as crema-d=PATH; repeatable.")
@click.option(
    "--ordinary",
    multiple=True,
    metavar="CORPUS=PATH",
    help="Plain speech without labels, such as librispeech=PATH: how often an emotion is claimed of speakers whom the "
    "model was not trained on. Repeatable; instead of --data.",
)
@click.option(
    "--part",
    type=click.Choice(["validation", "train", "test", "all"]),
    default="validation",
    show_default=True,
    help="Part of the split, or all clips.",
)
@split_options
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of a split that is drawn, and of streams."
)
@click.option(
    "--map", "mapping", multiple=True, metavar="LABEL=LABEL", help="What a corpus' label is, such as calm=neutral."
)
@click.option(
    "--classes",
    type=click.Choice(["all", "present"]),
    default="all",
    show_default=True,
    help="What may be answered: all of the model's classes, or those that occur in a corpus' clips.",
)
@click.option(
    "--speaker", "chosen", multiple=True, metavar="SPEAKER", help="Only this one, such as crema-d/1009; repeatable."
)
@stream_options
@provider_option
@vad_option
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
@click.option("--record", is_flag=True, help="Write the scores into the models' cards.")
def evaluate(
    models: tuple[str, ...],
    data: tuple[str, ...],
    ordinary: tuple[str, ...],
    part: str,
    split: SplitKind,
    fold: int | Literal["all"] | None,
    folds: int | None,
    seed: int,
    mapping: tuple[str, ...],
    classes: Literal["all", "present"],
    chosen: tuple[str, ...],
    stream: bool,
    snr: float | None,
    noise: str | None,
    pause: tuple[float, float] | None,
    provider: Provider,
    vad: bool | None,
    as_json: bool,
    record: bool,
) -> None:
    """Measure models on whole clips, through the pipeline of `stream-ser file`.

    WA is accuracy, UAR the mean recall over the classes, ECE the expected calibration error with 15 bins, also with a
    temperature that was fitted on other speakers. Several models are compared on the same clips with McNemar's test;
    several corpora are scored one by one and together. Whether the speakers were heard in training is read from the
    model's card and said beside the numbers.

    The corpora's labels become the model's; calm, surprise and boredom are left out where the model does not know them,
    unless --map says otherwise.

    With --classes present, a model is told which classes a corpus has: of the probabilities of a whole clip those of
    other classes are set to zero, the rest is divided by its sum, and the largest is the answer. For a corpus without
    some of the classes, such as nemo, which has no disgust.

    With --ordinary, nothing is right or wrong: what is measured is how often a label other than neutral is claimed of
    plain speech, of whole clips, at each hop and on the timeline.

    With --stream, the clips of each speaker become one long stream, in drawn order, with pauses and noise, and what is
    measured is how soon a model is right, how steady, and what it claims in pauses: UAR so long after the onset of
    speech, time until it is right and stays so, label changes, emotion diarization error rate.

    \b
    Example:
      stream-ser evaluate septr mine.onnx --data crema-d=/data/crema-d
      stream-ser evaluate septr --ordinary librispeech=/data/LibriSpeech --ordinary an4=/data/an4
      stream-ser evaluate septr --stream --snr 20 --data crema-d=/data/crema-d
    """  # noqa: D301 - click wants the character itself
    import json
    import sys

    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    from stream_ser.cli.commands import evaluate_streams
    from stream_ser.errors import DataError
    from stream_ser.runtime.engine import load
    from stream_ser.sinks.table import console_for
    from stream_ser.train.data import labels
    from stream_ser.train.evaluation import mcnemar
    from stream_ser.train.evaluation.evaluate import classes_of, clips_of, of_speakers
    from stream_ser.train.evaluation.evaluate import evaluate as run

    if fold == "all":
        raise DataError("--fold all: a model has one fold that it was not trained on; give its number")
    if record:
        from stream_ser.export.checkpoints import rewrite_card
    streaming = evaluate_streams.stream_config(stream, snr, noise, pause, seed)
    if streaming is not None and classes == "present":
        raise DataError("--classes present is for whole clips; leave it or --stream away")
    detection = vad_config(vad)
    engines = [load(model, provider) for model in models]
    if ordinary:
        if data or streaming is not None:
            raise DataError("--ordinary is measured by itself; leave --data and --stream away")
        from stream_ser.cli.commands import evaluate_ordinary

        evaluate_ordinary.run(engines, ordinary, detection, as_json, record)
        return
    mcnemar.check_labels(engines)
    corpora = labels.load_corpora(data, engines[0].card.labels, mapping)
    groups, name = clips_of(corpora, part, split, seed, fold, folds)
    if chosen:
        groups, name = of_speakers(groups, chosen), f"some of the {name}"
    if classes == "present":
        name += ", among the classes that a corpus has"
    clips = [clip for group in groups.values() for clip in group]
    if streaming is not None:
        evaluate_streams.run(engines, groups, streaming, name, detection, part, as_json, record)
        return
    measured = []
    waiting = Console(stderr=True)
    with Progress(console=waiting, disable=not waiting.is_terminal, transient=True) as progress:
        for engine in engines:
            task = progress.add_task(escape(f"{shown(engine)}: {len(clips)} clips"), total=len(clips))
            result = run(engine, clips, functools.partial(progress.advance, task), vad=detection)
            if classes == "present":
                result = result.among(classes_of(groups, engine.card.labels))
            sizes = {k: len(v) for k, v in groups.items()}
            suffix = ", present classes" if classes == "present" else ""
            measured.append(Measured(engine, result, sizes, name, detection is not None, suffix))
    pairs = mcnemar.pairwise([each.result.right for each in measured])
    if as_json:
        click.echo(json.dumps(as_json_content(measured, pairs), indent=1))
    else:
        print_tables(console_for(sys.stdout, WIDTH), measured, pairs)
    if record:
        for each in measured:
            rewrite_card(each.engine.path, each.recorded(part))
            click.echo(f"{printable(str(each.engine.path))}: card updated", err=True)
