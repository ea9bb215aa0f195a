"""From options to corpora with joined labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_trees import tree

from stream_ser.cli.options import corpora as _corpora
from stream_ser.errors import DataError
from stream_ser.train.data import labels as selection
from stream_ser.train.data.corpora import EMOTIONS, Clip, Corpus


@pytest.fixture
def actors(tmp_path: Path) -> Path:
    """RAVDESS' layout, a clip of each emotion by each of six actors."""
    names = (f"Actor_{n:02}/03-01-{e:02}-01-01-01-{n:02}.wav" for n in range(1, 7) for e in range(1, 9))
    return tree(tmp_path / "ravdess", names)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tree(tmp_path / "own", ["angry/a.wav", "Happy/b.wav", "surprised/c.wav"])


def test_one_corpus_keeps_its_own_labels(actors) -> None:
    (corpus,) = selection.load_corpora([f"ravdess={actors}"])
    assert corpus.labels == ("neutral", "calm", "happy", "sad", "anger", "fear", "disgust", "surprise")
    assert (len(corpus.clips), corpus.unused) == (48, ())


def test_common_labels_leave_out_what_is_not_common(actors) -> None:
    (corpus,) = selection.load_corpora([f"ravdess={actors}"], "common")
    assert corpus.labels == EMOTIONS
    assert corpus.unused == (("calm", 6), ("surprise", 6))
    assert "left out calm 6, surprise 6" in corpus.describe()


def test_several_corpora_get_the_common_labels(actors, own) -> None:
    acted, recorded = selection.load_corpora([f"ravdess={actors}", f"folder={own}"], mapping=["calm=neutral"])
    assert acted.labels == recorded.labels == EMOTIONS
    assert sum(clip.label == "neutral" for clip in acted.clips) == 12
    assert [clip.label for clip in recorded.clips] == ["happy", "anger"]
    assert (acted.unused, recorded.unused) == ((("surprise", 6),), (("surprised", 1),))


def test_own_labels_of_several_are_united(actors, own) -> None:
    corpora = selection.load_corpora([f"ravdess={actors}", f"folder={own}"], "own", ["Happy=happy", "angry=drop"])
    assert corpora[0].labels == corpora[1].labels
    assert corpora[0].labels[-2:] == ("surprise", "surprised")
    assert [clip.label for clip in corpora[1].clips] == ["happy", "surprised"]


def test_the_labels_of_a_model(actors) -> None:
    (corpus,) = selection.load_corpora([f"ravdess={actors}"], ("sad", "anger", "surprise"), [f"{x}=drop" for x in REST])
    assert corpus.labels == ("sad", "anger", "surprise")
    assert len(corpus.clips) == 18


REST = ("neutral", "happy", "fear", "disgust")


def test_two_folders_have_names_and_speakers_of_their_own(tmp_path) -> None:
    folders = [tree(tmp_path / name, ["cat/Ann/a.wav", "dog/Ann/b.wav"]) for name in ("a", "b")]
    first, second = selection.load_corpora([f"folder={folder}" for folder in folders])
    assert (first.name, second.name) == ("folder", "folder-2")
    assert first.labels == second.labels == ("cat", "dog")  # the same in both: no need of common ones
    assert {clip.speaker for clip in (*first.clips, *second.clips)} == {"folder/Ann", "folder-2/Ann"}
    with pytest.raises(DataError, match="folder is given twice"):
        selection.load_corpora([f"folder={folders[0]}"] * 2)


def test_a_recording_in_two_corpora_is_refused(tmp_path, monkeypatch) -> None:
    # Under two names a speaker would come into the training and into the validation part.
    folder = tree(tmp_path / "own", ["cat/Ann/a.wav", "dog/Ben/b.wav"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"a\.wav: is in folder and in folder-2; keep it in one place"):
        selection.load_corpora(["folder=own", f"folder={folder}"])
    (tmp_path / "m.csv").write_text("path,label\nown/cat/Ann/a.wav,cat\n")
    with pytest.raises(DataError, match="is in folder and in csv"):
        selection.load_corpora(["folder=own", "csv=m.csv"])
    (tmp_path / "m.csv").write_text("path,label\nown/dog/Ben/b.wav,cat\nown/../own/dog/Ben/b.wav,dog\n")
    with pytest.raises(DataError, match="is in csv and in csv"):
        selection.load_corpora(["csv=m.csv"])


def test_votes_follow_the_labels() -> None:
    clips = (
        Clip(Path("a.wav"), "a", "s", votes=(0.5, 0.25, 0.25)),
        Clip(Path("b.wav"), "a", "s", votes=(0.0, 0.0, 1.0)),
        Clip(Path("c.wav"), "b", "s"),
    )
    corpus = Corpus("c", clips, ("a", "b", "c"), "")
    merged = selection.relabel(corpus, ("b", "a"), {"c": "b"})
    assert [clip.votes for clip in merged.clips] == [(0.5, 0.5), (1.0, 0.0), ()]
    without = selection.relabel(corpus, ("a", "b"), {"c": "drop"})
    assert [clip.votes for clip in without.clips] == [pytest.approx((2 / 3, 1 / 3)), (), ()]
    assert selection.relabel(corpus, ("a", "b", "c")) is corpus


@pytest.mark.parametrize(
    ("labels", "mapping", "message"),
    [
        ("common", ["calm"], "expected LABEL=LABEL"),
        ("common", ["calm="], "expected LABEL=LABEL"),
        ("common", ["calm=sad", "calm=neutral"], "mapped to sad and to neutral"),
        ("common", ["calm=relaxed"], "not one of the labels anger"),
        ("common", ["relaxed=calm"], "no corpus has that label"),
        (("cat", "dog"), [], "has the label 'neutral', which is none of cat, dog; map it"),
        (("cat",), [f"{x}=drop" for x in (*REST, "sad", "anger", "calm", "surprise")], "no clip is left"),
    ],
)
def test_labels_without_a_place_are_refused(actors, labels, mapping, message: str) -> None:
    with pytest.raises(DataError, match=message):
        selection.load_corpora([f"ravdess={actors}"], labels, mapping)


def test_speech_without_emotions_does_not_join(actors, tmp_path) -> None:
    speech = tree(tmp_path / "speech", ["19/198/19-198-0001.flac"])
    with pytest.raises(DataError, match="librispeech has no emotions"):
        selection.load_corpora([f"ravdess={actors}", f"librispeech={speech}"])


def test_folds_are_asked_for_by_number(actors) -> None:
    corpora = selection.load_corpora([f"ravdess={actors}"])
    with pytest.raises(DataError, match="which fold"):
        selection.make_split(corpora, "folds", 0)
    with pytest.raises(DataError, match="speaker has no folds"):
        selection.make_split(corpora, "speaker", 0, 1)
    assert len(selection.make_split(corpora, "folds", 0, 2).validation) == 16


def test_the_command_line_offers_all_there_is() -> None:
    assert _corpora.SPLITS == selection.SPLITS
