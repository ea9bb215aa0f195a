"""Changes of emotion inside an utterance: which are found, and how often one is claimed that is none.

``python -m stream_ser.train.experiments.changes septr --data crema-d=PATH --out R.json``

Clips of one speaker are cut to their speech and joined without a pause (:mod:`stream_ser.train.data.joined_clips`): two
emotions in one utterance, and three clips of one emotion. The runtime hears the joined streams with one threshold after
the other, and each clip alone. So the threshold of the bundled models was chosen, on validation speakers: the one that
training speakers (``--speaker``) suggest cuts more often there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from stream_ser.events import Decision
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime.engine import DEFAULT_MODEL, load
from stream_ser.train.data.joined_clips import JoinConfig, joined, score_cuts
from stream_ser.train.data.labels import load_corpora
from stream_ser.train.data.long_streams import Placed, Stream, StreamConfig
from stream_ser.train.evaluation.stream_metrics import hear

from .command import Command, make_parent, print_table, progress_bar, write_json
from .decider import REPORT, TUNE, speakers_of

#: Distances that are tried, beside the model's own.
DISTANCES = (0.4, 0.45, 0.5, 0.54, 0.58, 0.6, 0.62)

Kept = tuple[Sequence[Placed], Sequence[Decision], Sequence[str]]


def decisions_on(recognizer: Recognizer, stream: Stream) -> list[Decision]:
    """The finished timeline of a stream."""
    recognizer.reset()
    events = recognizer.push(stream.samples) + recognizer.flush()
    return [event for event in events if isinstance(event, Decision)]


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
    rate = engine.card.features.sample_rate
    streams = list(joined(clips, rate, config))
    distances = sorted({*DISTANCES, engine.card.decider.change_distance})
    rows: list[dict[str, Any]] = []
    with progress_bar("joined streams", len(streams) * (1 + len(distances))) as advance:
        alone = []
        for stream in streams:
            alone.append(hear(Recognizer(engine), stream).alone)
            advance()
        for distance in distances:
            recognizer = Recognizer(engine, replace(engine.card.decider, change_distance=distance))
            scored: list[Kept] = []
            for stream, said in zip(streams, alone, strict=True):
                scored.append((stream.placed, decisions_on(recognizer, stream), said))
                advance()
            rows.append({"change_distance": distance, **asdict(score_cuts(scored, rate))})
    write_json(out, {"model": engine.path.name, "streams": config.stream.describe(), "results": rows})
    print_table(
        f"{engine.path.name}: {rows[0]['pairs']} changes, {rows[0]['recognised']} with both halves recognised alone",
        ("distance", "found", "and both right", "found of all", "false cuts in 2 min"),
        [
            [
                f"{row['change_distance']:g}",
                *(f"{row[name]:.2f}" for name in ("found", "both_right", "found_all", "false_cuts_per_2_minutes")),
            ]
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
