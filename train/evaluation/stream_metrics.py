"""How a model does on streams: how soon it is right, how steady, and what it claims in pauses. No torch.

Everything goes through the very runtime (:class:`stream_ser.recognition.recognizer.Recognizer`, with voice activity
detection). What is *shown* at a sample is what the live view shows once the window that ends there was judged; the
*timeline* is what the finished decisions say, whose edges at pauses are known a little later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np

from stream_ser.config import DEFAULT_VAD, DeciderConfig, VadConfig
from stream_ser.errors import AudioError, DataError
from stream_ser.events import SILENCE, TOO_SHORT, UNCERTAIN, Decision, Prediction, Provisional
from stream_ser.recognition.decider import Decider
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime.engine import Engine
from stream_ser.train.data.long_streams import Placed, Stream

from .diarization import Diarization, Span, Timeline, diarize, flips, longest, settled_after

#: Seconds after the onset of speech at which the shown label is scored.
TIMES_S = (0.5, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Heard:
    """A stream as the runtime heard it.

    Attributes:
        speaker: of the stream.
        rate: Hz.
        length: samples of the stream.
        placed: the clips in it.
        shown: what was shown, from the first prediction on.
        timeline: the finished decisions.
        predictions: all of them; a :class:`Decider` makes ``shown`` and ``timeline`` of them.
        alone: what is said of each clip that is a stream of its own, cut from this one with its noise; empty where
            nobody asked.
    """

    speaker: str
    rate: int
    length: int
    placed: tuple[Placed, ...]
    shown: tuple[Span, ...]
    timeline: tuple[Span, ...]
    predictions: tuple[Prediction, ...]
    alone: tuple[str, ...] = ()


def hear(recognizer: Recognizer, stream: Stream, *, alone: bool = True) -> Heard:
    """Let a recogniser hear a stream.

    Args:
        recognizer: is reset here.
        stream: at the model's rate.
        alone: hear each clip as a stream of its own, too.

    Raises:
        DataError: a clip's label is not one of the model's.
    """
    card = recognizer.card
    if unknown := sorted({each.clip.label for each in stream.placed} - set(card.labels)):
        raise DataError(f"cannot evaluate: label {unknown[0]!r} is not one of the model's ({', '.join(card.labels)})")
    recognizer.reset()
    predictions: list[Prediction] = []
    decisions: list[Decision] = []
    steps: list[tuple[int, str]] = []
    # One hop at a time, so that no two predictions come at once and what is shown after each can be asked for.
    block = card.window.hop * card.features.hop_length
    for first in range(0, stream.samples.size, block):
        for event in recognizer.push(stream.samples[first : first + block]):
            if isinstance(event, Decision):
                decisions.append(event)
            elif isinstance(event, Prediction):
                predictions.append(event)
                steps.append((event.end, _label(recognizer.current)))
    last = recognizer.flush()
    decisions += (event for event in last if isinstance(event, Decision))
    for event in last:
        if isinstance(event, Prediction):
            predictions.append(event)
            steps.append((event.end, SILENCE))
    return Heard(
        speaker=stream.speaker,
        rate=stream.rate,
        length=stream.samples.size,
        placed=stream.placed,
        shown=_spans(steps, stream.samples.size, decisions),
        timeline=tuple(Span(d.start, d.end, d.label) for d in decisions),
        predictions=tuple(predictions),
        alone=tuple(_alone(recognizer, stream, each) for each in stream.placed) if alone else (),
    )


def decide(heard: Heard, labels: tuple[str, ...], config: DeciderConfig) -> Heard:
    """The same stream with other decisions: a :class:`Decider` on its predictions, as the runtime would have it."""
    decider = Decider(labels, heard.rate, config)
    decisions: list[Decision] = []
    steps: list[tuple[int, str]] = []
    for prediction in heard.predictions:
        decisions += [event for event in decider.push(prediction) if isinstance(event, Decision)]
        steps.append((prediction.end, _label(decider.current)))
    decisions += [event for event in decider.flush() if isinstance(event, Decision)]
    timeline = tuple(Span(d.start, d.end, d.label) for d in decisions)
    return replace(heard, shown=_spans(steps, heard.length, decisions), timeline=timeline)


def _label(current: Provisional | None) -> str:
    """What is shown; where nothing is yet, no emotion is."""
    return SILENCE if current is None or current.label == TOO_SHORT else current.label


def _spans(steps: list[tuple[int, str]], length: int, decisions: Sequence[Decision]) -> tuple[Span, ...]:
    # The end of the stream may decide what the last prediction left open.
    steps[-1:] = [(end, decisions[-1].label) for end, _ in steps[-1:]]
    ends = [end for end, _ in steps[1:]] + [length]
    return tuple(Span(start, end, label) for (start, label), end in zip(steps, ends, strict=True) if start < end)


def _alone(recognizer: Recognizer, stream: Stream, placed: Placed) -> str:
    """What the runtime says of a clip by itself: the most probable label, as ``evaluate`` has it, or silence."""
    recognizer.reset()
    try:
        recognizer.push(stream.samples[placed.start : placed.end])
        recognizer.flush()
    except AudioError as error:
        raise AudioError(f"{placed.clip.path}: {error}") from None
    probabilities = recognizer.summary().probabilities
    return recognizer.card.labels[int(np.argmax(probabilities))] if probabilities else SILENCE


@dataclass(frozen=True)
class StreamScores:
    """Scores over streams. Times are in seconds, rates are shares.

    Attributes:
        speakers: whose streams.
        clips: how many.
        minutes: length of the streams.
        speech_minutes: of it, time in which the reference carries an emotion.
        uar_at: UAR of the shown label so many seconds after the onset of speech, or at its end where that is earlier;
            silence and uncertain are wrong.
        uar_whole: UAR of the emotion that the timeline carries longest within the speech.
        uar_alone: UAR of the same clips, each a stream of its own; None where nobody asked.
        gap: ``uar_alone - uar_whole``.
        settled_s: median time from the onset of speech to the first shown label that is right and stays to the end of
            the speech, over the clips where there is one; None where there is none.
        never: share of the clips where there is none.
        flips_per_minute: changes of the shown label within a clip's speech beyond the first, a minute of speech.
        eder: emotion diarization error rate of the timeline (see :mod:`stream_ser.train.evaluation.diarization`), the
            sum of ...
        missed: ... reference time of which nothing is claimed,
        confusion: of which another emotion is claimed,
        false_alarm: and claims where the reference has none; all three as shares of the reference's emotion time.
        eder_shown: the same rate of what was shown.
        pause_claimed: share of the pauses in which the timeline claims an emotion ...
        pause_shown: ... and in which one was shown.
        precision: share of the claimed time of the timeline in which the claim is right.
        uncertain: share of the reference's emotion time on which the timeline says uncertain.
        ece_at: expected calibration error of the number beside the label so many seconds after the onset of speech, and
            of the final labels (``end``); empty where nobody asked.
    """

    speakers: int
    clips: int
    minutes: float
    speech_minutes: float
    uar_at: dict[str, float]
    uar_whole: float
    uar_alone: float | None
    gap: float | None
    settled_s: float | None
    never: float
    flips_per_minute: float
    eder: float
    missed: float
    confusion: float
    false_alarm: float
    eder_shown: float
    pause_claimed: float
    pause_shown: float
    precision: float
    uncertain: float
    ece_at: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def uar(truth: Sequence[str], answers: Sequence[str]) -> float:
    """Unweighted average recall of the labels that occur in ``truth``."""
    recalls = []
    for label in dict.fromkeys(truth):
        own = [answer == label for true, answer in zip(truth, answers, strict=True) if true == label]
        recalls.append(sum(own) / len(own))
    return sum(recalls) / len(recalls)


def score(streams: Sequence[Heard]) -> StreamScores:
    """Score streams, all clips together.

    Raises:
        DataError: no stream.
    """
    if not streams:
        raise DataError("cannot evaluate: no clips")
    truth: list[str] = []
    whole: list[str] = []
    alone: list[str] = []
    at: dict[str, list[str]] = {f"{time:g}": [] for time in TIMES_S}
    settled: list[float] = []
    changes = doubt = 0
    timeline_errors = shown_errors = Diarization()
    for heard in streams:
        shown, timeline = Timeline(heard.shown), Timeline(heard.timeline)
        reference = [Span(p.onset, p.offset, p.clip.label) for p in heard.placed]
        timeline_errors += diarize(reference, heard.timeline, heard.length)
        shown_errors += diarize(reference, heard.shown, heard.length)
        alone += heard.alone
        for span in reference:
            truth.append(span.label)
            whole.append(longest(timeline, span.start, span.end))
            for time, answers in zip(TIMES_S, at.values(), strict=True):
                answers.append(shown.at(min(span.start + round(time * heard.rate), span.end - 1)))
            samples = settled_after(shown, span.start, span.end, span.label)
            if samples is not None:
                settled.append(samples / heard.rate)
            changes += flips(shown, span.start, span.end)
            doubt += sum(s.end - s.start for s in timeline.within(span.start, span.end) if s.label == UNCERTAIN)
    spoken = max(timeline_errors.reference, 1)
    rate = streams[0].rate
    uar_whole = uar(truth, whole)
    uar_alone = uar(truth, alone) if alone else None
    return StreamScores(
        speakers=len({heard.speaker for heard in streams}),
        clips=len(truth),
        minutes=sum(heard.length for heard in streams) / rate / 60.0,
        speech_minutes=spoken / rate / 60.0,
        uar_at={time: uar(truth, answers) for time, answers in at.items()},
        uar_whole=uar_whole,
        uar_alone=uar_alone,
        gap=None if uar_alone is None else uar_alone - uar_whole,
        settled_s=median(settled) if settled else None,
        never=1.0 - len(settled) / len(truth),
        flips_per_minute=changes / (spoken / rate / 60.0),
        eder=timeline_errors.eder,
        missed=timeline_errors.missed / spoken,
        confusion=timeline_errors.confusion / spoken,
        false_alarm=timeline_errors.false_alarm / spoken,
        eder_shown=shown_errors.eder,
        pause_claimed=timeline_errors.false_alarm / max(timeline_errors.pause, 1),
        pause_shown=shown_errors.false_alarm / max(shown_errors.pause, 1),
        precision=timeline_errors.precision,
        uncertain=doubt / spoken,
    )


def evaluate_streams(
    engine: Engine,
    streams: Iterable[Stream],
    advance: Callable[[], object] = lambda: None,
    *,
    vad: VadConfig | None = DEFAULT_VAD,
    decider: DeciderConfig | None = None,
) -> StreamScores:
    """Run a model over streams.

    Args:
        engine: a loaded model.
        streams: at the model's rate, one after the other: they are long.
        advance: called once a stream.
        vad: voice activity detection; None for none.
        decider: default: that of the model's card.

    Raises:
        DataError: no stream, or a label that the model does not have.
        AudioError: a clip that is too short.
        ModelError: there is no voice activity detection.
    """
    recognizer = Recognizer(engine, decider, vad=vad)
    heard = []
    for stream in streams:
        heard.append(hear(recognizer, stream))
        advance()
    from .confidence import confidences

    numbers = confidences(heard, engine.card.labels, decider or engine.card.decider)
    return replace(score(heard), ece_at={time: found.ece for time, found in numbers.items()})
