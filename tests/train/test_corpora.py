import shutil

import numpy as np
import pytest
import soundfile

from stream_ser.errors import DataError
from stream_ser.train.data import corpora, splits


def test_generated_tree(tiny_crema_d) -> None:
    corpus = corpora.load("crema-d", tiny_crema_d)
    assert len(corpus.clips) == 5 * 2 * 6
    assert {clip.label for clip in corpus.clips} == set(corpora.EMOTIONS)
    clip = next(c for c in corpus.clips if c.path.stem == "1009_IEO_HAP_XX")
    assert (clip.label, clip.speaker, clip.part) == ("happy", "crema-d/1009", "validation")
    assert clip.text == "It's eleven o'clock"
    assert "60 clips, 5 speakers" in corpus.describe()


def test_the_real_corpus(crema_d) -> None:
    corpus = corpora.load("crema-d", crema_d)
    assert (len(corpus.clips), len(corpus.dropped)) == (5_885, 5)
    split = splits.fixed([corpus])
    assert (len(split.train), len(split.validation)) == (5_153, 732)
    assert {c.speaker.split("/")[1] for c in split.validation} == set(corpora.CREMA_D_VALIDATION)


def copy(source, target):
    shutil.copytree(source, target)
    return target


def test_any_audio_suffix(tiny_crema_d, tmp_path) -> None:
    audio = copy(tiny_crema_d, tmp_path / "c") / "AudioWAV"
    wav = audio / "1009_DFA_ANG_XX.wav"
    samples, rate = soundfile.read(wav)
    for suffix in ("flac", "ogg", "mp3"):
        for old in audio.glob("1009_DFA_ANG_XX.*"):
            old.unlink()
        soundfile.write(audio / f"1009_DFA_ANG_XX.{suffix}", samples, rate)
        assert len(corpora.load("crema-d", tmp_path / "c").clips) == 60


def test_defects_are_dropped_and_named(tiny_crema_d, tmp_path) -> None:
    audio = copy(tiny_crema_d, tmp_path / "c") / "AudioWAV"
    soundfile.write(audio / "1076_MTI_SAD_XX.wav", np.zeros(16_000), 16_000)
    corpus = corpora.load("crema-d", tmp_path / "c")
    assert corpus.dropped == (("1076_MTI_SAD_XX", "digital silence"),)
    assert len(corpus.clips) == 60


def test_a_list_of_actors_takes_precedence(tiny_crema_d, tmp_path) -> None:
    root = copy(tiny_crema_d, tmp_path / "c")
    rows = ["actor,split", "1001,validation", "1002,train", "1003,train", "1009,train", "1011,train"]
    (root / "actors.csv").write_text("\n".join(rows))
    split = splits.fixed([corpora.load("crema-d", root)])
    assert {c.speaker for c in split.validation} == {"crema-d/1001"}
    (root / "actors.csv").write_text("\n".join(rows[:-1]))
    with pytest.raises(DataError, match="actor 1011"):
        corpora.load("crema-d", root)
    (root / "actors.csv").write_text("\n".join([*rows, "1001,train"]))
    with pytest.raises(DataError, match="1001 is in two parts"):
        corpora.load("crema-d", root)
    (root / "actors.csv").write_text("name\n1001\n")
    with pytest.raises(DataError, match="columns actor and split"):
        corpora.load("crema-d", root)


@pytest.mark.parametrize("name", ["1001_DFA_ANG.wav", "1001_XXX_ANG_XX.wav", "1001_DFA_JOY_XX.wav", "notes.wav"])
def test_a_name_outside_the_layout_is_refused(tiny_crema_d, tmp_path, name: str) -> None:
    root = copy(tiny_crema_d, tmp_path / "c")
    soundfile.write(root / "AudioWAV" / name, np.zeros(16_000), 16_000)
    with pytest.raises(DataError, match="ACTOR_SENTENCE_EMOTION_INTENSITY"):
        corpora.load("crema-d", root)


def test_missing_folders_are_named(tmp_path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        corpora.load("crema-d", tmp_path / "nowhere")
    with pytest.raises(DataError, match="AudioWAV: no such folder"):
        corpora.load("crema-d", tmp_path)
    (tmp_path / "AudioWAV").mkdir()
    with pytest.raises(DataError, match="no audio file"):
        corpora.load("crema-d", tmp_path)


def test_one_clip_in_two_formats_is_refused(tiny_crema_d, tmp_path) -> None:
    audio = copy(tiny_crema_d, tmp_path / "c") / "AudioWAV"
    soundfile.write(audio / "1009_DFA_ANG_XX.flac", np.zeros(16_000), 16_000)
    with pytest.raises(DataError, match="more than one format"):
        corpora.load("crema-d", tmp_path / "c")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "is needed"),
        (["crema-d"], "expected CORPUS=PATH"),
        (["crema-d="], "expected CORPUS=PATH"),
        (["dreams=x"], "unknown corpus 'dreams'"),
        (["crema-d=x", "crema-d=y"], "given twice"),
    ],
)
def test_data_options(options: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        corpora.parse_data_option(options)


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert corpora.parse_data_option(["crema-d=~/data"]) == [("crema-d", tmp_path / "data")]


def test_speaker_split_is_seeded_and_disjoint(tiny_crema_d) -> None:
    corpus = corpora.load("crema-d", tiny_crema_d)
    first, again, other = (splits.by_speaker([corpus], seed, 0.4) for seed in (1, 1, 2))
    assert first == again
    assert first.validation != other.validation
    assert len(first.train) + len(first.validation) == 60
    splits.check_disjoint(first.train, first.validation)


def test_a_shared_speaker_is_refused(tiny_crema_d) -> None:
    clips = corpora.load("crema-d", tiny_crema_d).clips
    with pytest.raises(DataError, match="is in two parts"):
        splits.check_disjoint(clips[:6], clips[5:])
    with pytest.raises(DataError, match="both are needed"):
        splits.check_disjoint(clips, ())
