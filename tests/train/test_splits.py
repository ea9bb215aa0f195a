"""Whatever the corpora are: parts are disjoint and complete, and share no speaker unless the name says so."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ser.errors import DataError
from stream_ser.train.data import labels, splits
from stream_ser.train.data.corpora import EMOTIONS, Clip, Corpus
from stream_ser.train.data.splits import Split


def corpus_of(name: str, clips_of: list[int], fold_size: int = 0) -> Corpus:
    """A corpus whose speaker ``k`` has ``clips_of[k]`` clips; groups of ``fold_size`` speakers are official folds."""
    clips = [
        Clip(
            Path(f"{name}/{speaker}-{number}.wav"),
            EMOTIONS[(speaker + number) % 6],
            f"{name}/{speaker}",
            "validation" if speaker == 0 else "train",
            fold=speaker // fold_size + 1 if fold_size else 0,
        )
        for speaker, count in enumerate(clips_of)
        for number in range(count)
    ]
    return Corpus(name, tuple(clips), EMOTIONS, "none")


CORPORA = st.lists(st.lists(st.integers(1, 12), min_size=6, max_size=15), min_size=1, max_size=3).map(
    lambda sizes: [corpus_of(f"corpus-{index}", clips_of) for index, clips_of in enumerate(sizes)]
)
SEEDS = st.integers(0, 2**32 - 1)


def check_complete(split: Split, corpora: list[Corpus]) -> None:
    """Every clip is in exactly one part, and an overlap is neither hidden nor claimed without cause."""
    parts = [*split.train, *split.validation, *split.test]
    assert Counter(parts) == Counter(clip for corpus in corpora for clip in corpus.clips)
    assert split.overlap == (splits.OVERLAP in split.name)
    if not split.overlap:
        speakers = [{clip.speaker for clip in part} for part in (split.train, split.validation, split.test)]
        assert sum(map(len, speakers)) == len(set.union(*speakers))


@settings(deadline=None, max_examples=25)
@given(CORPORA, SEEDS, st.sampled_from(labels.SPLITS))
def test_parts_are_disjoint_and_complete(corpora: list[Corpus], seed: int, kind: labels.SplitKind) -> None:
    fold = 1 if kind in labels.FOLDED else None
    try:
        split = labels.make_split(corpora, kind, seed, fold)
    except DataError as error:
        # 5 % of 70 % of a handful of clips may be none.
        assert kind == "random-70-30"
        assert "0 validation clips" in str(error)  # noqa: PT017 - raised for some examples only
        return
    check_complete(split, corpora)
    assert split == labels.make_split(corpora, kind, seed, fold)


@settings(deadline=None, max_examples=25)
@given(CORPORA, SEEDS, st.integers(2, 6))
def test_folds_cover_every_clip_once(corpora: list[Corpus], seed: int, count: int) -> None:
    every = [splits.fold(corpora, number, seed, count) for number in range(1, splits.fold_count(corpora, count) + 1)]
    assert len(every) == count
    for split in every:
        check_complete(split, corpora)
    held = Counter(clip for split in every for clip in split.validation)
    assert held == Counter(clip for corpus in corpora for clip in corpus.clips)


@settings(deadline=None, max_examples=25)
@given(CORPORA, SEEDS)
def test_nested_folds_test_on_what_folds_hold_out(corpora: list[Corpus], seed: int) -> None:
    for number in range(1, 6):
        nested = splits.fold(corpora, number, seed, nested=True)
        check_complete(nested, corpora)
        assert nested.test == splits.fold(corpora, number, seed).validation
        assert nested.validation == splits.fold(corpora, number % 5 + 1, seed).validation


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(40, 90), min_size=3, max_size=6), SEEDS)
def test_random_parts_have_their_share_of_every_label(clips_of: list[int], seed: int) -> None:
    corpus = corpus_of("c", clips_of)
    for shares, wanted in splits.RANDOM_SHARES.items():
        split = splits.random_clips([corpus], seed, shares)
        for label in EMOTIONS:
            total = sum(clip.label == label for clip in corpus.clips)
            for part, share in zip((split.train, split.validation, split.test), wanted, strict=True):
                assert abs(sum(clip.label == label for clip in part) - share * total) <= 1.0


def test_names_tell_the_protocol() -> None:
    corpora = [corpus_of("c", [12] * 10)]
    names = {
        kind: labels.make_split(corpora, kind, 3, 2 if kind in labels.FOLDED else None).name for kind in labels.SPLITS
    }
    assert names["fixed"] == "fixed list, speaker-disjoint (9 train / 1 validation)"
    assert names["speaker"] == "by speaker, seed 3 (1 validation speakers)"
    assert names["folds"].startswith(
        "fold 2 of 5, by speaker, seed 3, held out for validation, speaker-disjoint (8 train"
    )
    assert names["nested"].endswith(
        "validation on fold 3, test on this one, speaker-disjoint (6 train / 2 validation / 2 test)"
    )
    assert names["random"] == "random clips 70/15/15, seed 3, speakers overlap"
    assert names["random-70-30"] == "random clips 70/30, seed 3, speakers overlap"


def test_the_seed_draws_speakers_folds_and_clips() -> None:
    corpora = [corpus_of("c", [12] * 10)]
    for kind in ("speaker", "folds", "random"):
        fold = 1 if kind == "folds" else None
        parts = {labels.make_split(corpora, kind, seed, fold).validation for seed in range(4)}
        assert len(parts) > 1, kind


def test_official_folds_are_kept() -> None:
    corpus = corpus_of("c", [2] * 12, fold_size=4)
    split = splits.fold([corpus], 2, seed=7)
    assert {clip.fold for clip in split.validation} == {2}
    assert "fold 2 of 3, official" in split.name
    with pytest.raises(DataError, match="comes with 3 folds, not 5"):
        splits.fold([corpus], 1, 0, 5)
    with pytest.raises(DataError, match="fold 4: expected 1 to 3"):
        splits.fold([corpus], 4, 0)
    joined = splits.fold([corpus, corpus_of("d", [1] * 7)], 1, 0)
    assert "fold 1 of 3, by speaker, seed 0 + official" in joined.name


def test_official_folds_that_share_a_recording_say_so() -> None:
    # Four recordings of ESC-50 gave clips to two folds each.
    corpus = corpus_of("c", [1] * 9, fold_size=3)
    moved = replace(corpus.clips[0], speaker=corpus.clips[-1].speaker)
    corpus = replace(corpus, clips=(moved, *corpus.clips[1:]))
    split = splits.fold([corpus], 1, 0)
    assert "1 speakers or recordings in both" in split.name
    assert split.overlap


def test_a_fixed_list_of_clips_without_speakers_is_used_and_labelled() -> None:
    # A manifest with a split and no speakers, or a folder of parts, could not be trained on at all.
    named = corpus_of("csv", [2] * 4)
    clips = tuple(
        replace(clip, speaker="csv/unknown") if index % 3 == 0 else clip for index, clip in enumerate(named.clips)
    )
    corpus = replace(named, clips=clips)
    split = splits.fixed([corpus])
    check_complete(split, [corpus])
    assert split.overlap
    assert {clip.part for clip in split.train} == {"train"}
    assert split.name == "fixed list, clips of unknown speakers: speakers overlap"
    known = replace(clips[-1], speaker=clips[1].speaker)
    with pytest.raises(DataError, match="csv/0 is in two parts"):
        splits.fixed([replace(corpus, clips=(*clips[:-1], known))])
    assert not splits.fixed([replace(corpus, clips=clips[1:3] + clips[4:6])]).overlap


def test_an_official_test_part_stays_one() -> None:
    corpus = corpus_of("c", [3] * 8)
    clips = tuple(replace(clip, part="test") if clip.speaker in {"c/5", "c/6"} else clip for clip in corpus.clips)
    corpus = replace(corpus, clips=clips)
    for split in (splits.fixed([corpus]), splits.by_speaker([corpus], 0)):
        check_complete(split, [corpus])
        assert {clip.speaker for clip in split.test} == {"c/5", "c/6"}


def test_what_a_corpus_cannot_give_is_refused() -> None:
    alone, few = corpus_of("alone", [9]), corpus_of("few", [2, 2, 2])
    with pytest.raises(DataError, match="alone has 1 speaker;"):
        splits.by_speaker([few, alone], 0)
    with pytest.raises(DataError, match="few has 3 speakers, too few for 5 folds"):
        splits.fold([few], 1, 0)
    with pytest.raises(DataError, match="nested split needs three"):
        splits.fold([few], 1, 0, 2, nested=True)
    with pytest.raises(DataError, match="0 validation clips"):
        splits.random_clips([corpus_of("tiny", [1])], 0)
    bare = replace(few, clips=tuple(replace(clip, part="") for clip in few.clips))
    with pytest.raises(DataError, match="few has no fixed list"):
        splits.fixed([bare])
    other = replace(few, clips=(*few.clips[:-1], replace(few.clips[-1], speaker="few/0")))
    with pytest.raises(DataError, match="few/0 is in two parts"):
        splits.fixed([other])


def test_a_corpus_left_out_is_the_test_part() -> None:
    first, second = corpus_of("first", [3, 4, 5]), corpus_of("second", [2, 2])
    split = labels.make_split([first, second], "fixed", 0, left_out=["second"])
    assert split.test == second.clips
    assert {*split.train, *split.validation} == set(first.clips)
    assert split.name.endswith("; tested on second, left out of training (2 speakers)")
    with pytest.raises(DataError, match="--leave-out third: not among the corpora; there are first, second"):
        labels.make_split([first, second], "fixed", 0, left_out=["third"])
    with pytest.raises(DataError, match="no corpus is left"):
        labels.make_split([first], "fixed", 0, left_out=["first"])


def test_a_corpus_left_out_shares_no_speaker() -> None:
    first = corpus_of("first", [3, 4])
    second = replace(first, name="second")
    with pytest.raises(DataError, match="in two parts"):
        labels.make_split([first, second], "fixed", 0, left_out=["second"])
