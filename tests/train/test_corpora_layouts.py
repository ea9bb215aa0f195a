"""Each corpus' official layout, on trees of empty files: loaders read names and lists, not audio."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from corpus_trees import clip_of, real, tree

from stream_ser.errors import DataError
from stream_ser.train.data import corpora

# CREMA-D's votes; its layout is in test_corpora.py

VOTES = """fileName,A,D,F,H,N,S,numResponses,agreement,emoVote,row
1001_DFA_ANG_XX,6,1,0,1,2,0,10,0.6,A,100001
1001_DFA_ANG_XX,10,0,0,0,0,0,10,1,A,200001
1001_DFA_ANG_XX,0,0,0,5,5,0,10,0.5,H:N,300001
1001_DFA_SAD_XX,0,0,0,0,0,0,0,0,,100002
"""


def test_votes_are_shares_of_the_chosen_raters(tmp_path) -> None:
    stems = ("1001_DFA_ANG_XX", "1001_DFA_SAD_XX", "1001_DFA_HAP_XX")
    root = tree(tmp_path, (f"AudioWAV/{stem}.wav" for stem in stems))
    assert all(not clip.votes for clip in corpora.load("crema-d", root).clips)
    (root / "tabulatedVotes.csv").write_text(VOTES)
    votes = {clip.path.stem: clip.votes for clip in corpora.load("crema-d", root).clips}
    assert votes == {stems[0]: (0.6, 0.1, 0.0, 0.1, 0.2, 0.0), stems[1]: (), stems[2]: ()}
    assert clip_of(corpora.load("crema-d", root, "face"), stems[0]).votes == (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert clip_of(corpora.load("crema-d", root, "both"), stems[0]).votes == (0.0, 0.0, 0.0, 0.5, 0.5, 0.0)


@pytest.mark.parametrize(
    ("old", "new", "message"), [("6,1", "six,1", "not numbers"), ("6,1", "-6,1", "negative"), (",S", ",T", "column S")]
)
def test_a_broken_table_of_votes_is_refused(tmp_path, old: str, new: str, message: str) -> None:
    tree(tmp_path, ["AudioWAV/1001_DFA_ANG_XX.wav"])
    (tmp_path / "tabulatedVotes.csv").write_text(VOTES.replace(old, new))
    with pytest.raises(DataError, match=message):
        corpora.load("crema-d", tmp_path)


def test_the_real_votes(crema_d) -> None:
    voice = corpora.load("crema-d", crema_d)
    assert all(sum(clip.votes) == pytest.approx(1.0) for clip in voice.clips)
    heard = sum(max(zip(clip.votes, voice.labels, strict=True))[1] == clip.label for clip in voice.clips)
    seen = sum(
        max(zip(clip.votes, voice.labels, strict=True))[1] == clip.label
        for clip in corpora.load("crema-d", crema_d, "both").clips
    )
    # Raters find the intended emotion far more often with the face beside the voice (Cao et al. 2014).
    assert heard < 0.55 * len(voice.clips) < seen


# RAVDESS


def test_ravdess(tmp_path) -> None:
    names = ["Actor_01/03-01-02-01-01-01-01.wav", "Actor_20/03-01-08-02-02-02-20.mp3"]
    songs = ["Actor_01/03-02-05-01-01-01-01.wav"]
    corpus = corpora.load("ravdess", tree(tmp_path, names + songs))
    assert corpus.labels == ("neutral", "calm", "happy", "sad", "anger", "fear", "disgust", "surprise")
    calm, surprise = corpus.clips
    assert (calm.label, calm.speaker, calm.part, calm.fold) == ("calm", "ravdess/01", "train", 1)
    assert (surprise.label, surprise.speaker, surprise.part, surprise.fold) == (
        *("surprise", "ravdess/20", "validation"),
        5,
    )
    assert surprise.text == "Dogs are sitting by the door"


@pytest.mark.parametrize("name", ["Actor_01/03-01-09-01-01-01-01.wav", "Actor_02/03-01-01-01-01-01-01.wav"])
def test_ravdess_names_outside_the_layout_are_refused(tmp_path, name: str) -> None:
    with pytest.raises(DataError, match="EMOTION-INTENSITY"):
        corpora.load("ravdess", tree(tmp_path, [name]))


def test_ravdess_without_its_folders(tmp_path) -> None:
    with pytest.raises(DataError, match="Actor_01: no such folder"):
        corpora.load("ravdess", tmp_path)
    with pytest.raises(DataError, match="only songs"):
        corpora.load("ravdess", tree(tmp_path, ["Actor_01/03-02-05-01-01-01-01.wav"]))


def test_the_real_ravdess() -> None:
    corpus = corpora.load("ravdess", real("ravdess"))
    assert (len(corpus.clips), len(corpus.dropped)) == (1_199, 1)
    assert Counter(clip.fold for clip in corpus.clips) == {1: 240, 2: 239, 3: 240, 4: 240, 5: 240}


# TESS, SAVEE, EMO-DB


def test_tess(tmp_path) -> None:
    names = [
        "OAF_angry/OAF_back_angry.wav",
        "OAF_Pleasant_surprise/OAF_back_ps.wav",
        "OAF_neutral/OA_bite_neutral.wav",
        "YAF_sad/YAF_back_sad.wav",
        "YAF_sad/._YAF_back_sad.wav",
    ]
    corpus = corpora.load("tess", tree(tmp_path, names))
    assert {(c.label, c.speaker) for c in corpus.clips} == {
        ("anger", "tess/OAF"),
        ("surprise", "tess/OAF"),
        ("neutral", "tess/OAF"),
        ("sad", "tess/YAF"),
    }
    assert clip_of(corpus, "OAF_back_ps").text == "Say the word back"
    with pytest.raises(DataError, match="keep one copy"):
        corpora.load("tess", tree(tmp_path, ["TESS again/OAF_angry/OAF_back_angry.wav"]))
    with pytest.raises(DataError, match="TESS' codes"):
        corpora.load("tess", tree(tmp_path / "b", ["OAF_joy/OAF_back_joy.wav"]))


@pytest.mark.parametrize("layout", ["AudioData/{0}/{1}.wav", "ALL/{0}_{1}.wav", "{0}/{1}.flac", "{0}_{1}.wav"])
def test_savee(tmp_path, layout: str) -> None:
    names = [layout.format(*name) for name in (("DC", "a01"), ("KL", "sa02"), ("KL", "su03"), ("JE", "n30"))]
    corpus = corpora.load("savee", tree(tmp_path, names))
    assert sorted((c.label, c.speaker) for c in corpus.clips) == [
        ("anger", "savee/DC"),
        ("neutral", "savee/JE"),
        ("sad", "savee/KL"),
        ("surprise", "savee/KL"),
    ]


def test_savee_outside_the_layout(tmp_path) -> None:
    with pytest.raises(DataError, match="SAVEE's codes"):
        corpora.load("savee", tree(tmp_path / "a", ["AudioData/XX/a01.wav"]))
    with pytest.raises(DataError, match="same recordings"):
        corpora.load("savee", tree(tmp_path / "b", ["AudioData/DC/a01.wav", "ALL/DC_a01.wav"]))


def test_emo_db(tmp_path) -> None:
    corpus = corpora.load("emo-db", tree(tmp_path, [f"wav/03a01{code}a.wav" for code in "WLEAFTN"]))
    labels = {clip.path.stem[5]: clip.label for clip in corpus.clips}
    assert labels == {
        "W": "anger",
        "L": "boredom",
        "E": "disgust",
        "A": "fear",
        "F": "happy",
        "T": "sad",
        "N": "neutral",
    }
    assert corpus.clips[0].speaker == "emo-db/03"
    assert corpus.clips[0].text == "Der Lappen liegt auf dem Eisschrank"
    with pytest.raises(DataError, match="EMO-DB's codes"):
        corpora.load("emo-db", tree(tmp_path, ["wav/03a03Wa.wav"]))
    with pytest.raises(DataError, match="wav: no such folder"):
        corpora.load("emo-db", tree(tmp_path / "b", ["03a01Wa.wav"]))


# nEMO

NEMO = "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
NEMO_ROWS = (
    'IC0_happiness_1.wav\thappiness\tKupiłem "nową", szafę.\tkupiłem\t        IC0\tfemale\t27\n'
    "EB0_surprised_90.wav\tsurprised\tInteresuje mnie historia.\tinteresuje\t EB0\tfemale\t27\n"
)
NEMO_FILES = ["samples/IC0_happiness_1.wav", "samples/EB0_surprised_90.ogg"]


def test_nemo(tmp_path) -> None:
    tree(tmp_path, NEMO_FILES)
    (tmp_path / "data.tsv").write_text(NEMO + NEMO_ROWS, encoding="utf-8")
    corpus = corpora.load("nemo", tmp_path)
    assert corpus.labels == ("anger", "fear", "happy", "neutral", "sad", "surprise")
    assert [(c.label, c.speaker, c.part, c.text) for c in corpus.clips] == [
        ("surprise", "nemo/EB0", "train", "Interesuje mnie historia."),
        ("happy", "nemo/IC0", "validation", 'Kupiłem "nową", szafę.'),
    ]


@pytest.mark.parametrize(
    ("files", "rows", "message"),
    [
        (NEMO_FILES[:1], NEMO_ROWS, "EB0_surprised_90.wav: no such file; data.tsv lists it"),
        ([*NEMO_FILES, "samples/KD0_anger_2.wav"], NEMO_ROWS, "KD0_anger_2.wav: not listed in"),
        (NEMO_FILES, NEMO_ROWS + NEMO_ROWS, "line 4: IC0_happiness_1.wav is listed twice"),
        ([*NEMO_FILES, "samples/KD0_disgust_2.wav"], NEMO_ROWS, "SPEAKER_EMOTION_SENTENCE"),
        ([*NEMO_FILES, "samples/IC0_happiness_1.flac"], NEMO_ROWS, "more than one format"),
        (
            NEMO_FILES,
            NEMO_ROWS.replace("\tfemale", "\tfe\tmale"),
            "line 2: 8 fields for 7 columns; a field holds a tab",
        ),
    ],
)
def test_nemo_outside_the_layout(tmp_path, files: list[str], rows: str, message: str) -> None:
    tree(tmp_path, files)
    (tmp_path / "data.tsv").write_text(NEMO + rows, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        corpora.load("nemo", tmp_path)


def test_nemo_without_its_table(tmp_path) -> None:
    with pytest.raises(DataError, match=r"data.tsv: no such file"):
        corpora.load("nemo", tree(tmp_path, NEMO_FILES))


def test_the_real_nemo() -> None:
    corpus = corpora.load("nemo", real("nemo"))
    assert (len(corpus.clips), len({clip.speaker for clip in corpus.clips})) == (2_653, 9)
    assert {clip.speaker for clip in corpus.clips if clip.part == "validation"} == {"nemo/IC0", "nemo/WR0"}
    assert Counter(clip.label for clip in corpus.clips) == {
        "anger": 443,
        "fear": 439,
        "happy": 448,
        "neutral": 476,
        "sad": 451,
        "surprise": 396,
    }
    assert all(clip.text for clip in corpus.clips)


# ESC-50, Speech Commands

ESC = "filename,fold,target,category,esc10,src_file,take\n"


@pytest.mark.parametrize("table", ["meta/esc50.csv", "esc50.csv"])
def test_esc_50(tmp_path, table: str) -> None:
    tree(tmp_path, ["audio/1-7-A-1.ogg", "audio/2-7-B-1.wav", "audio/5-9-A-0.wav", table])
    rows = "1-7-A-1.wav,1,1,hen,True,7,A\n2-7-B-1.wav,2,1,hen,True,7,B\n5-9-A-0.wav,5,0,dog,True,9,A\n"
    (tmp_path / table).write_text(ESC + rows)
    corpus = corpora.load("esc-50", tmp_path)
    assert corpus.labels == ("dog", "hen")
    assert [(c.label, c.speaker, c.fold) for c in corpus.clips] == [
        ("hen", "esc-50/7", 1),
        ("hen", "esc-50/7", 2),
        ("dog", "esc-50/9", 5),
    ]
    (tmp_path / "audio" / "5-9-A-0.wav").unlink()
    with pytest.raises(DataError, match=r"5-9-A-0.wav: no such file"):
        corpora.load("esc-50", tmp_path)


def test_esc_50_and_its_table(tmp_path) -> None:
    tree(tmp_path, ["audio/1-7-A-1.ogg"])
    with pytest.raises(DataError, match=r"meta/esc50.csv: no such file \(nor esc50.csv\)"):
        corpora.load("esc-50", tmp_path)
    (tmp_path / "esc50.csv").write_text(ESC)
    with pytest.raises(DataError, match="not listed"):
        corpora.load("esc-50", tmp_path)


def test_the_real_esc_50() -> None:
    corpus = corpora.load("esc-50", real("esc-50"))
    assert Counter(clip.fold for clip in corpus.clips) == dict.fromkeys(range(1, 6), 400)
    assert set(Counter(clip.label for clip in corpus.clips).values()) == {40}
    assert (corpus.labels[0], corpus.labels[49]) == ("dog", "hand_saw")


def test_speech_commands(tmp_path) -> None:
    names = [f"{word}/0a7c2a8d_nohash_{n}.wav" for word in ("yes", "no") for n in (0, 1)]
    tree(tmp_path, [*names, "no/ffd2ba2f_nohash_0.wav", "_background_noise_/pink_noise.wav"])
    with pytest.raises(DataError, match=r"validation_list.txt: no such file"):
        corpora.load("speech-commands", tmp_path)
    (tmp_path / "validation_list.txt").write_text("yes/0a7c2a8d_nohash_1.wav\n")
    (tmp_path / "testing_list.txt").write_text("no/ffd2ba2f_nohash_0.wav\n")
    corpus = corpora.load("speech-commands", tmp_path)
    assert corpus.labels == ("no", "yes")
    assert [c.part for c in corpus.clips] == ["train", "train", "test", "train", "validation"]
    assert {c.speaker for c in corpus.clips} == {"speech-commands/0a7c2a8d", "speech-commands/ffd2ba2f"}
    (tmp_path / "testing_list.txt").write_text("no/00000000_nohash_0.wav\n")
    with pytest.raises(DataError, match="official list names it"):
        corpora.load("speech-commands", tmp_path)


# LibriSpeech, AN4


def test_librispeech(tmp_path) -> None:
    tree(tmp_path, ["train-clean-100/19/198/19-198-0001.flac", "dev-clean/84/121123/84-121123-0000.flac"])
    (tmp_path / "train-clean-100/19/198/19-198.trans.txt").write_text(
        "19-198-0000 OTHER\n19-198-0001 NORTHANGER ABBEY\n"
    )
    corpus = corpora.load("librispeech", tmp_path)
    assert corpus.labels == ("none",)
    assert [(c.label, c.speaker, c.part, c.text) for c in corpus.clips] == [
        ("none", "librispeech/84", "validation", ""),
        ("none", "librispeech/19", "train", "NORTHANGER ABBEY"),
    ]
    assert corpora.load("librispeech", tmp_path / "train-clean-100").clips[0].part == "train"
    tree(tmp_path, ["train-clean-100/19/198/19-198-0002.flac"])
    with pytest.raises(DataError, match=r"no line for 19-198-0002.flac"):
        corpora.load("librispeech", tmp_path)
    with pytest.raises(DataError, match="SPEAKER-CHAPTER-UTTERANCE"):
        corpora.load("librispeech", tree(tmp_path / "b", ["19/noise.flac"]))


def test_an4(tmp_path) -> None:
    names = ["an4_clstk/fash/an251-fash-b", "an4_clstk/fash/an253-fash-b"]
    tree(tmp_path, [f"wav/{names[0]}.ogg", f"wav/{names[1]}.sph", "wav/an4test_clstk/mjwl/an391-mjwl-b.wav"])
    with pytest.raises(DataError, match=r"an4_train.fileids: no such file"):
        corpora.load("an4", tmp_path)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/an4_train.fileids").write_text("\n".join(names))
    (tmp_path / "etc/an4_train.transcription").write_text(
        "<s> YES </s> (an251-fash-b)\n<s> RUBOUT  G M </s> (an253-fash-b)"
    )
    (tmp_path / "etc/an4_test.fileids").write_text("an4test_clstk/mjwl/an391-mjwl-b\n")
    (tmp_path / "etc/an4_test.transcription").write_text("THREE NINE (an391-mjwl-b)\n")
    assert [(c.speaker, c.part, c.text) for c in corpora.load("an4", tmp_path).clips] == [
        ("an4/fash", "train", "YES"),
        ("an4/fash", "train", "RUBOUT G M"),
        ("an4/mjwl", "test", "THREE NINE"),
    ]
    (tmp_path / f"wav/{names[0]}.ogg").unlink()
    with pytest.raises(DataError, match=r"an251-fash-b.wav: no such file"):
        corpora.load("an4", tmp_path)
    (tmp_path / "etc/an4_test.transcription").write_text("THREE NINE\n")
    with pytest.raises(DataError, match="no such file"):  # the first list's fault comes first
        corpora.load("an4", tmp_path)
    (tmp_path / f"wav/{names[0]}.ogg").touch()
    with pytest.raises(DataError, match=r"not TEXT \(NAME\)"):
        corpora.load("an4", tmp_path)


def test_speechocean762(tmp_path) -> None:
    names = ["WAVE/SPEAKER0003/000030012.WAV", "WAVE/SPEAKER0005/000050079.ogg"]
    corpus = corpora.load("speechocean762", tree(tmp_path, names))
    assert corpus.labels == ("none",)
    assert [(c.label, c.speaker, c.part, c.text) for c in corpus.clips] == [
        ("none", "speechocean762/0003", "", ""),
        ("none", "speechocean762/0005", "", ""),
    ]
    tree(tmp_path, ["train/wav.scp", "test/wav.scp"])
    (tmp_path / "train/wav.scp").write_text("000030012\tWAVE/SPEAKER0003/000030012.WAV\n")
    with pytest.raises(DataError, match=r"000050079.ogg: in neither wav.scp"):
        corpora.load("speechocean762", tmp_path)
    (tmp_path / "test/wav.scp").write_text("000050079\tWAVE/SPEAKER0005/000050079.WAV\n")
    (tmp_path / "test/text").write_text("000050079\tANNIE WANTS SOME\n")
    listed = corpora.load("speechocean762", tmp_path).clips
    assert [(c.part, c.text) for c in listed] == [("train", ""), ("test", "ANNIE WANTS SOME")]


@pytest.mark.parametrize("name", ["WAVE/SPEAKER3/000030012.WAV", "WAVE/SPEAKER0003/000050079.WAV", "WAVE/a.wav"])
def test_speechocean762_outside_the_layout(tmp_path, name: str) -> None:
    with pytest.raises(DataError, match="official layout"):
        corpora.load("speechocean762", tree(tmp_path, [name]))


def test_the_real_speech_corpora() -> None:
    spoken = corpora.load("an4", real("an4"))
    assert (len(spoken.clips), len({c.speaker for c in spoken.clips})) == (948, 74)
    assert all(clip.text and "<" not in clip.text for clip in spoken.clips)
    read = corpora.load("librispeech", real("librispeech-clean"))
    assert (len(read.clips), len({c.speaker for c in read.clips})) == (251, 251)
    learners = corpora.load("speechocean762", real("speechocean762"))
    assert (len(learners.clips), len({c.speaker for c in learners.clips})) == (250, 250)


#: The first lines of the table in CREMA-D's archive, in which the numbers' column has no name.
OFFICIAL_VOTES = """"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote","meanEmoResp"
"100062",6,2,0,0,1,1,"1001_DFA_ANG_XX",10,0.6,"A",54.4
"200062",8,2,0,0,0,0,"1001_DFA_ANG_XX",10,0.8,"A",54.4
"""


@pytest.mark.parametrize("place", ["tabulatedVotes.csv", "processedResults/tabulatedVotes.csv"])
def test_the_official_table_of_votes(tmp_path, place: str) -> None:
    tree(tmp_path, ["AudioWAV/1001_DFA_ANG_XX.wav", place])
    (tmp_path / place).write_text(OFFICIAL_VOTES)
    (clip,) = corpora.load("crema-d", tmp_path).clips
    assert clip.votes == (0.6, 0.2, 0.0, 0.0, 0.1, 0.1)
    assert corpora.load("crema-d", tmp_path, "face").clips[0].votes == (0.8, 0.2, 0.0, 0.0, 0.0, 0.0)
    (tmp_path / place).write_text(OFFICIAL_VOTES.replace("200062", "V62"))
    with pytest.raises(DataError, match="line 3: row number 'V62' does not begin with 1"):
        corpora.load("crema-d", tmp_path)


def test_librispeech_tells_the_part_of_the_working_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tree(tmp_path / "dev-clean", ["84/121123/84-121123-0000.flac"]))
    assert corpora.load("librispeech", Path()).clips[0].part == "validation"
