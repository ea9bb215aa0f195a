"""How often an emotion is claimed of plain speech, through the very pipeline that ``stream-ser file`` runs. No torch.

Nobody labelled such speech: that its speakers are neutral is an assumption, so nothing is scored as right or wrong. A
claim is any label but ``neutral`` and those that claim nothing (``uncertain``, ``too short``, ``silence``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ser.audio.decode import read_blocks
from stream_ser.config import DEFAULT_VAD, VadConfig
from stream_ser.errors import AudioError, DataError
from stream_ser.events import SILENCE, UNCLAIMED, Prediction
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime.engine import Engine
from stream_ser.train.data.corpora import Clip

#: The label that claims no emotion.
NEUTRAL = "neutral"
#: Probabilities from which on a claim is counted.
CONFIDENCES = (0.0, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Claims:
    """What a model claims of plain speech.

    Attributes:
        clips: how many were heard.
        speakers: how many people speak in them.
        silent: of the clips, those in which nobody was heard; they claim nothing.
        labels: share of the clips by their label, the most frequent first.
        clips_claimed: share of the clips of which an emotion is claimed, by the least probability of the claim.
        hops_claimed: the same of the hops at which the network was asked, each for itself: what it thinks live.
        time_claimed: share of the timeline without its silence that carries an emotion.
    """

    clips: int
    speakers: int
    silent: int
    labels: dict[str, float]
    clips_claimed: dict[float, float]
    hops_claimed: dict[float, float]
    time_claimed: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        content = asdict(self)
        for name in ("clips_claimed", "hops_claimed"):
            content[name] = {str(confidence): share for confidence, share in content[name].items()}
        return content


def claimed_shares(
    probabilities: NDArray[np.float64], labels: Sequence[str], abstain_below: float
) -> dict[float, float]:
    """Share of rows that claim an emotion, by the least probability of the claim.

    Args:
        probabilities: ``(rows, labels)``; rows of zeros claim nothing.
        labels: of the columns.
        abstain_below: probability under which nothing is claimed.
    """
    if not len(probabilities):
        return dict.fromkeys(CONFIDENCES, 0.0)
    best = probabilities.max(axis=1)
    neutral = np.asarray([label == NEUTRAL for label in labels])[probabilities.argmax(axis=1)]
    claims = ~neutral & (best >= abstain_below) & (best > 0.0)
    return {confidence: float((claims & (best >= confidence)).mean()) for confidence in CONFIDENCES}


def measure(
    engine: Engine,
    clips: Sequence[Clip],
    advance: Callable[[], object] | None = None,
    *,
    vad: VadConfig | None = DEFAULT_VAD,
) -> Claims:
    """Run ``engine`` over plain speech.

    Args:
        engine: a loaded model that knows the label neutral.
        clips: of speech; their labels are not looked at.
        advance: called once a clip.
        vad: voice activity detection, as the runtime has it; None for none.

    Raises:
        DataError: no clips, or a model without the label neutral.
        AudioError: a clip that cannot be decoded.
    """
    labels = engine.card.labels
    if NEUTRAL not in labels or not clips:
        problem = f"the model has no label {NEUTRAL} ({', '.join(labels)})" if clips else "no clips"
        raise DataError(f"cannot evaluate plain speech: {problem}")
    recognizer = Recognizer(engine, vad=vad)
    wholes = np.zeros((len(clips), len(labels)))
    hops: list[tuple[float, ...]] = []
    said: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for row, clip in enumerate(clips):
        recognizer.reset()
        try:
            events = [e for b in read_blocks(clip.path, engine.card.features.sample_rate) for e in recognizer.push(b)]
        except AudioError as error:
            text = str(error)
            raise AudioError(text if str(clip.path) in text else f"{clip.path}: {text}") from None
        events += recognizer.flush()
        hops += [event.probabilities for event in events if isinstance(event, Prediction) and event.probabilities]
        summary = recognizer.summary()
        said[summary.label] += 1
        if summary.probabilities:
            wholes[row] = summary.probabilities
        seconds.update(summary.seconds)
        if advance is not None:
            advance()
    abstain_below = engine.card.decider.abstain_below
    spoken = sum(seconds.values()) - seconds[SILENCE]
    plain = seconds[NEUTRAL] + sum(seconds[label] for label in UNCLAIMED - {SILENCE})
    return Claims(
        clips=len(clips),
        speakers=len({clip.speaker for clip in clips}),
        silent=said[SILENCE],
        labels={label: count / len(clips) for label, count in said.most_common()},
        clips_claimed=claimed_shares(wholes, labels, abstain_below),
        hops_claimed=claimed_shares(np.asarray(hops), labels, abstain_below),
        time_claimed=(spoken - plain) / spoken if spoken > 0.0 else 0.0,
    )


def unheard(clips: Sequence[Clip], heard: Sequence[str]) -> tuple[tuple[Clip, ...], int]:
    """Clips of speakers who are not among ``heard``, a model's training speakers; and how many speakers were."""
    known = set(heard)
    kept = tuple(clip for clip in clips if clip.speaker not in known)
    return kept, len({clip.speaker for clip in clips} & known)
