"""Evaluation of an ONNX model on whole clips, through the very pipeline that ``stream-ser file`` runs. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ser.audio.decode import read_blocks
from stream_ser.config import DEFAULT_VAD, VadConfig
from stream_ser.errors import AudioError, DataError
from stream_ser.events import Prediction
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime.engine import Engine
from stream_ser.train.data.corpora import Clip, Corpus
from stream_ser.train.data.labels import FOLDED, SplitKind, make_split
from stream_ser.train.metrics import (
    Floats,
    Ints,
    Scores,
    SpeakerScore,
    answers,
    calibrated_ece,
    cross_fitted_ece,
    restrict,
    score,
    score_speakers,
    uar_interval,
)

#: The part that is every clip.
ALL = "all"
#: Below the smallest probability that is told from zero.
_TINY = 1e-300


@dataclass(frozen=True)
class Evaluation:
    """Results on a set of clips.

    Attributes:
        clips: what was heard.
        probabilities: ``(clips, labels)``, calibrated; the mean over the clip's windows.
        truth: ``(clips,)`` indices of the labels.
        heard: whether the runtime heard somebody, ``(clips,)``. Other clips have uniform probabilities and are wrong.
        logits: of the windows by which the runtime judges, ``(windows, labels)``, up to a constant a row.
        owners: clip that each window belongs to, ``(windows,)``.
        window_ms: mean cost of features and network a window, milliseconds.
    """

    clips: tuple[Clip, ...]
    probabilities: Floats
    truth: Ints
    heard: NDArray[np.bool_]
    logits: Floats
    owners: Ints
    window_ms: float

    @cached_property
    def scores(self) -> Scores:
        """Summary."""
        return score(self.probabilities, self.truth)

    @property
    def silent(self) -> int:
        """Clips in which the runtime heard nobody."""
        return int((~self.heard).sum())

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which clips the model has right, ``(clips,)``."""
        return np.asarray(answers(self.probabilities) == self.truth)

    @cached_property
    def speakers(self) -> list[SpeakerScore]:
        """Each speaker alone, best first."""
        return score_speakers(self.probabilities, self.truth, self._names)

    @cached_property
    def uar_interval(self) -> tuple[float, float] | None:
        """95 % bootstrap interval of the UAR over speakers; None for one speaker."""
        return uar_interval(self.probabilities, self.truth, self._names)

    @cached_property
    def cross_fitted_ece(self) -> float | None:
        """ECE with a temperature that was fitted on other speakers of these clips; None for one speaker."""
        return cross_fitted_ece(self.logits, self.owners, self.truth, self._names)

    @cached_property
    def calibrated_ece(self) -> tuple[float, float, float]:
        """ECE that a perfectly calibrated model would show on so few clips: mean, quantiles .05 and .95."""
        return calibrated_ece(self.probabilities)

    @property
    def _names(self) -> list[str]:
        return [clip.speaker for clip in self.clips]

    def select(self, chosen: NDArray[np.bool_]) -> Evaluation:
        """The results on some of the clips.

        Args:
            chosen: ``(clips,)``.
        """
        windows = chosen[self.owners]
        return replace(
            self,
            clips=tuple(clip for clip, take in zip(self.clips, chosen, strict=True) if take),
            probabilities=self.probabilities[chosen],
            truth=self.truth[chosen],
            heard=self.heard[chosen],
            logits=self.logits[windows],
            owners=(np.cumsum(chosen) - 1)[self.owners[windows]],
        )

    def among(self, classes: NDArray[np.bool_]) -> Evaluation:
        """The results given that each answer is one of some classes (:func:`stream_ser.train.metrics.restrict`).

        Args:
            classes: which may be answered, a row a clip, ``(clips, labels)``.
        """
        logits = np.where(classes[self.owners] | ~self.heard[self.owners, None], self.logits, np.log(_TINY))
        return replace(self, probabilities=restrict(self.probabilities, classes), logits=logits)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **self.scores.as_dict(),
            "uar_interval": self.uar_interval,
            "ece_cross_fitted": self.cross_fitted_ece,
            "ece_if_calibrated": self.calibrated_ece,
            "silent": self.silent,
            "window_ms": round(self.window_ms, 3),
            "speakers": [asdict(row) for row in self.speakers],
        }


