"""What a memory of the voice is worth, by the mix of emotions and by what was heard before.

``python -m stream_ser.train.experiments.sessions --data CORPUS=PATH... [--leave-out CORPUS] --cache DIR --out FILE``

It is measured on frozen Whisper features or, with ``--run``, on the features that a pupil of a teacher's file gives:
then also added to the pupil's own logits, of which it changes as much as it changes those of the head on the features.

A linear head with a memory (:mod:`stream_ser.models.session`) is fitted on the training speakers and measured on the
validation speakers of each corpus, or on all speakers of a corpus that was left out, among the classes that it has.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from stream_ser.errors import DataError
from stream_ser.train import selection, session
from stream_ser.train.corpora import EMOTIONS

from .command import Command, make_parent, print_table, write_json
from .teacher import LAYERS, pooled, taught_outputs, unheard_posteriors


@click.command(cls=Command)
@click.option("--data", multiple=True, required=True, metavar="CORPUS=PATH", help="Labelled corpus; repeatable.")
@click.option("--leave-out", "left_out", multiple=True, metavar="CORPUS", help="Measure on it alone. Repeatable.")
@click.option("--run", type=click.Path(path_type=Path), help="Run folder of train --taught, instead of Whisper.")
@click.option("--layer", type=click.IntRange(1, LAYERS), default=2, show_default=True, help="Of Whisper's encoder.")
@click.option(
    "--same", type=float, default=session.SAME_WEIGHT, show_default=True, help="Weight of one-emotion sessions."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--draws", type=click.IntRange(min=1), default=3, show_default=True, help="Of sessions, averaged.")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="Folder for Whisper's outputs.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file for the results.")
def main(
    data: tuple[str, ...],
    left_out: tuple[str, ...],
    run: Path | None,
    layer: int,
    same: float,
    seed: int,
    draws: int,
    cache: Path | None,
    out: Path | None,
) -> None:
    """Print UAR by mix and number of utterances heard before; 0 is without a memory."""
    if out is not None:
        make_parent(out)
    corpora = selection.load_corpora(data, "common")
    if unknown := sorted(set(left_out) - {corpus.name for corpus in corpora}):
        raise DataError(f"--leave-out {unknown[0]}: not among the corpora")
    own: np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None = None
    if run is None:
        features = np.concatenate([pooled(corpus, cache)[:, layer - 1] for corpus in corpora])
    else:
        said = [taught_outputs(run, corpus.clips) for corpus in corpora]
        own, features = (np.concatenate(part) for part in zip(*said, strict=True))
    clips = [clip for corpus in corpora for clip in corpus.clips]
    names = np.asarray([corpus.name for corpus in corpora for _ in corpus.clips])
    speakers = [clip.speaker for clip in clips]
    train = np.asarray([clip.part == "train" for clip in clips]) & ~np.isin(names, left_out)
    features = (features - features[train].mean(axis=0)) / (features[train].std(axis=0) + 1e-6)
    truth = np.asarray([EMOTIONS.index(clip.label) for clip in clips], np.int64)
    numbers = np.unique(speakers, return_inverse=True)[1].astype(np.int64)
    whole = session.Utterances(features.astype(np.float32), truth, numbers, len(EMOTIONS), EMOTIONS.index("neutral"))
    known = whole.select(train)
    heard = [speaker for speaker, chosen in zip(speakers, train, strict=True) if chosen]
    posteriors = unheard_posteriors(known.embeddings, known.truth, heard, len(EMOTIONS))
    head = session.fit(known, posteriors, same=same, seed=seed)
    results = {}
    for corpus in corpora:
        chosen = names == corpus.name
        if corpus.name not in left_out:
            chosen &= np.asarray([clip.part == "validation" for clip in clips])
        if chosen.any():
            results[corpus.name] = session.measure(head, whole.select(chosen), draws=draws)
            if own is not None:
                added = session.measure(head, whole.select(chosen), own[chosen], draws=draws)
                results[f"{corpus.name}, with the network's own logits"] = added
    for name, table in results.items():
        who = "left out of training" if name.partition(",")[0] in left_out else "validation speakers"
        title = f"{name}, {who}, UAR after ... heard"
        rows = [[mix, *(f"{value:.3f}" for value in row.values())] for mix, row in table.items()]
        print_table(title, ["mix", *map(str, session.SHOWN)], rows)
    if out is not None:
        write_json(
            out,
            {
                "run": str(run or ""),
                "layer": layer,
                "same": same,
                "seed": seed,
                "left_out": list(left_out),
                "uar": results,
            },
        )


if __name__ == "__main__":
    main()
