"""What a memory of the voice is worth, by the mix of emotions and by what was heard before.

``python -m stream_ser.train.experiments.sessions --data CORPUS=PATH... [--leave-out CORPUS] --cache DIR --out FILE``

It is measured on frozen Whisper features or, with ``--run``, on what a trained network makes of the clips in the
running program (:mod:`stream_ser.train.evaluation.utterances`): the features that it learnt from a teacher's file, or
else its embeddings. Then also added to the network's own logits, of which it changes as much as it changes those of the
head on the features: that is what the runtime does. ``--head FILE`` writes it for ``stream-ser export --memory FILE``.

A linear head with a memory (:mod:`stream_ser.models.session`) is fitted on the training speakers and measured on the
validation speakers of each corpus, or on all speakers of a corpus that was left out, among the classes that it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from stream_ser.errors import DataError, TrainError
from stream_ser.models.session import SessionHead, VoiceAdapter
from stream_ser.models.streaming_septr import StreamingSepTr
from stream_ser.train.data import labels
from stream_ser.train.data.corpora import EMOTIONS, Corpus
from stream_ser.train.data.teacher_scores import key_of
from stream_ser.train.evaluation import sessions, utterances
from stream_ser.train.transfer import voice_head

from .command import Command, make_parent, print_table, progress_bar, write_json
from .teacher import LAYERS, pooled, unheard_posteriors

Floats = NDArray[np.float32]
#: Least spread of a feature that is divided by it.
_LEAST_STD = 1e-6


@dataclass(frozen=True)
class Pupil:
    """A trained network and what it made of all clips.

    Attributes:
        network: in evaluation mode.
        weight: from its embedding to the features that the head reads, ``(width, dim)``.
        bias: ``(width,)``.
        logits: its own, ``(clips, classes)``.
        features: ``(clips, width)``.
        heard: clips in which the program heard a voice, ``(clips,)``.
    """

    network: StreamingSepTr
    weight: torch.Tensor
    bias: torch.Tensor
    logits: Floats
    features: Floats
    heard: NDArray[np.bool_]


def pupil_of(run: Path, corpora: Sequence[Corpus], cache: Path | None) -> Pupil:
    """Hear all clips with the network of a run.

    Raises:
        TrainError: no such run, or a network of other classes.
    """
    network, state = utterances.network_of(run)
    if tuple(state["labels"]) != EMOTIONS:
        raise TrainError(f"{run}: knows {', '.join(state['labels'])}, expected {', '.join(EMOTIONS)}")
    parts = []
    for corpus in corpora:
        keys = [key_of(clip) for clip in corpus.clips]
        path = None if cache is None else cache / f"{corpus.name}-{voice_head.fingerprint(network)}.npz"
        with progress_bar(corpus.name, len(keys)) as advance:
            parts.append(utterances.cached(network, state, corpus.clips, keys, path, advance))
    embeddings = torch.from_numpy(np.concatenate([part.embeddings for part in parts]))
    weight, bias = torch.eye(network.config.dim), torch.zeros(network.config.dim)
    if learnt := state.get("features_head"):
        weight, bias = learnt["weight"], learnt["bias"]
    with torch.no_grad():
        logits = network.head(embeddings).numpy()
        features = torch.nn.functional.linear(embeddings, weight, bias).numpy()
    return Pupil(network, weight, bias, logits, features, np.concatenate([part.any for part in parts]))


def write_head(path: Path, pupil: Pupil, head: SessionHead, mean: Floats, std: Floats, about: dict[str, Any]) -> None:
    """Write what ``stream-ser export --memory`` attaches to the network.

    Args:
        path: of the file.
        pupil: on which the head was fitted.
        head: the memory.
        mean: of the features over the training clips, ``(width,)``.
        std: likewise.
        about: corpora and results, for the card.
    """
    layer = voice_head.standardizing(pupil.weight, pupil.bias, torch.from_numpy(mean), torch.from_numpy(std))
    adapter = VoiceAdapter(head, layer).eval()
    voice_head.write(voice_head.VoiceHead(adapter, voice_head.fingerprint(pupil.network), about=about), path)


@click.command(cls=Command)
@click.option("--data", multiple=True, required=True, metavar="CORPUS=PATH", help="Labelled corpus; repeatable.")
@click.option("--leave-out", "left_out", multiple=True, metavar="CORPUS", help="Measure on it alone. Repeatable.")
@click.option(
    "--run", type=click.Path(path_type=Path), help="Run folder, checkpoint or model of streaming-septr, not Whisper."
)
@click.option("--layer", type=click.IntRange(1, LAYERS), default=2, show_default=True, help="Of Whisper's encoder.")
@click.option(
    "--same", type=float, default=sessions.SAME_WEIGHT, show_default=True, help="Weight of one-emotion sessions."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--draws", type=click.IntRange(min=1), default=3, show_default=True, help="Of sessions, averaged.")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="Folder for what was computed.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file for the results.")
@click.option("--head", "head_file", type=click.Path(path_type=Path), help="With --run: write the memory there.")
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
    head_file: Path | None,
) -> None:
    """Print UAR by mix and number of utterances heard before; 0 is without a memory."""
    for path in (out, head_file):
        if path is not None:
            make_parent(path)
    if head_file is not None and run is None:
        raise TrainError("--head writes the memory of a network, and there is none: give it with --run")
    corpora = labels.load_corpora(data, "common")
    if unknown := sorted(set(left_out) - {corpus.name for corpus in corpora}):
        raise DataError(f"--leave-out {unknown[0]}: not among the corpora")
    clips = [clip for corpus in corpora for clip in corpus.clips]
    pupil = None if run is None else pupil_of(run, corpora, cache)
    if pupil is None:
        features = np.concatenate([pooled(corpus, cache)[:, layer - 1] for corpus in corpora])
        usable = np.ones(len(clips), np.bool_)
    else:
        features, usable = pupil.features, pupil.heard
    names = np.asarray([corpus.name for corpus in corpora for _ in corpus.clips])
    speakers = [clip.speaker for clip in clips]
    train = usable & np.asarray([clip.part == "train" for clip in clips]) & ~np.isin(names, left_out)
    if not train.any():
        raise DataError("no training clip in which a voice is heard, expected some; give more --data")
    mean, std = features[train].mean(axis=0), features[train].std(axis=0) + _LEAST_STD
    features = ((features - mean) / std).astype(np.float32)
    truth = np.asarray([EMOTIONS.index(clip.label) for clip in clips], np.int64)
    numbers = np.unique(speakers, return_inverse=True)[1].astype(np.int64)
    whole = sessions.Utterances(features, truth, numbers, len(EMOTIONS), EMOTIONS.index("neutral"))
    known = whole.select(train)
    heard = [speaker for speaker, chosen in zip(speakers, train, strict=True) if chosen]
    posteriors = unheard_posteriors(known.embeddings, known.truth, heard, len(EMOTIONS))
    head = sessions.fit(known, posteriors, same=same, seed=seed)
    results = {}
    for corpus in corpora:
        chosen = usable & (names == corpus.name)
        if corpus.name not in left_out:
            chosen &= np.asarray([clip.part == "validation" for clip in clips])
        if chosen.any():
            results[corpus.name] = sessions.measure(head, whole.select(chosen), draws=draws)
            if pupil is not None:
                added = sessions.measure(head, whole.select(chosen), pupil.logits[chosen], draws=draws)
                results[f"{corpus.name}, with the network's own logits"] = added
    for name, table in results.items():
        who = "left out of training" if name.partition(",")[0] in left_out else "validation speakers"
        title = f"{name}, {who}, UAR after ... heard"
        rows = [[mix, *(f"{value:.3f}" for value in row.values())] for mix, row in table.items()]
        print_table(title, ["mix", *map(str, sessions.SHOWN)], rows)
    about = {"same": same, "seed": seed, "left_out": list(left_out), "uar": results}
    if out is not None:
        write_json(out, {"run": str(run or ""), "layer": layer, "clips without a voice": int((~usable).sum()), **about})
    if head_file is not None and pupil is not None:
        corpora_of = {"corpora": [corpus.name for corpus in corpora if corpus.name not in left_out]}
        write_head(head_file, pupil, head, mean, std, {**corpora_of, **about})


if __name__ == "__main__":
    main()
