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


def test_quiet_ends_the_emotion_where_it_began() -> None:
    decider = Decider(LABELS, RATE, DeciderConfig(silence_s=0.75))
    decisions = []
    for index in range(8):
        decisions += decider.push(Prediction(0, (index + 1) * HOP, A, -20.0 if index < 4 else -70.0))
    decisions += decider.flush()
    assert [(d.label, d.start, d.end) for d in decisions] == [("a", 0, 4 * HOP), (SILENCE, 4 * HOP, 8 * HOP)]


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


def spoken(rows: str, voices: list[tuple[int, int] | None], **config) -> list[tuple[str, int, int]]:
    """Decisions of a stream with voice activity detection: ``a``, ``b``, ``-`` (not asked), a hop each."""
    decider = Decider(LABELS, RATE, DeciderConfig(**{"onset_s": 0.0, "smoothing_s": 0.0, "hold_s": 0.0, **config}))
    decisions = []
    for index, (row, voice) in enumerate(zip(rows, voices, strict=True)):
        probabilities = {"a": A, "b": B, "-": ()}[row]
        decisions += decider.push(Prediction(0, (index + 1) * HOP, probabilities, -20.0, voice=voice))
    return [(d.label, d.start, d.end) for d in decisions + decider.flush()]


def test_an_emotion_begins_and_ends_with_the_voice() -> None:
    voices = [None, (7_000, 8_000), (7_000, 12_000), (7_000, 13_000), (7_000, 13_000), (7_000, 13_000), None]
    assert spoken("-aaaaa-", voices, silence_s=0.5) == [
        (SILENCE, 0, 7_000),
        ("a", 7_000, 13_000),
        (SILENCE, 13_000, 7 * HOP),
    ]


def test_a_short_pause_belongs_to_the_emotion_and_decides_nothing() -> None:
    voices = [(0, 4_000), (0, 4_000), (0, 4_000), (0, 16_000), (0, 20_000)]
    # What the network says of the pause would be another emotion.
    assert spoken("abbaa", voices, silence_s=1.0) == [("a", 0, 5 * HOP)]
    assert spoken("aabbb", voices, silence_s=1.0) == [("a", 0, 3 * HOP), ("b", 3 * HOP, 5 * HOP)]


def test_speech_that_goes_on_after_a_shown_silence_begins_anew() -> None:
    voices = [(0, 4_000), (0, 4_000), (0, 4_000), (0, 16_000)]
    assert spoken("aaab", voices, silence_s=0.5) == [("a", 0, 4_000), (SILENCE, 4_000, 12_000), ("b", 12_000, 16_000)]


def test_a_late_first_voice_leaves_silence_before_it() -> None:
    assert spoken("a", [(3_000, 4_000)], silence_s=0.5) == [("a", 0, HOP)]
    assert spoken("a", [(3_000, 4_000)], silence_s=0.1) == [(SILENCE, 0, 3_000), ("a", 3_000, HOP)]


def test_an_utterance_is_heard_for_a_while_before_it_has_a_label() -> None:
    voices = [None, (6_000, 8_000), (6_000, 12_000), (6_000, 16_000)]
    # The label counts from the utterance's start; what the network said of its first moments does not count.
    assert spoken("-baa", voices, onset_s=0.3) == [(SILENCE, 0, 6_000), ("a", 6_000, 4 * HOP)]
    assert spoken("-baa", voices) == [(SILENCE, 0, 6_000), ("b", 6_000, 2 * HOP), ("a", 2 * HOP, 4 * HOP)]
    decider = Decider(LABELS, RATE, DeciderConfig(onset_s=0.5))
    decider.push(Prediction(0, HOP, A, -20.0, voice=(0, HOP)))
    assert decider.current is None
    assert decider.smoothed == A
    decider.push(Prediction(0, 2 * HOP, A, -20.0, voice=(0, 2 * HOP)))
    assert decider.current is not None
    assert (decider.current.label, decider.current.start) == ("a", 0)


def test_an_utterance_that_the_stream_cuts_short_has_its_label_at_the_end() -> None:
    assert spoken("b", [(0, 4_000)], onset_s=5.0) == [("b", 0, HOP)]
    assert spoken("-b", [None, (5_000, 8_000)], onset_s=5.0) == [(SILENCE, 0, 5_000), ("b", 5_000, 2 * HOP)]
    # Too little was said before the silence: nothing is claimed.
    assert spoken("b---", [(0, 2_000)] * 4, onset_s=0.3) == [(SILENCE, 0, 4 * HOP)]


def test_a_label_is_shown_for_its_minimum_duration() -> None:
    rows = [A] + [B] * 8
    options = {"smoothing_s": 0.0, "hold_s": 0.0}
    first, second = run(rows, **options, min_duration_s=1.0)
    assert (first.label, first.end, second.label) == ("a", 3 * HOP, "b")
    assert [d.end for d in run(rows, **options)] == [HOP, 9 * HOP]
    # Silence does not wait for it.
    assert [d.label for d in run([A, ()], **options, min_duration_s=5.0)] == ["a", SILENCE]


def test_a_stream_may_start_anywhere() -> None:
    decisions = {}
    for start in (0, 2**32):
        decider = Decider(LABELS, RATE, DeciderConfig(silence_s=0.25))
        decider.reset(start)
        found = []
        for index, row in enumerate([A, (), B, B]):
            found += decider.push(Prediction(start, start + (index + 1) * HOP, row, -20.0))
        decisions[start] = [(d.label, d.start - start, d.end - start) for d in found + decider.flush()]
    assert decisions[0] == decisions[2**32]
    assert [label for label, _, _ in decisions[0]] == ["a", SILENCE, "b"]


@settings(max_examples=150, deadline=None)
@given(
    hops=st.lists(st.tuples(st.sampled_from([A, B, EVEN]), st.integers(0, HOP)), min_size=1, max_size=40),
    hangover_s=st.sampled_from([0.3, 1.0]),
    silence_s=st.sampled_from([0.0, 0.5, 2.0]),
    onset_s=st.sampled_from([0.0, 0.4, 1.5]),
)
def test_decisions_cover_a_spoken_stream_without_overlap(hops, hangover_s, silence_s, onset_s) -> None:
    """Each hop has so many voiced samples at its start; an utterance ends with a pause of the hangover."""
    decider = Decider(LABELS, RATE, DeciderConfig(silence_s=silence_s, onset_s=onset_s))
    decisions: list[Decision] = []
    voice: tuple[int, int] | None = None
    for index, (row, voiced) in enumerate(hops):
        start, end = index * HOP, (index + 1) * HOP
        if voiced:
            again = voice is None or start - voice[1] >= hangover_s * RATE
            voice = (start if again or voice is None else voice[0], start + voiced)
        speaking = voice is not None and end - voice[1] < hangover_s * RATE
        decisions += decider.push(Prediction(0, end, row if speaking else (), -20.0, voice=voice))
    decisions += decider.flush()
    assert (decisions[0].start, decisions[-1].end) == (0, len(hops) * HOP)
    for before, after in itertools.pairwise(decisions):
        assert before.end == after.start
        assert before.label != after.label
    assert all(d.end > d.start for d in decisions)
