"""Lines spelt once more with a language model: what it changes, what it leaves alone, and what it cannot be given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from generate import write_wav
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from streamed import RATE, Cut, run
from tiny_models import STREAMING_CARD
from transcripts import texts, tones

from stream_ser.ctc import NgramModel
from stream_ser.errors import DataError, ModelError
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime import engine
from stream_ser.transcription.line_decoder import Transcriber
from stream_ser.transcription.rescoring import LanguageModel, Rescorer

KNOWN = LanguageModel(NgramModel.estimate([["CAB"], ["FACE", "A", "CAB"], ["A", "FACE"]], 2))


def spoken(text: str, doubt: float = 0.4, blanks: int = 2) -> NDArray[np.float32]:
    """``log_probs`` of a text: each character for one step, and with ``doubt`` the one after it in the alphabet."""
    rows = []
    for character in text:
        row = np.full(len(STREAMING_CARD.vocabulary), 1e-6)
        place = STREAMING_CARD.vocabulary.index(character)
        row[place] = 1.0 - doubt
        if character != " ":
            row[place % 7 + 1] += doubt
        rows.append(row)
        rows += [np.where(np.arange(row.size) == STREAMING_CARD.blank, 1.0, 1e-6)] * blanks
    return np.log(np.array(rows)).astype(np.float32)


def spell(log_probs: NDArray[np.float32], language_model: LanguageModel | None, size: int = 5) -> list[str]:
    respell = Rescorer(STREAMING_CARD, language_model) if language_model else None
    transcriber = Transcriber(STREAMING_CARD, respell)
    found = []
    for first in range(0, len(log_probs), size):
        found += transcriber.push(log_probs[first : first + size], 10**7)
    return [" ".join(word.text for word in line.words) for line in [*found, *transcriber.end()] if line.final]


def test_the_language_model_finds_the_word_that_was_nearly_heard() -> None:
    log_probs = spoken("BAB")
    assert spell(log_probs, None) == ["BAB"]
    assert spell(log_probs, KNOWN) == ["CAB"]
    assert spell(log_probs, LanguageModel(KNOWN.ngrams, weight=0.0, bonus=0.0)) == ["BAB"]


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 200), gap=st.integers(30, 60))
def test_each_line_is_spelt_from_its_own_steps(size: int, gap: int) -> None:
    pause = np.log(np.where(np.arange(8) == 0, 1.0, 1e-6)).astype(np.float32)[None].repeat(gap, axis=0)
    log_probs = np.concatenate((pause, spoken("EACE A BAB"), pause, spoken("BAB"), pause))
    assert spell(log_probs, KNOWN, size) == ["FACE A CAB", "CAB"]


def test_words_keep_their_times(speller: Path) -> None:
    loaded = engine.load(speller, "cpu")
    samples = tones("__CAB_ FACE A CAB__")
    greedy = run(Recognizer(loaded, vad=None), Cut([(0, samples)], [10**6], RATE))
    again = run(Recognizer(loaded, vad=None, language_model=KNOWN), Cut([(0, samples)], [500], RATE))
    assert texts(again) == ["CAB FACE A CAB"]
    first, other = (next(e for e in found if getattr(e, "final", False)).words[0] for found in (greedy, again))
    assert (first.text, first.start, first.end) == (other.text, other.start, other.end)


def test_memory_of_a_long_silence_is_small() -> None:
    transcriber = Transcriber(STREAMING_CARD, Rescorer(STREAMING_CARD, KNOWN))
    silent = np.log(np.where(np.arange(8) == 0, 1.0, 1e-6)).astype(np.float32)[None].repeat(6, axis=0)
    for _ in range(100):
        transcriber.push(silent, 10**7)
    assert len(transcriber._kept) < 20


def test_a_model_of_characters_is_one_too() -> None:
    characters = LanguageModel(NgramModel.estimate([list("CAB"), list("CAB"), list("FACE")], 3), weight=2.0)
    assert spell(spoken("BAB"), characters) == ["CAB"]


def test_a_model_in_another_case_or_of_another_network_is_refused(tiny_model: Path) -> None:
    with pytest.raises(DataError, match=r"words \('cab'\) are not spelt with ' ABCDEF', expected upper case"):
        Rescorer(STREAMING_CARD, LanguageModel(NgramModel.estimate([["cab"]], 1)))
    with pytest.raises(ModelError, match="recognises emotion only"):
        Recognizer(engine.load(tiny_model, "cpu"), language_model=KNOWN)


def test_file_takes_an_arpa_file(call, speller: Path, tmp_path: Path, tiny_model: Path) -> None:
    arpa = tmp_path / "lm.arpa"
    KNOWN.ngrams.write(arpa)
    wav = write_wav(tmp_path / "said.wav", tones("__FACE A CAB__"))
    base = ("file", wav, "--provider", "cpu", "--no-vad", "--format", "srt", "--model")
    code, out, err = call(*base, speller, "--lm", arpa, "--lm-weight", "0.5")
    assert (code, err) == (0, "")
    assert "FACE A CAB" in out
    for arguments, said in (
        ((speller, "--lm", tmp_path / "none.arpa"), "cannot be read"),
        ((speller, "--lm", wav), "wav: "),
        ((tiny_model, "--lm", arpa), "recognises emotion only"),
        ((speller, "--lm-weight", "1"), "--lm-weight and --lm-bonus say how much --lm counts"),
    ):
        code, out, err = call(*base, *arguments)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        assert said in err
