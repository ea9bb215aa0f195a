"""Makes a teacher's file for ``stream-ser train --taught``: what frozen Whisper features say of every clip.

``python -m stream_ser.train.experiments.teacher --data CORPUS=PATH... --plain CORPUS=PATH... --cache DIR --out FILE``

The features are the mean over time of the outputs of Whisper's layers 2 and 3
(:mod:`stream_ser.train.transfer.whisper`). A linear head on them, centred on each speaker, is fitted on labelled clips;
what it says of a training speaker comes from a head that has not heard that speaker (five folds by speaker). Validation
clips are neither fitted on nor taught. The features to be learnt are scores: what linear heads on layer 2, on layer 3
and on both give for each class before the softmax. Half of the heads were fitted on features centred on the speaker and
are applied without centring: such a score minus its mean over a session is the score of a centred head, so that a pupil
who gives the scores can be centred as the teacher was. Behind them stand leading principal components. Emotion lies in
directions of little variance, which components alone would leave out (LOG.md). All have unit variance.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from stream_ser.config import FeatureConfig
from stream_ser.train.data import labels
from stream_ser.train.data.corpora import EMOTIONS, Clip, Corpus
from stream_ser.train.data.pcm16 import to_float32
from stream_ser.train.data.teacher_scores import key_of
from stream_ser.train.data.windows import read_waves
from stream_ser.train.metrics import score, softmax
from stream_ser.train.transfer import whisper

from .command import Command, make_parent, progress_bar

Floats = NDArray[np.float32]
#: Whisper's layers, from 1, that are pooled; heads read the last two, the features are those of the last.
LAYERS = 3
#: Longest part of a clip that Whisper hears, samples.
LONGEST = 30 * whisper.SAMPLE_RATE
FOLDS = 5
#: Clips whose weight the mean over all speakers has in a speaker's centre.
PRIOR = 10.0


def pooled(corpus: Corpus, cache: Path | None, advance: Callable[[], object] = lambda: None) -> Floats:
    """Means over time of the layers' outputs, ``(clips, layers, width)``; from the cache where it has all clips.

    Raises:
        TrainError: Whisper's weights are not installed.
        AudioError: a clip that cannot be decoded.
    """
    keys = [key_of(clip) for clip in corpus.clips]
    path = cache / f"{corpus.name}.npz" if cache else None
    if path is not None and path.is_file():
        with np.load(path, allow_pickle=False) as file:
            rows = {key: row for row, key in enumerate(file["keys"].tolist())}
            if all(key in rows for key in keys):
                kept: Floats = file["pooled"][[rows[key] for key in keys]].astype(np.float32)
                return kept
    encoder = whisper.tiny_en()
    found = []
    with torch.no_grad():
        for wave in read_waves(corpus.clips, FeatureConfig()):
            spectrum = encoder.log_mel(torch.from_numpy(to_float32(wave[:LONGEST]))[None])
            found.append(torch.stack([x[0].mean(dim=0) for x in encoder.hidden(spectrum, LAYERS)]).numpy())
            advance()
    if path is not None:
        make_parent(path)
        np.savez(path, keys=np.asarray(keys), pooled=np.stack(found).astype(np.float16))
    stacked: Floats = np.stack(found)
    return stacked


def centred(x: Floats, speakers: Sequence[str], prior: float = PRIOR) -> Floats:
    """``x`` ``(clips, width)`` minus each speaker's mean, which ``prior`` clips at the mean over all pull back."""
    out: Floats = x - x.mean(axis=0)
    names, owner = np.unique(np.asarray(speakers), return_inverse=True)
    for index in range(len(names)):
        own = owner == index
        out[own] -= out[own].sum(axis=0) / (own.sum() + prior)
    return out


