"""Evaluation of an ONNX model on whole clips, through the very pipeline that ``stream-ser file`` runs. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stream_ser.audio import read_blocks
from stream_ser.engine import Engine
from stream_ser.errors import AudioError, DataError
from stream_ser.events import SILENCE
from stream_ser.pipeline import Recognizer

from .corpora import Clip
from .metrics import Floats, Ints, Scores, score


@dataclass(frozen=True)
class Evaluation:
    """Results on a set of clips.

    Attributes:
        probabilities: ``(clips, labels)``, calibrated.
        truth: ``(clips,)`` indices of the labels.
        scores: summary.
        silent: clips in which the runtime heard nobody; they count as wrong unless chance has them right, with
            uniform probabilities.
    """

    probabilities: Floats
    truth: Ints
    scores: Scores
    silent: int


def evaluate(engine: Engine, clips: Sequence[Clip], advance: Callable[[], object] | None = None) -> Evaluation:
    """Run ``engine`` over ``clips``.

    Raises:
        DataError: no clips, or a label that the model does not have.
        AudioError: a clip that cannot be decoded.
    """
    labels = engine.card.labels
    unknown = sorted({clip.label for clip in clips} - set(labels))
    if unknown or not clips:
        problem = f"label {unknown[0]!r} is not one of the model's ({', '.join(labels)})" if unknown else "no clips"
        raise DataError(f"cannot evaluate: {problem}")
    recognizer = Recognizer(engine)
    probabilities = np.full((len(clips), len(labels)), 1.0 / len(labels))
    silent = 0
    for row, clip in enumerate(clips):
        recognizer.reset()
        try:
            for block in read_blocks(clip.path, engine.card.features.sample_rate):
                recognizer.push(block)
            recognizer.flush()
        except AudioError as error:
            text = str(error)
            raise AudioError(text if str(clip.path) in text else f"{clip.path}: {text}") from None
        summary = recognizer.summary()
        if summary.label == SILENCE:
            silent += 1
        else:
            probabilities[row] = summary.probabilities
        if advance is not None:
            advance()
    truth = np.asarray([labels.index(clip.label) for clip in clips], dtype=np.int64)
    return Evaluation(probabilities, truth, score(probabilities, truth), silent)
