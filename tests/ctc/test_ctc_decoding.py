"""Greedy decoding in any blocks, beam search against enumeration, language models in it, error rates."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from stream_ser.ctc.lm import units  # noqa: E402
from stream_ser.ctc.ngram import UNKNOWN  # noqa: E402
from stream_ser.train.losses.ctc import (  # noqa: E402
    ENGLISH,
    Fusion,
    GreedyDecoder,
    NgramModel,
    Token,
    Vocabulary,
    beam_search,
    brute,
    ctc_loss,
    error_rates,
    greedy,
)


def log_probs(frames: int, classes: int, seed: int = 0, scale: float = 2.0) -> np.ndarray:
    scores = scale * np.random.default_rng(seed).standard_normal((frames, classes))
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


@given(st.integers(0, 1000), st.integers(0, 60), st.integers(0, 2), st.lists(st.integers(0, 60), max_size=8))
@settings(max_examples=150, deadline=None)
def test_streaming_equals_offline_in_any_blocks(seed: int, frames: int, blank: int, cuts: list[int]) -> None:
    scores = log_probs(frames, 3, seed).astype(np.float32)
    (whole,) = greedy(scores, frames, blank)
    decoder, given_out, seen = GreedyDecoder(blank), [], []
    for start, end in itertools.pairwise(sorted({0, frames, *(min(cut, frames) for cut in cuts)})):
        given_out += decoder.push(scores[start:end])
        now = [*given_out, *([decoder.partial] if decoder.partial else [])]
        for before, after in zip(seen, now, strict=False):  # nothing is taken back
            assert (after.token, after.start) == (before.token, before.start)
            assert after.end >= before.end
        assert len(now) >= len(seen)
        seen = now
    assert given_out + decoder.flush() == whole
    assert decoder.partial is None
    assert decoder.flush() == []
    path = tuple(scores.argmax(axis=1).tolist())
    assert tuple(token.token for token in whole) == brute.merge(path, blank)


def test_tokens_have_spans_and_scores() -> None:
    scores = np.log([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3], [0.1, 0.9]])
    decoder = GreedyDecoder()
    assert decoder.push(scores[:3]) == []
    assert decoder.partial == Token(1, 1, 3, pytest.approx((math.log(0.8) + math.log(0.6)) / 2))
    (first,) = decoder.push(scores[3:])
    assert (first.start, first.end) == (1, 3)
    (last,) = decoder.flush()
    assert (last.start, last.end) == (4, 5)
    assert decoder.push(scores[4:])[:1] == []  # a flush ends the token, the frames go on
    assert decoder.partial.start == 5
    decoder.reset()
    assert decoder.partial is None
    assert decoder.push(scores)[0].start == 1


def test_greedy_of_a_batch() -> None:
    scores = log_probs(20, 6).reshape(20, 2, 3)
    assert greedy(torch.from_numpy(scores), [20, 7]) == [greedy(scores[:, 0], 20)[0], greedy(scores[:7, 1], 7)[0]]
    with pytest.raises(ValueError, match=r"input_lengths\[1\] is 21"):
        greedy(scores, [20, 21])
    with pytest.raises(ValueError, match=r"shape \(3, 1\), expected \(frames, classes\), more than 1"):
        GreedyDecoder(1).push(np.zeros((3, 1)))
    decoder = GreedyDecoder()
    decoder.push(scores[:5, 0])
    scores[7, 0] = np.nan
    with pytest.raises(ValueError, match="NaN in frame 7"):
        decoder.push(scores[5:, 0])


@pytest.mark.parametrize(("frames", "classes", "blank"), [(0, 2, 0), (1, 3, 0), (4, 3, 2), (6, 3, 1), (5, 4, 0)])
def test_an_unpruned_beam_is_the_enumeration(frames: int, classes: int, blank: int) -> None:
    scores = log_probs(frames, classes, frames)
    expected = brute.labellings(scores, blank) if frames else {(): 0.0}
    found = beam_search(scores, blank, beam=10_000, prune=math.inf, n_best=10_000)
    assert {h.tokens: h.log_prob for h in found} == pytest.approx(expected, abs=1e-10)
    assert [h.score for h in found] == sorted((h.log_prob for h in found), reverse=True)


def test_the_best_text_need_not_be_the_best_path() -> None:
    scores = np.log([[0.6, 0.4], [0.6, 0.4]])  # blank blank .36; the token, on three paths, .64
    assert greedy(scores, 2) == [[]]
    (best,) = beam_search(scores)
    assert best.tokens == (1,)
    assert best.log_prob == pytest.approx(math.log(0.64))


def test_a_narrow_beam_finds_better_texts_than_greedy() -> None:
    better = 0
    for seed in range(15):
        scores = torch.from_numpy(log_probs(40, 5, seed, scale=4.0))
        (best,) = beam_search(scores)

        def exact(tokens: tuple[int, ...], scores: torch.Tensor = scores) -> float:
            return -ctc_loss(scores, torch.tensor(tokens), 40, len(tokens), reduction="sum").item()

        found, simple = exact(best.tokens), exact(tuple(token.token for token in greedy(scores, 40)[0]))
        assert best.log_prob <= found + 1e-9  # of the paths, some were dropped
        assert found >= simple
        better += found > simple + 1e-9
    assert better


def test_impossible_classes_and_frames() -> None:
    scores = log_probs(5, 3)
    scores[:, 2] = -np.inf
    found = beam_search(scores, beam=100, n_best=100)
    assert all(2 not in h.tokens for h in found)
    scores[2] = -np.inf
    assert beam_search(scores) == []
    with pytest.raises(ValueError, match="NaN"):
        beam_search(np.full((2, 2), np.nan))
    for options in ({"beam": 0}, {"n_best": 0}, {"prune": -1.0}):
        with pytest.raises(ValueError, match="must be at least"):
            beam_search(log_probs(5, 3), **options)
    with pytest.raises(ValueError, match="with blank 3 a class"):
        beam_search(log_probs(5, 3), blank=3)


SMALL = Vocabulary(" AB")


def expected_scores(scores: np.ndarray, fusion: Fusion) -> dict[tuple[int, ...], float]:
    """What a text is worth: enumerated, its language model asked for the whole at once."""
    found = {}
    for tokens, p in brute.labellings(scores).items():
        text = "".join(map(SMALL.character, tokens))
        said = text.split() if fusion.unit == "word" else units(text, "character")
        found[tokens] = p + fusion.weight * fusion.model.log_prob(said) + fusion.bonus * len(said)
    return found


@pytest.mark.parametrize(("unit", "order"), [("word", 1), ("word", 2), ("character", 3)])
def test_beam_search_with_a_language_model(unit, order: int) -> None:
    texts = ["A BA", "BA A", "A A BA"]
    model = NgramModel.estimate([units(text, unit) for text in texts], order)
    fusion = Fusion(model, SMALL, unit, weight=0.7, bonus=0.3)
    for seed in range(3):
        scores = log_probs(6, 4, seed, scale=1.0)
        found = beam_search(scores, beam=10_000, prune=math.inf, n_best=10_000, scorer=fusion)
        assert {h.tokens: h.score for h in found} == pytest.approx(expected_scores(scores, fusion), abs=1e-9)
        plain = beam_search(scores, beam=10_000, prune=math.inf, n_best=10_000)
        assert {h.tokens: h.log_prob for h in found} == pytest.approx({h.tokens: h.log_prob for h in plain})


def test_a_language_model_corrects_a_spelling() -> None:
    model = NgramModel.estimate([text.split() for text in ("THE DOG SAT", "THE DOG RAN", "A DOG SAT")], 2)
    scores = np.full((15, len(ENGLISH)), 1e-4)
    for frame, character in enumerate("THE DOC SAT"):
        scores[frame, ENGLISH.encode(character)[0] if character != " " else 1] = 0.9
    scores[6, ENGLISH.encode("G")[0]] = 0.6
    scores[11:, 0] = 0.9
    scores = np.log(scores / scores.sum(axis=1, keepdims=True))
    assert ENGLISH.decode(beam_search(scores)[0].tokens) == "THE DOC SAT"
    fused = beam_search(scores, scorer=Fusion(model, ENGLISH, "word", 1.0))
    assert ENGLISH.decode(fused[0].tokens) == "THE DOG SAT"


def test_an_unknown_beginning_is_charged_at_once_and_only_once() -> None:
    model = NgramModel.estimate([["AB"], ["AB", "AB"]], 2)
    fusion = Fusion(model, SMALL, "word", 1.0)
    state = fusion.start()
    state, gained = fusion.extend(state, 3)  # no word begins with B
    assert gained == model.score(model.start(), UNKNOWN)[0]
    state, more = fusion.extend(state, 2)
    assert more == 0
    state, more = fusion.extend(state, 1)
    assert more == 0
    assert gained + fusion.finish(state) == pytest.approx(model.log_prob(["BA"]))


def test_fusion_refuses() -> None:
    model = NgramModel.estimate([["A"]], 1)
    with pytest.raises(ValueError, match="needs a space in the vocabulary; use one of characters"):
        Fusion(model, Vocabulary("AB"), "word")
    with pytest.raises(ValueError, match="unit is 'syllable', expected one of word, character"):
        Fusion(model, SMALL, "syllable")


def test_error_rates() -> None:
    pytest.importorskip("jiwer")
    found = error_rates(["A BEE SAT", "NO"], ["A BE SAT", "NO"])
    assert (found.wer, found.words, found.characters) == (pytest.approx(1 / 4), 4, 11)
    assert found.cer == pytest.approx(1 / 11)
    assert found.wrong_texts == 0.5
    assert error_rates(["A B"], [""]).wer == 1.0
    for references, hypotheses in ((["A"], []), ([], []), ([""], ["A"])):
        with pytest.raises(ValueError, match="expected as many, and words in them"):
            error_rates(references, hypotheses)
