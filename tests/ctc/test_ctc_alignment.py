"""Viterbi alignment: against enumeration and torchaudio, and words from it."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from stream_ser.errors import DataError  # noqa: E402
from stream_ser.train.losses.ctc import ENGLISH, Alignment, Vocabulary, brute, ctc_alignment, words  # noqa: E402


def log_probs(frames: int, items: int, classes: int, seed: int = 0) -> np.ndarray:
    scores = 2 * np.random.default_rng(seed).standard_normal((frames, items, classes))
    return scores - np.log(np.exp(scores).sum(axis=2, keepdims=True))


def path_of(alignment: Alignment, frames: int, blank: int) -> list[int]:
    path = [blank] * frames
    for token, start, end in zip(alignment.tokens, alignment.starts, alignment.ends, strict=True):
        path[start:end] = [token] * (end - start)
    return path


@pytest.mark.parametrize(("frames", "classes", "blank"), [(1, 3, 0), (4, 3, 2), (6, 3, 1), (5, 4, 0)])
def test_every_text_of_a_few_frames(frames: int, classes: int, blank: int) -> None:
    """All in one batch: items of different lengths do not see each other."""
    scores = log_probs(frames, 1, classes, frames)
    best = brute.best_paths(scores[:, 0], blank)
    longest = max(map(len, best))
    targets = np.array([[*text, *[99] * (longest - len(text))] for text in best])
    found = ctc_alignment(scores.repeat(len(best), axis=1), targets, [frames] * len(best), list(map(len, best)), blank)
    for (text, (path, score)), alignment in zip(best.items(), found, strict=True):
        assert alignment.tokens == text
        assert alignment.score == pytest.approx(score, abs=1e-12)
        assert tuple(path_of(alignment, frames, blank)) == path
        spans = zip(text, alignment.starts, alignment.ends, alignment.scores, strict=True)
        for token, start, end, mean in spans:
            assert mean == pytest.approx(scores[start:end, 0, token].mean())


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_torchaudio_finds_the_same_path(seed: int, frames: int, classes: int) -> None:
    from torchaudio import functional

    if not hasattr(functional, "forced_align"):
        pytest.skip("this torchaudio has no forced_align")
    rng = np.random.default_rng(seed)
    scores = log_probs(frames, 1, classes, seed)
    target = rng.integers(1, classes, size=rng.integers(1, frames + 1))
    if len(target) + (target[1:] == target[:-1]).sum() > frames:
        return
    (ours,) = ctc_alignment(scores[:, 0], target, frames, len(target))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is to go
        theirs, _ = functional.forced_align(torch.from_numpy(scores[None, :, 0]), torch.from_numpy(target[None]))
    assert path_of(ours, frames, 0) == theirs[0].tolist()


def test_items_of_different_lengths_and_padding() -> None:
    scores = log_probs(30, 3, 5)
    targets = np.array([[1, 1, 2], [4, 0, 0], [0, 0, 0]])
    inputs, lengths = [30, 4, 7], [3, 1, 0]
    together = ctc_alignment(scores, targets, inputs, lengths)
    for item, (frames, count) in enumerate(zip(inputs, lengths, strict=True)):
        (alone,) = ctc_alignment(scores[:frames, item], targets[item, :count], frames, count)
        assert alone == together[item]
    assert together[2] == Alignment((), (), (), (), pytest.approx(scores[:7, 2, 0].sum()))
    scores[4:, 1] = np.nan
    assert ctc_alignment(scores, targets, inputs, lengths) == together
    row = np.array([1, 1, 2, 4])
    assert ctc_alignment(torch.from_numpy(scores), torch.from_numpy(row), torch.tensor(inputs), lengths) == together


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_tensors_of_any_precision(dtype) -> None:
    scores = torch.from_numpy(log_probs(12, 1, 4)).to(dtype).requires_grad_()
    expected = ctc_alignment(scores.detach().double(), [[1, 2]], [12], [2])
    assert ctc_alignment(scores, [[1, 2]], [12], [2]) == expected


def test_repeated_tokens_have_a_blank_between() -> None:
    scores = np.log(np.full((5, 2), [0.01, 0.99]))
    (found,) = ctc_alignment(scores, [1, 1, 1], 5, 3)
    assert found.starts == (0, 2, 4)
    assert found.ends == (1, 3, 5)


def test_no_alignment() -> None:
    scores = log_probs(4, 2, 3)
    with pytest.raises(DataError, match=r"item 1: 3 frames cannot spell 3 tokens, which need 4; the recording is too"):
        ctc_alignment(scores, [[1, 2, 1], [1, 1, 2]], [4, 3], [3, 3])
    scores[:, 0, 2] = -np.inf
    with pytest.raises(DataError, match="item 0: every path of the text has probability 0"):
        ctc_alignment(scores, [[1, 2], [1, 2]], [4, 4], [2, 2])
    scores[1, 1, 0] = np.nan
    with pytest.raises(ValueError, match="log_probs of item 1 hold NaN"):
        ctc_alignment(scores, [[1], [1]], [4, 4], [1, 1])
    with pytest.raises(ValueError, match=r"the blank \(0\) is no target"):
        ctc_alignment(scores, [[1], [0]], [4, 4], [1, 1])
    with pytest.raises(ValueError, match="log_probs are int64, expected floats"):
        ctc_alignment(np.zeros((4, 1, 3), dtype=np.int64), [[1]], [4], [1])


def test_words_and_their_times() -> None:
    tokens = ENGLISH.encode("a bee")
    alignment = Alignment(tokens, (2, 4, 10, 12, 15), (4, 5, 11, 13, 18), (-1.0, -9.0, -2.0, -4.0, -3.0), -50.0)
    first, second = words(alignment, ENGLISH, 0.02)
    assert (first.text, first.start_s, first.end_s, first.score) == ("A", 0.04, 0.08, -1.0)
    assert (second.text, second.start_s, second.end_s) == ("BEE", 0.2, 0.36)
    assert second.score == pytest.approx((-2 - 4 - 3 * 3) / 5)
    assert words(Alignment((), (), (), (), 0.0), ENGLISH, 0.02) == []
    spaces = Alignment((1, 3, 1, 1), (0, 1, 2, 4), (1, 2, 3, 5), (0.0,) * 4, 0.0)
    assert [word.text for word in words(spaces, ENGLISH, 1.0)] == ["A"]
    (whole,) = words(Alignment((1, 2), (0, 1), (1, 2), (0.0, 0.0), 0.0), Vocabulary("AB"), 1.0)
    assert whole.text == "AB"
