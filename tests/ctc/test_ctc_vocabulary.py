"""Characters and transcripts."""

import doctest
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from stream_ser.ctc import ENGLISH, Vocabulary, lm, vocabulary
from stream_ser.errors import DataError
from stream_ser.train.losses.ctc import brute


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't forget a jacket.", "DON'T FORGET A JACKET"),
        ("I’m on my way to the ‘meeting’", "I'M ON MY WAY TO THE MEETING'"),
        (
            "the surface is slick -- we'll\tstop\nin a couple of minutes",
            "THE SURFACE IS SLICK WE'LL STOP IN A COUPLE OF MINUTES",
        ),
        ("  well-known,  (really)!  ", "WELL KNOWN REALLY"),
        ("'tis the dogs' ' bowl", "'TIS THE DOGS' BOWL"),
        ("ｆｕｌｌ width, ﬁne", "FULL WIDTH FINE"),
        ("", ""),
        ("...", ""),
    ],
)
def test_transcripts_in_the_vocabularys_form(text: str, expected: str) -> None:
    assert ENGLISH.normalise(text) == expected
    assert ENGLISH.decode(ENGLISH.encode(text)) == expected


def test_case() -> None:
    assert Vocabulary(" abc", "lower").normalise("A Bc") == "a bc"
    assert Vocabulary(" aB", "keep").encode("B a") == (3, 1, 2)


def test_accents_go_where_the_vocabulary_has_none() -> None:
    assert ENGLISH.decode(ENGLISH.encode("naïve café")) == "NAIVE CAFE"
    german = Vocabulary(" acehlnorstßöü", "lower")
    assert german.decode(german.encode("Schöne Straße")) == "schöne straße"


def test_what_is_lacking_is_named() -> None:
    with pytest.raises(DataError, match=r"'take 2 of ж' has '2', 'Ж', which is not among .*; spell it with these"):
        ENGLISH.encode("take 2 of ж")
    with pytest.raises(DataError) as error:
        ENGLISH.encode("1\n\x1b[2J" * 50)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 250


def test_decoding_merges_spaces_and_refuses_the_blank() -> None:
    assert ENGLISH.decode([1, 3, 1, 1, 4, 1]) == "A B"
    for token in (0, -1, len(ENGLISH)):
        with pytest.raises(ValueError, match=rf"class {token} is no character, expected 1\.\.28"):
            ENGLISH.decode([token])


def test_survives_json() -> None:
    german = Vocabulary(" éß'", "lower")
    assert Vocabulary.from_dict(json.loads(json.dumps(german.as_dict()))) == german


@pytest.mark.parametrize(
    ("characters", "case", "message"),
    [
        ("", "upper", "one or more"),
        ("ABA", "upper", "each once"),
        ("A\n", "upper", "printable"),
        ("Ab", "upper", "but the case is upper"),
        ("A", "lower", "but the case is lower"),
        ("A", "title", "case is 'title', expected one of upper, lower, keep"),
    ],
)
def test_impossible_vocabularies(characters: str, case, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vocabulary(characters, case)


@pytest.mark.parametrize("module", [brute, lm, vocabulary])
def test_examples_in_docstrings(module) -> None:
    done = doctest.testmod(module)
    assert (done.failed, done.attempted > 0) == (0, True)


@given(st.text(st.sampled_from("aZ é'’-ß.½\n7ŉ´ΐªǅ\x1b\u0301"), max_size=12))
@settings(max_examples=200, deadline=None)
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = ENGLISH.normalise(text)
    assert ENGLISH.normalise(once) == once
    assert once == " ".join(once.split())
