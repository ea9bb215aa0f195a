"""Changes of emotion inside an utterance: which are found, and how often one is claimed that is none.

``python -m stream_ser.train.experiments.changes septr --data crema-d=PATH --out R.json``

Clips of one speaker are cut to their speech and joined without a pause (:mod:`stream_ser.train.joins`): two emotions in
one utterance, and three clips of one emotion. The model hears the joined streams once, and each clip alone; the decider
then cuts with one cost after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from stream_ser.decider import Decider
from stream_ser.engine import DEFAULT_MODEL, load
from stream_ser.events import Decision, Prediction
from stream_ser.pipeline import Recognizer
from stream_ser.train.joins import JoinConfig, joined, score_cuts
from stream_ser.train.selection import load_corpora
from stream_ser.train.stream_scores import hear
from stream_ser.train.streams import Placed, Stream, StreamConfig

from .command import Command, make_parent, print_table, progress_bar, write_json
from .decider import REPORT, TUNE, speakers_of

#: Costs that are tried, beside the model's own.
COSTS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)

Kept = tuple[Sequence[Placed], Sequence[Prediction], Sequence[str]]


def hear_joined(recognizer: Recognizer, stream: Stream) -> Kept:
    """What the network says of a joined stream, and of its clips alone."""
    heard = hear(recognizer, stream)
    return heard.placed, heard.predictions, heard.alone


@click.command(cls=Command)
@click.argument("model", default=DEFAULT_MODEL, metavar="[NAME|FILE]")
@click.option("--data", multiple=True, metavar="CORPUS=PATH", help="Corpus, such as crema-d=PATH; repeatable.")
@click.option("--speaker", "chosen", multiple=True, metavar="SPEAKER", help="Of this speaker; repeatable.")
@click.option("--snr", default=30.0, show_default=True, help="Of pink noise under the streams, dB.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Fixes every draw.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Results, as JSON.")
def main(model: str, data: tuple[str, ...], chosen: tuple[str, ...], snr: float, seed: int, out: Path) -> None:
    """Look for changes of emotion in joined utterances, by default of CREMA-D's nine validation speakers."""
    make_parent(out)
    engine = load(model, "cpu")
    groups = {corpus.name: corpus.clips for corpus in load_corpora(data, engine.card.labels)}
    wanted = chosen or tuple(speaker for speaker in (*TUNE, *REPORT) if speaker.startswith("crema-d/"))
    clips = speakers_of(groups, wanted)
    config = JoinConfig(stream=StreamConfig(snr_db=snr, seed=seed))
    recognizer, rate = Recognizer(engine), engine.card.features.sample_rate
    kept: list[Kept] = []
    with progress_bar("joined streams", len(wanted)) as advance:
        for stream in joined(clips, rate, config):
            kept.append(hear_joined(recognizer, stream))
            advance()
    rows: list[dict[str, Any]] = []
    for cost in sorted({*COSTS, engine.card.decider.cut_cost}):
        decider = Decider(engine.card.labels, rate, replace(engine.card.decider, cut_cost=cost))
        scored = []
        for placed, predictions, alone in kept:
            decider.reset()
            events = [event for prediction in predictions for event in decider.push(prediction)] + decider.flush()
            scored.append((placed, [event for event in events if isinstance(event, Decision)], alone))
        rows.append({"cut_cost": cost, **asdict(score_cuts(scored, rate))})
    write_json(out, {"model": engine.path.name, "streams": config.stream.describe(), "results": rows})
    print_table(
        f"{engine.path.name}: {rows[0]['pairs']} changes, {rows[0]['recognised']} with both halves recognised alone",
        ("cost", "found", "and both right", "found of all", "false cuts in 2 min"),
        [
            [
                f"{row['cut_cost']:g}",
                *(f"{row[name]:.2f}" for name in ("found", "both_right", "found_all", "false_cuts_per_2_minutes")),
            ]
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
