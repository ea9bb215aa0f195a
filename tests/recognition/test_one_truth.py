"""All outputs say the same of a stream: every one is made of the final decisions."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from random_streams import CONFIGS, HOP, LABELS, RATE, streams

from stream_ser.events import SILENCE, UNCLAIMED, Decision, Gap, Provisional, StreamInfo, Summary
from stream_ser.recognition.decider import Decider
from stream_ser.recognition.summary import Tally
from stream_ser.sinks.csv_ import Csv
from stream_ser.sinks.draw.timeline import GAP
from stream_ser.sinks.jsonl import JsonLines
from stream_ser.sinks.live.state import LiveState
from stream_ser.sinks.plot.bins import PlotState
from stream_ser.sinks.rttm import Rttm
from stream_ser.sinks.subtitles import Srt

INFO = StreamInfo("s.wav", "tiny", LABELS, RATE)


def written(sink_type, events, summary) -> str:
    out = io.StringIO()
    sink = sink_type(out)
    sink.open(INFO)
    for event in events:
        sink.write(event)
    sink.close(summary)
    return out.getvalue()


@settings(max_examples=120, deadline=None)
@given(predictions=streams(), config=CONFIGS)
def test_outputs_never_contradict_each_other(predictions, config) -> None:
    decider = Decider(LABELS, RATE, config)
    tally = Tally(LABELS, RATE, keep_judged=False)
    live = LiveState()
    live.begin(INFO)
    plot = PlotState(LABELS, 4, 160)
    events: list[Provisional | Decision] = []
    heard = 0

    def take(found) -> None:
        for event in found:
            events.append(event)
            live.take(event)
            plot.take(event)
            if isinstance(event, Decision):
                tally.decided(event)

    for prediction in predictions:
        take(decider.push(prediction))
        samples = np.zeros(prediction.end - heard, np.float32)
        heard = prediction.end
        live.hear(samples)
        plot.hear(samples)
        live.show(decider.current, decider.posterior)
    take(decider.flush())
    timeline = [event for event in events if isinstance(event, Decision)]
    summary = Summary(heard, 0, tally.label, tally.probabilities, tally.seconds, 0, tally.confidence)

    rows = list(csv.DictReader(io.StringIO(written(Csv, events, summary))))
    assert [(row["label"], float(row["start_s"]), float(row["end_s"])) for row in rows] == [
        (d.label, pytest.approx(d.start / RATE, abs=1e-4), pytest.approx(d.end / RATE, abs=1e-4)) for d in timeline
    ]
    spoken = [d for d in timeline if d.label != SILENCE]
    lines = written(Rttm, events, summary).splitlines()
    assert [line.split()[6] for line in lines] == [d.label.replace(" ", "%20") for d in spoken]
    cues = [cue.splitlines() for cue in written(Srt, events, summary).split("\n\n") if cue.strip()]
    assert [cue[2].partition(" (")[0] for cue in cues] == [d.label for d in spoken]
    objects = [json.loads(line) for line in written(JsonLines, events, summary).splitlines()]
    found = [o for o in objects if o["type"] == "decision"]
    assert [(o["start"], o["end"], o["label"], o["utterance"] or 0) for o in found] == [
        (d.start, d.end, d.label, d.utterance) for d in timeline
    ]
    assert {o["utterance"] for o in objects if o["type"] == "provisional"} <= {o["utterance"] for o in found}
    # The live view's past, up to what is final.
    start = 0
    past = {}
    for moment in live.moments:
        past[start, moment.end] = moment
        start = moment.end
    if heard <= 60 * RATE:
        for (first, end), moment in past.items():
            for decision in timeline:
                if first < decision.end and end > decision.start:
                    assert moment.final
                    assert moment.label == decision.label
    # The picture: each bin has the label of a decision in it.
    for first, end, label in plot.runs:
        inside = {d.label for d in timeline if d.start < end * plot.span and d.end > first * plot.span}
        assert label in inside
    # The whole: the emotion that lasts longest, or why there is none.
    lasting: dict[str, int] = {}
    for decision in timeline:
        lasting[decision.label] = lasting.get(decision.label, 0) + decision.end - decision.start
    claimed = {label: samples for label, samples in lasting.items() if label not in UNCLAIMED}
    if claimed:
        assert claimed[summary.label] == max(claimed.values())
        assert summary.confidence >= config.abstain_below - 1e-9
    else:
        assert summary.label in UNCLAIMED
    assert (summary.label == SILENCE) == (not spoken)
    assert sum(summary.seconds.values()) == pytest.approx(heard / RATE)


def test_a_verdict_takes_the_place_of_what_was_shown_but_not_of_lost_audio() -> None:
    live = LiveState()
    live.begin(INFO)
    live.hear(np.zeros(HOP, np.float32))
    live.show(Provisional(0, HOP, "a", 0.5, 1), ())
    live.take(Gap(HOP, HOP))
    live.hear(np.zeros(2 * HOP, np.float32))
    live.show(Provisional(0, 3 * HOP, "b", 0.6, 1), ())
    live.take(Decision(0, 3 * HOP, "c", 0.9, 1))
    assert [(moment.end, moment.label, moment.final) for moment in live.moments] == [
        (HOP, "c", True),
        (2 * HOP, GAP, False),
        (3 * HOP, "c", True),
    ]
