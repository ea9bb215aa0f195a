"""Recordings of the user's own: folders of labels, folders of parts, manifests."""

from __future__ import annotations

import pytest
from corpus_trees import tree

from stream_ser.errors import DataError
from stream_ser.train.data import corpora


def test_a_folder_of_labels(tmp_path) -> None:
    corpus = corpora.load("folder", tree(tmp_path, ["happy/a.wav", "happy/Ann/b.mp3", "angry/Ben/c.flac"]))
    assert corpus.labels == ("angry", "happy")
    assert [(c.label, c.speaker, c.part) for c in corpus.clips] == [
        ("angry", "folder/Ben", ""),
        ("happy", "folder/Ann", ""),
        ("happy", "folder/unknown", ""),
    ]


def test_a_folder_of_parts(tmp_path) -> None:
    corpus = corpora.load("folder", tree(tmp_path, ["train/happy/a.wav", "validation/sad/b.wav"]))
    assert [(c.label, c.part) for c in corpus.clips] == [("happy", "train"), ("sad", "validation")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.wav"], "no sub-folder"),
        (["train/a.wav"], "no sub-folder"),
        (["happy/note.txt"], "no audio file"),
        (["happy/Ann/monday/a.wav"], "too deep"),
    ],
)
def test_a_folder_that_is_none(tmp_path, files: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        corpora.load("folder", tree(tmp_path, files))


def test_a_manifest(tmp_path) -> None:
    tree(tmp_path, ["calls/a.wav", "b.ogg"])
    path = tmp_path / "calls.csv"
    path.write_text('path,label,speaker,text,split\ncalls/a.wav,angry,7,"No, thanks",train\nb.ogg,calm,,,dev\n')
    angry, calm = corpora.load("csv", path).clips
    assert angry == corpora.Clip(tmp_path / "calls/a.wav", "angry", "csv/7", "train", "No, thanks")
    assert calm == corpora.Clip(tmp_path / "b.ogg", "calm", "csv/unknown", "validation", "")
    path.write_text("\ufeffpath,label\nb.ogg,calm\n", encoding="utf-8")  # a spreadsheet's byte order mark
    assert corpora.load("csv", path).clips == (corpora.Clip(tmp_path / "b.ogg", "calm", "csv/unknown"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,emotion\nb.ogg,calm\n", "no column label"),
        ("", "no column path"),
        ("path,label\n", "no row"),
        ("path,label\nb.ogg\n", "line 2: path or label is empty"),
        ("path,label\nb.ogg,calm\nc.ogg,calm\n", r"c.ogg: no such file; .* line 3 names it"),
        ("path,label\nb.ogg,calm\nb.ogg,sad\n", "listed twice"),
        ("path,label,split\nb.ogg,calm,holdout\n", "split 'holdout' is not"),
        ("path,label,split\nb.ogg,calm,train\nd.ogg,calm,\n", "fill all of them or none"),
        ("path,label,fold\nb.ogg,calm,one\n", "fold 'one'"),
        ("path,label\nb.ogg,café\n", "no CSV in UTF-8"),
        ("path,label,text\nb.ogg,calm,No, thanks\n", "line 2: 4 fields for 3 columns; put a field with a comma in"),
    ],
)
def test_a_broken_manifest_is_refused(tmp_path, text: str, message: str) -> None:
    tree(tmp_path, ["b.ogg", "d.ogg"])
    (tmp_path / "m.csv").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=message):
        corpora.load("csv", tmp_path / "m.csv")


def test_a_manifest_is_a_file_and_a_corpus_a_folder(tmp_path) -> None:
    with pytest.raises(DataError, match="no such file; expected a CSV manifest"):
        corpora.load("csv", tmp_path / "m.csv")
    with pytest.raises(DataError, match="a folder; expected a CSV manifest"):
        corpora.load("csv", tmp_path)
    with pytest.raises(DataError, match=r"a\.wav: a file; expected a folder of label sub-folders"):
        corpora.load("folder", tree(tmp_path, ["a.wav"]) / "a.wav")


def test_blanks_around_a_manifests_fields_make_no_second_label(tmp_path) -> None:
    tree(tmp_path, ["a.ogg", "b.ogg"])
    (tmp_path / "m.csv").write_text("path, label ,speaker\na.ogg,calm, Ann\n\nb.ogg,calm ,Ann\n")
    corpus = corpora.load("csv", tmp_path / "m.csv")
    assert corpus.labels == ("calm",)
    assert {clip.speaker for clip in corpus.clips} == {"csv/Ann"}


def test_a_manifests_empty_lines_are_counted(tmp_path) -> None:
    tree(tmp_path, ["a.ogg"])
    (tmp_path / "m.csv").write_text("path,label\na.ogg,calm\n\n\nb.ogg,calm\n")
    with pytest.raises(DataError, match="line 5 names it"):
        corpora.load("csv", tmp_path / "m.csv")


@pytest.mark.parametrize("name", ["val", "dev", "Valid", "validation"])
def test_a_folder_of_parts_by_other_names_is_no_folder_of_labels(tmp_path, name: str) -> None:
    corpus = corpora.load("folder", tree(tmp_path, ["Train/happy/a.wav", f"{name}/sad/b.wav"]))
    assert corpus.labels == ("happy", "sad")
    assert {(c.label, c.speaker, c.part) for c in corpus.clips} == {
        ("happy", "folder/unknown", "train"),
        ("sad", "folder/unknown", "validation"),
    }


def test_a_folder_with_an_audio_name_is_no_clip(tmp_path) -> None:
    tree(tmp_path, ["happy/a.wav", "happy/b.wav/c.flac"])
    assert {clip.path.name for clip in corpora.load("folder", tmp_path).clips} == {"a.wav", "c.flac"}