def fit_head(
    x: Floats, truth: NDArray[np.int64], classes: int, *, decay: float = 0.3, seed: int = 0
) -> torch.nn.Linear:
    """Multinomial logistic regression by AdamW, 30 passes in batches of 256.

    Args:
        x: ``(clips, width)``, of about unit variance.
        truth: ``(clips,)``.
        classes: number of them.
        decay: weight decay.
        seed: of the order.
    """
    torch.manual_seed(seed)
    head = torch.nn.Linear(x.shape[1], classes)
    optimizer = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=decay)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(truth)
    passes, size = 30, min(256, len(truth))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=passes * (len(truth) // size))
    for _ in range(passes):
        for rows in torch.randperm(len(truth)).split(size):
            if len(rows) < size:
                continue
            loss = F.cross_entropy(head(inputs[rows]), targets[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return head


def say(head: torch.nn.Linear, x: Floats) -> NDArray[np.float64]:
    """Posteriors ``(clips, classes)``."""
    with torch.no_grad():
        posteriors: NDArray[np.float64] = softmax(head(torch.from_numpy(x)).double().numpy())
    return posteriors


def fold_of(speaker: str) -> int:
    """The fold of a speaker, by name alone."""
    return int.from_bytes(hashlib.sha256(speaker.encode()).digest()[:4], "big") % FOLDS


def unheard_posteriors(x: Floats, truth: NDArray[np.int64], speakers: Sequence[str], classes: int) -> Floats:
    """What heads that have not heard a clip's speaker say of it, ``(clips, classes)``."""
    folds = np.asarray([fold_of(speaker) for speaker in speakers])
    out = np.zeros((len(x), classes), np.float32)
    for fold in np.unique(folds):
        held = folds == fold
        out[held] = say(fit_head(x[~held], truth[~held], classes), x[held])
    return out


def unheard_scores(
    x: Floats,
    heads_on: Floats,
    truth: NDArray[np.int64],
    speakers: Sequence[str],
    known: NDArray[np.bool_],
    classes: int,
) -> Floats:
    """Scores before the softmax, ``(clips, classes)``; of clips that heads are fitted on, by heads of other speakers.

    Args:
        x: what the heads are applied to, ``(clips, width)``.
        heads_on: what they are fitted on, as ``x``.
        truth: ``(clips,)``.
        speakers: of each clip.
        known: which clips the heads are fitted on, ``(clips,)``.
        classes: number of them.
    """
    folds = np.asarray([fold_of(speaker) for speaker in speakers])

    def scores(fitted: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> Floats:
        head = fit_head(heads_on[fitted], truth[fitted], classes)
        with torch.no_grad():
            found: Floats = head(torch.from_numpy(x[wanted])).numpy()
        return found

    out = np.zeros((len(x), classes), np.float32)
    out[~known] = scores(known, ~known)
    for fold in np.unique(folds[known]):
        held = known & (folds == fold)
        out[held] = scores(known & ~held, held)
    return out


def components(x: Floats, width: int) -> Floats:
    """The ``width`` leading principal components of ``x`` ``(clips, ...)``, each with unit variance."""
    x = x - x.mean(axis=0)
    _, _, axes = np.linalg.svd(x, full_matrices=False)
    found = x @ axes[:width].T
    return np.asarray(found / found.std(axis=0), np.float32)


def standardized(x: Floats) -> Floats:
    """Zero mean and unit variance of each column."""
    return np.asarray((x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6), np.float32)


@click.command(cls=Command)
@click.option("--data", multiple=True, required=True, metavar="CORPUS=PATH", help="Labelled corpus; repeatable.")
@click.option("--plain", multiple=True, metavar="CORPUS=PATH", help="Speech without labels; repeatable.")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="Folder for Whisper's outputs.")
@click.option("--width", type=click.IntRange(min=1), default=16, show_default=True, help="Principal components.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file, *.npz.")
def main(data: tuple[str, ...], plain: tuple[str, ...], cache: Path | None, width: int, out: Path) -> None:
    """Write a teacher's file, and print as JSON what its heads are worth on speakers that they have not heard."""
    make_parent(out)
    labelled = labels.load_corpora(data, "common")
    others = labels.load_plain(plain) if plain else []
    corpora = (*labelled, *others)
    heard = []
    for corpus in corpora:
        with progress_bar(f"{corpus.name}: Whisper", len(corpus.clips)) as advance:
            heard.append(pooled(corpus, cache, advance))
    clips: list[Clip] = [clip for corpus in corpora for clip in corpus.clips]
    layers = np.concatenate(heard)
    speakers = [clip.speaker for clip in clips]
    known = np.asarray([clip.label in EMOTIONS for clip in clips])
    train = known & np.asarray([clip.part != "validation" for clip in clips])
    truth = np.asarray([EMOTIONS.index(clip.label) if clip.label in EMOTIONS else 0 for clip in clips], np.int64)
    both = standardized(layers[:, -2:].reshape(len(clips), -1))
    inputs = standardized(centred(both, speakers))
    posterior = np.zeros((len(clips), len(EMOTIONS)), np.float32)
    posterior[train] = unheard_posteriors(
        inputs[train], truth[train], [s for s, chosen in zip(speakers, train, strict=True) if chosen], len(EMOTIONS)
    )
    columns = []
    for layer in (layers[:, -2], layers[:, -1], layers[:, -2:]):
        plain_x = standardized(layer.reshape(len(clips), -1))
        centred_x = centred(plain_x, speakers)
        spread = centred_x[train].std(axis=0)
        for x, heads_on in ((plain_x, plain_x), (plain_x / spread, centred_x / spread)):
            columns.append(unheard_scores(x, heads_on, truth, speakers, train, len(EMOTIONS)))
    scores = standardized(np.hstack(columns))
    about = f"Whisper tiny.en layers 2 and 3, heads on {' + '.join(corpus.name for corpus in labelled)}"
    np.savez(
        out,
        keys=np.asarray([key_of(clip) for clip in clips]),
        labels=np.asarray(EMOTIONS),
        posterior=posterior,
        features=np.hstack((scores, components(both, width))),
        about=np.asarray(about),
    )
    whole = fit_head(inputs[train], truth[train], len(EMOTIONS))
    plainly = fit_head(both[train], truth[train], len(EMOTIONS))
    worth = {}
    for corpus in labelled:
        own = np.asarray([clip.speaker.startswith(f"{corpus.name}/") for clip in clips])
        rows = own & known & ~train
        parts = {"training speakers, unheard": score(posterior[own & train].astype(np.float64), truth[own & train]).uar}
        if rows.any():
            parts["validation, centred on the speaker"] = score(say(whole, inputs[rows]), truth[rows]).uar
            parts["validation, not centred"] = score(say(plainly, both[rows]), truth[rows]).uar
        worth[corpus.name] = {name: round(value, 4) for name, value in parts.items()}
    click.echo(json.dumps({"about": about, "clips": len(clips), "uar": worth}, indent=1))


if __name__ == "__main__":
    main()
