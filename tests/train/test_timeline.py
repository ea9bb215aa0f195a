"""Metrics of timelines, on timelines made by hand."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ser.events import SILENCE, UNCERTAIN
from stream_ser.train.evaluation.diarization import Diarization, Span, Timeline, diarize, flips, longest, settled_after

LABELS = ("anger", "sad", UNCERTAIN, SILENCE)
#: Anger from 10 to 30, sadness from 50 to 90, of 100.
REFERENCE = (Span(10, 30, "anger"), Span(50, 90, "sad"))


def test_a_timeline_by_hand() -> None:
    claimed = [
        Span(0, 12, SILENCE),  # 2 of anger missed
        Span(12, 36, "anger"),  # 18 right, 6 in the pause
        Span(36, 55, SILENCE),  # 5 of sadness missed
        Span(55, 60, UNCERTAIN),  # 5 more
        Span(60, 70, "anger"),  # 10 confused
        Span(70, 100, "sad"),  # 20 right, 10 in the pause
    ]
    found = diarize(REFERENCE, claimed, 100)
    assert found == Diarization(reference=60, pause=40, missed=12, confusion=10, false_alarm=16)
    assert found.eder == pytest.approx(38 / 60)
    assert found.precision == pytest.approx(38 / 64)
    assert (found + found).eder == found.eder
    assert (found + found).pause == 80


def test_a_claim_may_reach_over_several_emotions() -> None:
    found = diarize(REFERENCE, [Span(0, 100, "sad")], 100)
    assert (found.missed, found.confusion, found.false_alarm) == (0, 20, 40)
    assert found.eder == 1.0


def spans_of(lengths: list[tuple[int, str]]) -> tuple[list[Span], int]:
    ends = list(itertools.accumulate((length for length, _ in lengths), initial=0))
    return [Span(ends[i], ends[i + 1], label) for i, (_, label) in enumerate(lengths)], ends[-1]


timelines = st.lists(st.tuples(st.integers(1, 50), st.sampled_from(LABELS)), min_size=1, max_size=20)


@settings(max_examples=200, deadline=None)
@given(truth=timelines, said=timelines)
def test_perfect_is_zero_silence_is_one_and_every_sample_counts_once(truth, said) -> None:
    spans, length = spans_of(truth)
    reference = [span for span in spans if span.label in ("anger", "sad")]
    spoken = sum(span.end - span.start for span in reference)
    assert diarize(reference, spans, length) == Diarization(spoken, length - spoken)
    silent = diarize(reference, [Span(0, length, SILENCE)], length)
    assert (silent.missed, silent.confusion, silent.false_alarm) == (spoken, 0, 0)
    assert silent.eder == (1.0 if reference else 0.0)
    claimed, _ = spans_of(said)
    claimed = [Span(s.start, min(s.end, length), s.label) for s in claimed if s.start < length]
    found = diarize(reference, claimed, length)
    # Sample by sample, the slow and certain way.
    truth_at, said_at = Timeline(reference), Timeline(claimed)
    pairs = [(truth_at.at(i), said_at.at(i)) for i in range(length)]
    pairs = [(a, SILENCE if b == UNCERTAIN else b) for a, b in pairs]
    assert found.missed == sum(a != SILENCE and b == SILENCE for a, b in pairs)
    assert found.confusion == sum(SILENCE not in (a, b) and a != b for a, b in pairs)
    assert found.false_alarm == sum(a == SILENCE and b != SILENCE for a, b in pairs)


def test_what_is_shown_when() -> None:
    shown = Timeline([Span(10, 20, "sad"), Span(20, 30, "anger"), Span(40, 50, "anger")])
    assert [shown.at(i) for i in (0, 10, 19, 20, 30, 49, 50)] == [
        SILENCE,
        "sad",
        "sad",
        "anger",
        SILENCE,
        "anger",
        SILENCE,
    ]
    assert shown.within(5, 45) == [
        Span(5, 10, SILENCE),
        Span(10, 20, "sad"),
        Span(20, 30, "anger"),
        Span(30, 40, SILENCE),
        Span(40, 45, "anger"),
    ]
    assert Timeline([Span(0, 5, "sad"), Span(5, 9, "sad")]).within(1, 12) == [Span(1, 9, "sad"), Span(9, 12, SILENCE)]
    assert Timeline([]).within(3, 7) == [Span(3, 7, SILENCE)]


def test_settled_is_right_until_the_end() -> None:
    shown = Timeline([Span(0, 10, "anger"), Span(10, 20, "sad"), Span(20, 40, "anger")])
    assert settled_after(shown, 5, 35, "anger") == 15
    assert settled_after(shown, 5, 35, "sad") is None
    assert settled_after(shown, 25, 35, "anger") == 0
    assert settled_after(shown, 12, 20, "sad") == 0


def test_flips_are_changes_beyond_the_first() -> None:
    shown = Timeline([Span(10, 20, "sad"), Span(20, 30, "anger"), Span(30, 40, UNCERTAIN), Span(40, 90, "sad")])
    assert flips(shown, 5, 60) == 3
    assert flips(shown, 5, 15) == 0
    assert flips(shown, 12, 18) == 0
    assert flips(shown, 12, 35) == 1


def test_the_longest_emotion_is_the_answer() -> None:
    timeline = Timeline([Span(0, 30, UNCERTAIN), Span(30, 40, "sad"), Span(40, 55, "anger"), Span(60, 70, "sad")])
    assert longest(timeline, 0, 70) == "sad"
    assert longest(timeline, 0, 58) == "anger"
    assert longest(timeline, 0, 30) == SILENCE
