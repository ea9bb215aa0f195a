"""The bundled network that says what is said and how."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stream_ser.audio.decode import read_blocks
from stream_ser.errors import DataError
from stream_ser.events import Event, Transcript
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime import engine
from stream_ser.transcription.rescoring import LanguageModel

CLIP = Path(__file__).parents[2] / "stream_ser" / "assets" / "demo.flac"


@pytest.fixture(scope="module")
def multitask() -> engine.Engine:
    return engine.load("multitask", "cpu")


def heard(recognizer: Recognizer, samples: np.ndarray) -> list[Event]:
    recognizer.reset()
    return recognizer.push(samples) + recognizer.flush()


def said(events: list[Event]) -> str:
    return " ".join(event.text for event in events if isinstance(event, Transcript) and event.final)


def test_it_is_small_and_says_what_binds_it_and_how_well_it_does(multitask, call) -> None:
    card = multitask.card
    assert multitask.path.stat().st_size <= 16e6
    assert "ODbL" in card.licence
    assert card.training["held_out_sentences"] == ["Don't forget a jacket", "The surface is slick"]
    assert card.results["crema-d validation"]["uar"] >= 0.65
    assert card.results["validation_greedy_crema-d"]["wer"] <= 0.05
    assert card.results["test_with_language_model_an4"]["wer"] <= 0.15
    assert "WER 13.6 %, CER 8.0 %, 360 words" in " ".join(call("models", "multitask")[1].split())


def test_any_split_gives_the_same_words(multitask) -> None:
    samples = np.concatenate(list(read_blocks(CLIP)))[: 7 * 16_000]
    recognizer = Recognizer(multitask)
    whole = heard(recognizer, samples)
    recognizer.reset()
    cuts = np.sort(np.random.default_rng(0).integers(0, samples.size, 40))
    split = [event for part in np.split(samples, cuts) for event in recognizer.push(part)] + recognizer.flush()
    assert split == whole
    assert said(whole)


def test_its_language_model_goes_by_its_name(multitask) -> None:
    """And it makes words of what is heard."""
    model = LanguageModel.read("multitask")
    assert model.ngrams.order == 3
    with pytest.raises(DataError, match="septr"):
        LanguageModel.read("septr")
    recognizer = Recognizer(multitask, language_model=model)
    samples = np.concatenate(list(read_blocks(CLIP)))[: 7 * 16_000]
    words = said(heard(recognizer, samples)).split()
    assert words
    assert sum(word in model.ngrams.units for word in words) > len(words) / 2


@pytest.mark.slow
def test_its_word_error_rate_on_unseen_speakers(multitask, crema_d) -> None:
    """Every eighth clip of a seen sentence, through the runtime, voice activity detection included."""
    jiwer = pytest.importorskip("jiwer")
    from stream_ser.train.data import corpora
    from stream_ser.train.losses.ctc import ENGLISH

    held_out = {ENGLISH.normalise(text) for text in multitask.card.training["held_out_sentences"]}
    clips = [clip for clip in corpora.load("crema-d", crema_d).clips if clip.part == "validation"]
    clips = [clip for clip in clips if ENGLISH.normalise(clip.text) not in held_out][::8]
    recognizer = Recognizer(multitask)
    texts = [said(heard(recognizer, np.concatenate(list(read_blocks(clip.path))))) for clip in clips]
    assert jiwer.wer([ENGLISH.normalise(clip.text) for clip in clips], texts) <= 0.10
