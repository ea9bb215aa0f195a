"""Words from a streaming network: the same in any blocks, with times, forgotten at gaps, ended by silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from generate import voice
from hypothesis import given, settings
from hypothesis import strategies as st
from streamed import LOSSES, RATE, SIZES, Cut, run, with_losses
from tiny_models import STREAMING_CARD
from transcripts import lines, texts, tones

from stream_ser.events import SILENCE, UNCERTAIN, Decision, Gap, Prediction
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime import engine
from stream_ser.transcription.line_decoder import MAX_WORDS, Transcriber, sample_of_step


@pytest.fixture(scope="module")
def loud(speller: Path) -> Recognizer:
    """Hears all that is loud, so that it can be played tones."""
    return Recognizer(engine.load(speller, "cpu"), vad=None)


@pytest.fixture(scope="module")
def listening(speller: Path) -> Recognizer:
    return Recognizer(engine.load(speller, "cpu"))


def test_words_come_as_they_are_said_with_their_times(loud: Recognizer) -> None:
    events = run(loud, Cut([(0, tones("___ABBA FACE_D__"))], [10**6], RATE))
    assert texts(events) == ["ABA FACED"]
    (line,) = [event for event in lines(events) if event.final]
    # What is said begins where its tone does, within a step and the frames that see it.
    for word, first, last in zip(line.words, (3, 8), (7, 14), strict=True):
        assert abs(word.start / RATE - 0.12 * first) <= 0.045
        assert abs(word.end / RATE - 0.12 * last) <= 0.045
        assert 0.5 < word.confidence <= 1.0
    assert line.label in STREAMING_CARD.labels


def test_partial_results_only_grow(loud: Recognizer) -> None:
    events = run(loud, Cut([(0, tones("__ABC DEF FEED A CAB__"))], [10**6], RATE))
    partial = [line for line in lines(events) if not line.final]
    assert len(partial) > 5
    for before, after in zip(partial, lines(events)[1:], strict=False):
        assert after.text.startswith(before.text)
        assert after.words[: len(before.words) - 1] == before.words[:-1]
        assert after.start == before.start
    assert lines(events)[-1].final


@settings(max_examples=12, deadline=None)
@given(text=st.text(" ABCDEF__", min_size=4, max_size=30), losses=LOSSES, sizes=SIZES)
def test_blocks_of_any_size_give_the_same_words(loud: Recognizer, text: str, losses, sizes: list[int]) -> None:
    stretches = with_losses(tones(text + "___"), losses)
    whole = run(loud, Cut(stretches, [10**6], RATE))
    summary = loud.summary()
    assert run(loud, Cut(stretches, sizes, RATE)) == whole
    assert loud.summary() == summary


@settings(max_examples=4, deadline=None)
@given(sizes=SIZES)
def test_so_do_they_with_voice_activity_detection(listening: Recognizer, sizes: list[int]) -> None:
    quiet = np.zeros(RATE, np.float32)
    samples = np.concatenate((voice(1.5, 3), quiet, voice(2.0, 4)))
    whole = run(listening, Cut([(0, samples)], [10**6], RATE))
    assert run(listening, Cut([(0, samples)], sizes, RATE)) == whole
    assert len(texts(whole)) == 2


def test_a_later_start_shifts_every_word(loud: Recognizer) -> None:
    samples = tones("__CAB FED__")
    by = 160 * 3**19
    here, there = (run(loud, Cut([(0, samples)], [4_000], RATE), start) for start in (0, by))
    assert [word.start + by for line in lines(here) for word in line.words] == [
        word.start for line in lines(there) for word in line.words
    ]
    assert texts(here) == texts(there) == ["CAB FED"]


def test_an_emotion_needs_no_words_and_silence_has_neither(loud: Recognizer) -> None:
    events = run(loud, Cut([(0, np.zeros(3 * RATE, np.float32))], [10**6], RATE))
    assert {event.label for event in events if isinstance(event, Decision)} == {SILENCE}
    assert not lines(events)
    assert all(event.probabilities == () for event in events if isinstance(event, Prediction))


def test_a_gap_ends_the_line_and_what_follows_begins_anew(loud: Recognizer) -> None:
    first, second = tones("__CAB"), tones("FED__")
    events = run(loud, Cut([(0, first), (32_000, second)], [10**6], RATE))
    assert [event.length for event in events if isinstance(event, Gap)] == [32_000]
    assert texts(events) == ["CAB", "FED"]
    # Recorded, the loss is zeros: the same words.
    recorded = np.concatenate((first, np.zeros(32_000, np.float32), second))
    assert lines(run(loud, Cut([(0, recorded)], [777], RATE))) == lines(events)
    # The state was reset: after the gap the network says what it says of the second part by itself.
    alone = run(loud, Cut([(0, np.concatenate((np.zeros(len(first) + 32_000, np.float32), second)))], [10**6], RATE))
    last, last_alone = ([e for e in found if isinstance(e, Prediction)][-1] for found in (events, alone))
    assert last == last_alone


def test_a_hop_that_is_skipped_is_a_loss_to_the_network(loud: Recognizer) -> None:
    samples = tones("__CABBED FACE__")
    loud.reset()
    half = len(samples) // 2
    events = loud.push(samples[:half]) + loud.push(samples[half : half + 8_000], behind=True)
    events += loud.push(samples[half + 8_000 :]) + loud.flush()
    assert loud.summary().skipped == 2
    assert len(texts(events)) == 2
    assert "".join(texts(events)) != "CABED FACE"


def test_a_long_pause_ends_a_line(loud: Recognizer) -> None:
    assert texts(run(loud, Cut([(0, tones("__CAB" + 12 * "_" + "FED__"))], [10**6], RATE))) == ["CAB", "FED"]


def test_a_line_is_never_endless() -> None:
    transcriber = Transcriber(STREAMING_CARD)
    steps = np.full((4 * (MAX_WORDS + 5), 8), -20.0, np.float32)
    steps[np.arange(len(steps)), [0, 2, 0, 1] * (MAX_WORDS + 5)] = -0.1
    found = transcriber.push(steps, 10**7) + transcriber.end()
    assert [len(line.words) for line in found if line.final] == [MAX_WORDS, 5]


def test_a_word_may_end_with_the_stream_but_not_behind_it(loud: Recognizer) -> None:
    samples = tones("__CAB")
    events = run(loud, Cut([(0, samples)], [10**6], RATE))
    assert texts(events) == ["CAB"]
    assert max(line.end for line in lines(events)) <= len(samples)


def test_steps_lie_in_the_middle_of_what_their_frames_see() -> None:
    card = replace(STREAMING_CARD, stride=4, delay_frames=6)
    assert sample_of_step(card, 0) == -6 * 160 + 176
    assert sample_of_step(card, 2) == 2 * 160 + 176


def test_the_whole_is_judged_by_what_was_heard_last_of_each_utterance(listening: Recognizer) -> None:
    quiet = np.zeros(RATE, np.float32)
    run(listening, Cut([(0, np.concatenate((voice(2.0, 4), quiet)))], [10**6], RATE))
    alone = listening.summary()
    run(listening, Cut([(0, np.concatenate((voice(2.0, 4), quiet, quiet, quiet)))], [10**6], RATE))
    assert listening.summary().probabilities == alone.probabilities
    assert alone.label in (*STREAMING_CARD.labels, UNCERTAIN)
