"""Labels from predictions: what is shown live, what is final, where utterances begin, end and are cut."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_streams import CONFIGS, EVEN, HOP, LABELS, RATE, A, B, streams

from stream_ser.config import DeciderConfig
from stream_ser.events import SILENCE, TOO_SHORT, UNCERTAIN, UNCLAIMED, Change, Decision, Prediction, Provisional
from stream_ser.recognition.decider import Decider

#: Settings under which a label is shown at once.
PROMPT = {"listen_s": 0.0, "hold_s": 0.0, "hangover_s": 0.0}

Label = Provisional | Decision


def run(predictions: Sequence[Prediction], start: int = 0, **config: float) -> list[Label]:
    decider = Decider(LABELS, RATE, DeciderConfig(**config))
    decider.reset(start)
    found = [event for prediction in predictions for event in decider.push(prediction)]
    return found + decider.flush()


def finals(events: Sequence[Label]) -> list[Decision]:
    return [event for event in events if isinstance(event, Decision)]


def spans(events: Sequence[Label]) -> list[tuple[str, int, int]]:
    return [(decision.label, decision.start, decision.end) for decision in finals(events)]


def loud(rows: Sequence[tuple[float, ...]], level: float = -20.0) -> list[Prediction]:
    """A hop each, without voice activity detection; an empty row is silence."""
    return [Prediction(0, (index + 1) * HOP, tuple(row), level if row else -120.0) for index, row in enumerate(rows)]


def speech(rows: Sequence[tuple[float, ...]], start: int = 0, window: int | None = None) -> list[Prediction]:
    """One utterance with voice activity detection, that says a row each hop; a network with states, or a window."""
    found = []
    for index, row in enumerate(rows):
        end = start + (index + 1) * HOP
        first = start if window is None else max(start, end - window)
        found.append(Prediction(first, end, tuple(row), -20.0, voice=(first, end)))
    return found


def heard_so_far(hops: Sequence[tuple[float, ...]], window: int | None = None) -> list[tuple[float, ...]]:
    """What a network says that takes the mean of the log-probabilities of all hops so far, or of a window of hops."""
    found = []
    for index in range(len(hops)):
        first = 0 if window is None else max(0, index + 1 - window)
        mean = np.log(np.array(hops[first : index + 1])).mean(axis=0)
        found.append(tuple((np.exp(mean) / np.exp(mean).sum()).tolist()))
    return found


def test_an_utterance_is_one_decision_that_rests_on_all_of_it() -> None:
    rows = heard_so_far([B, A, A, A, A, A])
    silence, decision = finals(run([*speech(rows, start=2 * HOP)]))
    assert (silence.label, silence.start, silence.end, silence.utterance) == (SILENCE, 0, 2 * HOP, 0)
    assert (decision.label, decision.start, decision.end, decision.utterance) == ("a", 2 * HOP, 8 * HOP, 1)
    assert decision.probabilities == pytest.approx(rows[-1], abs=0.03), "what the network said when it had heard it"
    assert decision.confidence == max(decision.probabilities)


def test_a_label_is_provisional_until_its_utterance_ends() -> None:
    decider = Decider(LABELS, RATE, DeciderConfig(**PROMPT))
    rows = [*speech([A, (0.7, 0.2, 0.1)]), Prediction(0, 4 * HOP, (), -70.0, voice=(0, 2 * HOP))]
    first, second, end = (decider.push(row) for row in rows)
    assert [(type(event), event.label, event.utterance) for event in first] == [(Provisional, "a", 1)]
    assert second[0].start == 0
    assert second[0].end == 2 * HOP
    assert [(type(event), event.label, event.utterance) for event in end] == [(Decision, "a", 1)]
    assert decider.current is not None
    assert (decider.current.label, decider.current.utterance, decider.posterior) == (SILENCE, 0, ())
    assert decider.flush() == [Decision(2 * HOP, 4 * HOP, SILENCE, 0.0)]


def test_the_first_label_waits_until_it_is_clear_or_enough_was_heard() -> None:
    weak, clear = (0.4, 0.3, 0.3), (0.7, 0.2, 0.1)
    options = {"listen_s": 0.6, "listen_confidence": 0.6, "hold_s": 0.0}
    shown = [event.label for event in run(speech([weak] * 3), **options) if isinstance(event, Provisional)]
    assert shown == [TOO_SHORT, "a"]
    shown = [event.label for event in run(speech([clear] * 2), **options) if isinstance(event, Provisional)]
    assert shown[0] == "a"


def live_labels(rows: Sequence[tuple[float, ...]], **config: float) -> list[str]:
    decider = Decider(LABELS, RATE, DeciderConfig(**{**PROMPT, **config}))
    found = []
    for prediction in speech(rows):
        decider.push(prediction)
        assert decider.current is not None
        found.append(decider.current.label)
    return found


def test_a_rival_must_lead_clearly_and_for_a_while() -> None:
    assert live_labels([A, B, B, B], switch_cost=0.0) == ["a", "b", "b", "b"]
    narrow = (0.42, 0.46, 0.12)
    assert live_labels([A, narrow, narrow], switch_cost=0.5) == ["a", "a", "a"]
    near = (0.3, 0.6, 0.1)
    assert live_labels([A, near, near, near], switch_cost=0.5) == ["a", "b", "b", "b"]
    assert live_labels([A, near, near, near], switch_cost=0.5, hold_s=0.5) == ["a", "a", "a", "b"]
    assert live_labels([A, near, A, near], switch_cost=0.5, hold_s=0.3) == ["a", "a", "a", "a"]


def test_what_falls_below_the_threshold_is_not_shown_any_longer() -> None:
    assert live_labels([A, (0.29, 0.6, 0.11)], abstain_below=0.3, hold_s=9.0) == ["a", "b"]
    assert live_labels([A, EVEN], abstain_below=0.4) == ["a", UNCERTAIN]


def test_steadied_settings_show_later_and_change_less() -> None:
    one, other = (0.65, 0.25, 0.1), (0.25, 0.65, 0.1)
    rows = [one, other, other, other, one, one, one, other, other, other, one]
    prompt = DeciderConfig(listen_s=0.0, switch_cost=0.5)
    steady = prompt.steadied()

    def labels(config: DeciderConfig) -> list[str]:
        decider = Decider(LABELS, RATE, config)
        found = []
        for row in speech(rows):
            decider.push(row)
            found.append(decider.current.label if decider.current else "")
        return found

    def changes(shown: list[str]) -> int:
        return sum(x != y for x, y in itertools.pairwise(shown))

    assert changes(labels(steady)) < changes(labels(prompt))
    assert steady.change_distance == prompt.change_distance


def test_an_utterance_is_cut_where_the_emotion_changes() -> None:
    rows = speech([A] * 20)
    rows[15] = replace(rows[15], start=10 * HOP, probabilities=B, changes=(Change(10 * HOP, A),))
    for place in range(16, 20):
        rows[place] = replace(rows[place], start=10 * HOP, probabilities=B)
    decider = Decider(LABELS, RATE, DeciderConfig(**PROMPT))
    events = [event for row in rows for event in decider.push(row)]
    assert not finals(events), "what follows may turn out to be the same"
    newest = decider.current
    assert newest is not None
    assert (newest.label, newest.start) == ("b", 10 * HOP)
    events += decider.flush()
    assert spans(events) == [("a", 0, 10 * HOP), ("b", 10 * HOP, 20 * HOP)]
    first, second = finals(events)
    assert first.utterance == second.utterance == 1
    assert (first.probabilities, second.probabilities) == (pytest.approx(A), pytest.approx(B))


def test_parts_with_one_label_are_one_and_a_part_that_claims_nothing_joins_its_neighbour() -> None:
    rows = speech([A] * 20)
    rows[15] = replace(rows[15], changes=(Change(10 * HOP, EVEN),))
    (only,) = finals(run(rows, hangover_s=0.0, abstain_below=0.4))
    assert (only.label, only.start, only.end) == ("a", 0, 20 * HOP)
    assert max(EVEN) < only.confidence < max(A)


def test_changes_outside_of_the_open_utterance_are_ignored() -> None:
    rows = speech([A] * 4)
    rows[2] = replace(rows[2], changes=(Change(0, B), Change(40 * HOP, B)))
    assert spans(run(rows, hangover_s=0.0)) == [("a", 0, 4 * HOP)]


def test_the_fullest_windows_are_averaged() -> None:
    rows = speech([B, B, A, A, (0.6, 0.2, 0.2)], window=3 * HOP)
    only, _ = finals(run([*rows, Prediction(3 * HOP, 6 * HOP, B, -70.0, voice=(0, 5 * HOP))], hangover_s=0.0))
    mean = np.exp(np.log([A, A, (0.6, 0.2, 0.2)]).mean(axis=0))
    assert only.probabilities == pytest.approx((mean / mean.sum()).tolist())


def test_too_little_is_said_to_be_too_little_never_silence() -> None:
    unheard = [Prediction(0, HOP, (), -20.0, voice=(1_000, 2_500)), Prediction(0, 5 * HOP, (), -70.0)]
    assert spans(run(unheard, hangover_s=0.0)) == [
        (SILENCE, 0, 1_000),
        (TOO_SHORT, 1_000, 2_500),
        (SILENCE, 2_500, 5 * HOP),
    ]
    (decision,) = finals(run(speech([EVEN]), abstain_below=0.5))
    assert (decision.label, decision.utterance) == (TOO_SHORT, 1)
    assert decision.confidence == pytest.approx(0.34, abs=0.01), "with what was heard"
    assert [d.label for d in finals(run(speech([EVEN] * 8), abstain_below=0.5))] == [UNCERTAIN]
    assert [d.label for d in finals(run(speech([A]), abstain_below=0.5))] == ["a"], "short, and clear"


def test_digital_silence_claims_nothing() -> None:
    assert run(loud([()] * 4)) == [Decision(0, 4 * HOP, SILENCE, 0.0)]


def test_a_pause_ends_an_utterance_and_a_short_one_does_not() -> None:
    def talk(pause: int) -> list[tuple[str, int, int]]:
        rows = [A] * 4 + [()] * pause + [B] * 4
        return spans(run(loud(rows), silence_s=0.5, hangover_s=0.0))

    assert talk(1) in ([("a", 0, 9 * HOP)], [("b", 0, 9 * HOP)])
    assert talk(3) == [("a", 0, 4 * HOP), (SILENCE, 4 * HOP, 7 * HOP), ("b", 7 * HOP, 11 * HOP)]


def test_a_new_voice_in_the_window_ends_the_utterance_before_it() -> None:
    rows = [*speech([A, A]), *speech([B, B, B], start=4 * HOP)]
    assert spans(run(rows, hangover_s=0.0, silence_s=9.0)) == [
        ("a", 0, 2 * HOP),
        (SILENCE, 2 * HOP, 4 * HOP),
        ("b", 4 * HOP, 7 * HOP),
    ]


def test_the_end_of_a_voice_is_moved_back_by_the_hangover() -> None:
    rows = [*speech([A] * 4), Prediction(0, 8 * HOP, (), -70.0)]
    assert spans(run(rows, hangover_s=0.1)) == [("a", 0, 4 * HOP - 1_600), (SILENCE, 4 * HOP - 1_600, 8 * HOP)]


def test_endless_speech_is_final_in_time_and_needs_no_more_memory() -> None:
    decider = Decider(LABELS, RATE, DeciderConfig(limit_s=5.0, **PROMPT))
    found: list[Decision] = []
    most = 0
    for index in range(400):
        end = (index + 1) * HOP
        row = A if index // 60 % 2 == 0 else B
        found += finals(decider.push(Prediction(max(0, end - 3 * RATE), end, row, -20.0, voice=(0, end))))
        assert decider._utterance is not None
        most = max(most, len(decider._utterance.parts))
        assert end - decider.settled <= 5.0 * RATE + HOP
    found += finals(decider.flush())
    assert most == 1
    assert {decision.utterance for decision in found} == {1}
    assert (found[0].start, found[-1].end) == (0, 400 * HOP - 0)
    assert {"a", "b"} <= {decision.label for decision in found}


def test_calibration_depends_on_what_was_heard() -> None:
    config = DeciderConfig(temperature=1.0, onset_temperature=2.0, onset_s=1.0)
    assert config.temperature_at(0.0) == 2.0
    assert config.temperature_at(100.0) == pytest.approx(1.0)
    short, long = (
        finals(run(speech([A] * count), temperature=1.0, onset_temperature=2.0, onset_s=1.0))[0] for count in (1, 20)
    )
    assert short.confidence < long.confidence <= 0.81


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="abstain_below"):
        DeciderConfig(abstain_below=1.0)
    with pytest.raises(ValueError, match="negative"):
        DeciderConfig(hold_s=-1.0)
    with pytest.raises(ValueError, match="positive"):
        DeciderConfig(temperature=0.0)
    with pytest.raises(ValueError, match="change_distance"):
        DeciderConfig(change_distance=1.5)
    with pytest.raises(ValueError, match="listen_confidence"):
        DeciderConfig(listen_confidence=2.0)


@settings(max_examples=200, deadline=None)
@given(predictions=streams(), config=CONFIGS, start=st.sampled_from([0, 2**32]))
def test_provisional_and_final_labels_keep_their_promises(predictions, config, start) -> None:
    decider = Decider(LABELS, RATE, config)
    events: list[Label] = []
    for prediction in predictions:
        events += decider.push(prediction)
        current = decider.current
        assert current is not None
        assert current.label in UNCLAIMED or current.confidence >= config.abstain_below
        assert (current.label == SILENCE) == (current.utterance == 0)
    events += decider.flush()
    decisions = finals(events)
    length = predictions[-1].end if predictions else 0
    # The timeline has no holes and no overlaps, and covers the stream.
    assert sum(decision.end - decision.start for decision in decisions) == length
    assert [d.start for d in decisions] == [0, *(d.end for d in decisions[:-1])][: len(decisions)]
    numbers = [d.utterance for d in decisions if d.utterance]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, len(set(numbers)) + 1))
    for decision in decisions:
        assert (decision.label == SILENCE) == (decision.utterance == 0)
        assert decision.label in UNCLAIMED or decision.confidence >= config.abstain_below
        assert not decision.probabilities or math.isclose(sum(decision.probabilities), 1.0, abs_tol=1e-6)
    # Whatever was provisional becomes final, under the same number, and is not provisional again.
    last_final: dict[int, int] = {}
    for place, event in enumerate(events):
        if isinstance(event, Decision):
            last_final[event.utterance] = place
    for place, event in enumerate(events):
        if isinstance(event, Provisional):
            assert event.utterance in last_final
            assert place < last_final[event.utterance]
    # A stream that starts elsewhere gives the same, shifted.
    shifted = [
        Prediction(
            p.start + start,
            p.end + start,
            p.probabilities,
            p.level_dbfs,
            voice=None if p.voice is None else (p.voice[0] + start, p.voice[1] + start),
            changes=tuple(replace(change, at=change.at + start) for change in p.changes),
        )
        for p in predictions
    ]
    config_of = {name: getattr(config, name) for name in config.__slots__}
    again = spans(run(shifted, start=start, **config_of))
    assert again == [(label, first + start, end + start) for label, first, end in spans(events)]