def clips_of(
    corpora: Sequence[Corpus],
    part: str,
    kind: SplitKind = "fixed",
    seed: int = 0,
    fold: int | None = None,
    folds: int | None = None,
) -> tuple[dict[str, tuple[Clip, ...]], str]:
    """The clips of one part of a split.

    Args:
        corpora: with the same labels.
        part: ``train``, ``validation``, ``test`` or :data:`ALL`.
        kind: of the split; that a speaker is in two of its parts is said in its name.
        seed: of a split that is drawn.
        fold: number of the fold, where the split has folds.
        folds: how many there are; see :func:`stream_ser.train.data.labels.make_split`.

    Returns:
        the clips of each corpus that has some, and in words what they are.

    Raises:
        DataError: no clip is in that part, the corpora cannot be split so, or a fold where there is none.
    """
    if (fold is not None or folds is not None) and (part == ALL or kind not in FOLDED):
        what = f"--part {ALL} takes every clip" if part == ALL else f"--split {kind} has no folds"
        raise DataError(f"{what}; leave --fold and --folds away, or choose a part of --split {' or '.join(FOLDED)}")
    if part == ALL:
        return {corpus.name: corpus.clips for corpus in corpora}, "all clips"
    name = f"{part} part"
    if kind == "fixed":
        # Not through the split: a corpus without a training part can be measured, too.
        chosen = {clip for corpus in corpora for clip in corpus.clips if clip.part == part}
    else:
        split = make_split(corpora, kind, seed, fold, folds)
        chosen = set({"train": split.train, "validation": split.validation, "test": split.test}[part])
        name += f" of {split.name}"
    groups = {corpus.name: tuple(clip for clip in corpus.clips if clip in chosen) for corpus in corpora}
    groups = {corpus: clips for corpus, clips in groups.items() if clips}
    if not groups:
        raise DataError(f"no clip is in the {name}; choose another --part or --split, or --part {ALL}")
    return groups, name


def classes_of(groups: Mapping[str, Sequence[Clip]], labels: Sequence[str]) -> NDArray[np.bool_]:
    """Which labels occur in each clip's corpus, ``(clips, labels)``, the corpora's clips one after the other."""
    rows = []
    for clips in groups.values():
        found = {clip.label for clip in clips}
        rows.append(np.tile([label in found for label in labels], (len(clips), 1)))
    return np.concatenate(rows)


def of_speakers(groups: Mapping[str, Sequence[Clip]], speakers: Sequence[str]) -> dict[str, tuple[Clip, ...]]:
    """The clips of some speakers, by corpus.

    Raises:
        DataError: a speaker who has none.
    """
    present = {clip.speaker for clips in groups.values() for clip in clips}
    if missing := sorted(set(speakers) - present):
        some = ", ".join(sorted(present)[:5])
        raise DataError(f"no clip there is of speaker {missing[0]}; speakers are named like {some}")
    chosen = {name: tuple(clip for clip in clips if clip.speaker in speakers) for name, clips in groups.items()}
    return {name: clips for name, clips in chosen.items() if clips}


def evaluate(
    engine: Engine,
    clips: Sequence[Clip],
    advance: Callable[[], object] | None = None,
    *,
    vad: VadConfig | None = DEFAULT_VAD,
) -> Evaluation:
    """Run ``engine`` over ``clips``.

    Args:
        engine: a loaded model.
        clips: labelled with the model's labels.
        advance: called once a clip.
        vad: voice activity detection, as the runtime has it; None for none.

    Raises:
        DataError: no clips, or a label that the model does not have.
        AudioError: a clip that cannot be decoded.
    """
    labels = engine.card.labels
    unknown = sorted({clip.label for clip in clips} - set(labels))
    if unknown or not clips:
        problem = f"label {unknown[0]!r} is not one of the model's ({', '.join(labels)})" if unknown else "no clips"
        raise DataError(f"cannot evaluate: {problem}")
    recognizer = Recognizer(engine, vad=vad, keep_judged=True)
    probabilities = np.full((len(clips), len(labels)), 1.0 / len(labels))
    heard = np.ones(len(clips), dtype=bool)
    windows: list[tuple[float, ...]] = []
    owners: list[int] = []
    costs: list[float] = []
    for row, clip in enumerate(clips):
        recognizer.reset()
        try:
            for block in read_blocks(clip.path, engine.card.features.sample_rate):
                costs += _costs(recognizer.push(block))
            costs += _costs(recognizer.flush())
        except AudioError as error:
            text = str(error)
            raise AudioError(text if str(clip.path) in text else f"{clip.path}: {text}") from None
        summary = recognizer.summary()
        heard[row] = bool(summary.probabilities)
        if heard[row]:
            probabilities[row] = summary.probabilities
        judged = recognizer.judged if heard[row] else [tuple(probabilities[row].tolist())]
        windows += judged
        owners += [row] * len(judged)
        if advance is not None:
            advance()
    return Evaluation(
        clips=tuple(clips),
        probabilities=probabilities,
        truth=np.asarray([labels.index(clip.label) for clip in clips], dtype=np.int64),
        heard=heard,
        logits=np.log(np.maximum(np.asarray(windows), _TINY)),
        owners=np.asarray(owners, dtype=np.int64),
        window_ms=float(np.mean(costs)) if costs else 0.0,
    )


def _costs(events: Sequence[object]) -> list[float]:
    """Milliseconds of each window for which the network was asked."""
    asked = (event for event in events if isinstance(event, Prediction) and event.probabilities)
    return [event.timing.features_ms + event.timing.inference_ms for event in asked if event.timing is not None]
