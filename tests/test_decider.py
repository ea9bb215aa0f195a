import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ser.config import DeciderConfig
from stream_ser.decider import Decider
from stream_ser.events import SILENCE, UNCERTAIN, Decision, Prediction

RATE = 16_000
HOP = 4_000
LABELS = ("a", "b", "c")
A, B, EVEN = (0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.34, 0.33, 0.33)


def run(rows, level=-20.0, **config) -> list[Decision]:
    decider = Decider(LABELS, RATE, DeciderConfig(**config))
    decisions = []
    for index, row in enumerate(rows):
        row_level = level if row else -120.0
        decisions += decider.push(Prediction(0, (index + 1) * HOP, tuple(row), row_level))
    return decisions + decider.flush()


def test_one_emotion_is_one_decision() -> None:
    (decision,) = run([A] * 8)
    assert (decision.start, decision.end, decision.label) == (0, 8 * HOP, "a")
    assert decision.confidence == pytest.approx(0.8)


def test_a_change_is_taken_after_the_hold() -> None:
    first, second = run([A] * 4 + [B] * 8, smoothing_s=0.0, hold_s=0.5)
    assert (first.label, second.label) == ("a", "b")
    # Two hops of 250 ms have to agree before "b" is shown.
    assert first.end == second.start == 5 * HOP


def test_a_blink_is_not_shown() -> None:
    assert [d.label for d in run([A] * 4 + [B] + [A] * 4, smoothing_s=0.0, hold_s=0.5)] == ["a"]


def test_a_narrow_lead_does_not_flip() -> None:
    assert [d.label for d in run([A, (0.44, 0.46, 0.1), (0.44, 0.46, 0.1)], smoothing_s=0.0, enter_margin=0.05)] == [
        "a"
    ]


def test_weak_evidence_is_uncertain_and_needs_a_margin_to_leave() -> None:
    weak, close = EVEN, (0.42, 0.29, 0.29)
    options = {"smoothing_s": 0.0, "hold_s": 0.0, "abstain_below": 0.4, "enter_margin": 0.05}
    assert [d.label for d in run([weak, close], **options)] == [UNCERTAIN]
    assert [d.label for d in run([weak, A], **options)] == [UNCERTAIN, "a"]


def test_silence_claims_nothing() -> None:
    (decision,) = run([()] * 4)
    assert decision == Decision(0, 4 * HOP, SILENCE, 0.0)


def test_quiet_ends_the_emotion_after_a_while() -> None:
    decider = Decider(LABELS, RATE, DeciderConfig(silence_s=0.75))
    decisions = []
    for index in range(8):
        decisions += decider.push(Prediction(0, (index + 1) * HOP, A, -20.0 if index < 4 else -70.0))
    decisions += decider.flush()
    assert [(d.label, d.start, d.end) for d in decisions] == [("a", 0, 6 * HOP), (SILENCE, 6 * HOP, 8 * HOP)]


def test_what_lies_before_the_first_prediction_is_not_called_quiet() -> None:
    decider = Decider(LABELS, RATE, DeciderConfig(silence_s=0.75))
    decider.push(Prediction(0, RATE, A, -70.0))
    assert decider.current is not None
    assert decider.current.label == "a"


def test_smoothing_does_not_depend_on_the_hop() -> None:
    fine, coarse = (Decider(LABELS, RATE, DeciderConfig(smoothing_s=0.5)) for _ in range(2))
    fine.push(Prediction(0, HOP, A, -20.0))
    coarse.push(Prediction(0, HOP, A, -20.0))
    fine.push(Prediction(0, 2 * HOP, B, -20.0))
    fine.push(Prediction(0, 3 * HOP, B, -20.0))
    coarse.push(Prediction(0, 3 * HOP, B, -20.0))
    assert fine.smoothed == pytest.approx(coarse.smoothed)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.sampled_from([A, B, EVEN, ()]), min_size=1, max_size=40),
    hold_s=st.sampled_from([0.0, 0.5, 1.0]),
    smoothing_s=st.sampled_from([0.0, 0.5]),
)
def test_decisions_cover_the_stream_without_overlap(rows, hold_s, smoothing_s) -> None:
    decisions = run(rows, hold_s=hold_s, smoothing_s=smoothing_s)
    assert decisions[0].start == 0
    assert decisions[-1].end == len(rows) * HOP
    for before, after in itertools.pairwise(decisions):
        assert before.end == after.start
        assert before.label != after.label
    assert all(0.0 <= d.confidence <= 1.0 and d.end > d.start for d in decisions)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="abstain_below"):
        DeciderConfig(abstain_below=1.0)
    with pytest.raises(ValueError, match="negative"):
        DeciderConfig(hold_s=-1.0)
