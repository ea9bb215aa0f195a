"""Corpora of acted emotions besides CREMA-D: RAVDESS, TESS, SAVEE, EMO-DB, nEMO."""

from __future__ import annotations

import re
from pathlib import Path

from stream_ser.errors import DataError

from .base import EMOTIONS, Clip, Corpus, audio_files, file_in, folder_in, present, read_table, refuse_copies

RAVDESS_EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
RAVDESS_SENTENCES = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
RAVDESS_DEFECTS = {"03-01-03-01-02-02-07": "same audio as 03-01-03-01-02-01-07"}
RAVDESS_VALIDATION = (17, 18, 19, 20)
_RAVDESS_FOLD_ACTORS = 4
_RAVDESS_NAME = re.compile(r"03-(?P<channel>0[12])-(?P<emotion>0[1-8])-0[12]-(?P<sentence>0[12])-0[12]-(?P<actor>\d\d)")

#: Of the file names; ``ps`` is the pleasant surprise.
TESS_EMOTIONS = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happy",
    "neutral": "neutral",
    "ps": "surprise",
    "sad": "sad",
}
#: One file of the official archive is called ``OA_bite_neutral.wav``.
_TESS_SPEAKERS = {"OAF": "OAF", "YAF": "YAF", "OA": "OAF"}

SAVEE_EMOTIONS = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happy",
    "n": "neutral",
    "sa": "sad",
    "su": "surprise",
}
_SAVEE_SPEAKERS = ("DC", "JE", "JK", "KL")
_SAVEE_NAME = re.compile(r"(?:(?P<speaker>DC|JE|JK|KL)_)?(?P<emotion>sa|su|[adfhn])\d\d")

#: German initials: Wut, Ekel, Angst, Langeweile, Freude, neutral, Trauer.
EMO_DB_EMOTIONS = {
    "W": "anger",
    "E": "disgust",
    "A": "fear",
    "L": "boredom",
    "F": "happy",
    "N": "neutral",
    "T": "sad",
}
EMO_DB_SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank",
    "a02": "Das will sie am Mittwoch abgeben",
    "a04": "Heute abend könnte ich es ihm sagen",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück",
    "a07": "In sieben Stunden wird es soweit sein",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen",
}
_EMO_DB_NAME = re.compile(r"(?P<speaker>\d\d)(?P<sentence>[ab]\d\d)(?P<emotion>[WLEAFTN])[a-z]")

#: Of the file names. There is no disgust.
NEMO_EMOTIONS = {
    "anger": "anger",
    "fear": "fear",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprised": "surprise",
}
NEMO_VALIDATION = ("IC0", "WR0")
_NEMO_NAME = re.compile(r"(?P<speaker>[A-Z]{2}\d)_(?P<emotion>[a-z]+)_(?P<sentence>\d+)")

_WITH_SURPRISE = (*EMOTIONS, "surprise")


def ravdess(root: Path) -> Corpus:
    """RAVDESS speech (Livingstone & Russo 2018): ``Actor_NN/03-01-EMOTION-INTENSITY-STATEMENT-REPETITION-NN.wav``.

    Folds are groups of four consecutive actors, the usual protocol; the fixed list validates on actors 17 to 20.
    Songs (vocal channel 02), which may lie in the same folders, are passed over.

    Raises:
        DataError: no ``Actor_NN`` folder, or a file name that does not follow the layout.
    """
    folders = sorted(path for path in root.glob("Actor_[0-9][0-9]") if path.is_dir())
    if not folders:
        raise DataError(f"{root / 'Actor_01'}: no such folder; expected RAVDESS' Audio_Speech_Actors, unpacked")
    clips, dropped = [], []
    for folder in folders:
        for path in audio_files(folder):
            match = _RAVDESS_NAME.fullmatch(path.stem)
            if not match or match["actor"] != folder.name[-2:]:
                raise DataError(f"{path}: name is not 03-01-EMOTION-INTENSITY-STATEMENT-REPETITION-ACTOR in its folder")
            if match["channel"] == "02":
                continue
            if path.stem in RAVDESS_DEFECTS:
                dropped.append((path.stem, RAVDESS_DEFECTS[path.stem]))
                continue
            actor = int(match["actor"])
            clips.append(
                Clip(
                    path,
                    RAVDESS_EMOTIONS[match["emotion"]],
                    f"ravdess/{match['actor']}",
                    "validation" if actor in RAVDESS_VALIDATION else "train",
                    RAVDESS_SENTENCES[match["sentence"]],
                    (actor - 1) // _RAVDESS_FOLD_ACTORS + 1,
                )
            )
    if not clips:
        raise DataError(f"{root}: only songs (vocal channel 02); expected the speech files (vocal channel 01)")
    return Corpus("ravdess", tuple(clips), tuple(RAVDESS_EMOTIONS.values()), "CC BY-NC-SA 4.0", tuple(dropped))


def tess(root: Path) -> Corpus:
    """TESS (Pichora-Fuller & Dupuis 2020): ``OAF_angry/OAF_back_angry.wav``; two women, 200 words.

    The folders' names differ between copies and are not read; all files in one folder is as good.

    Raises:
        DataError: no audio, the corpus twice, or a file name that does not follow the layout.
    """
    files = audio_files(root, deep=True)
    refuse_copies(files)
    clips = []
    for path in files:
        fields = path.stem.split("_")
        if len(fields) != 3 or fields[0] not in _TESS_SPEAKERS or fields[2].lower() not in TESS_EMOTIONS:
            raise DataError(f"{path}: name is not OAF_WORD_EMOTION or YAF_WORD_EMOTION with TESS' codes")
        speaker, word, emotion = fields
        label = TESS_EMOTIONS[emotion.lower()]
        clips.append(Clip(path, label, f"tess/{_TESS_SPEAKERS[speaker]}", text=f"Say the word {word}"))
    return Corpus("tess", tuple(clips), _WITH_SURPRISE, "CC BY-NC-ND 4.0")


def savee(root: Path) -> Corpus:
    """SAVEE (Jackson & Haq 2014): ``AudioData/DC/a01.wav``, or ``ALL/DC_a01.wav``; four men.

    Raises:
        DataError: no audio, the corpus twice, or a file name that does not follow the layout.
    """
    names = [name for name in ("AudioData", "ALL") if (root / name).is_dir()]
    if len(names) == 2:
        raise DataError(f"{root}: AudioData and ALL hold the same recordings; give the folder of one of them")
    clips = []
    for path in audio_files(root / names[0] if names else root, deep=True):
        match = _SAVEE_NAME.fullmatch(path.stem)
        speaker = match["speaker"] or path.parent.name if match else ""
        if not match or speaker not in _SAVEE_SPEAKERS:
            raise DataError(f"{path}: neither DC/a01.wav nor DC_a01.wav with SAVEE's codes (DC, JE, JK, KL; a d f h n)")
        clips.append(Clip(path, SAVEE_EMOTIONS[match["emotion"]], f"savee/{speaker}"))
    return Corpus("savee", tuple(clips), _WITH_SURPRISE, "free for research, on registration")


def emo_db(root: Path) -> Corpus:
    """EMO-DB (Burkhardt et al. 2005): ``wav/03a01Fa.wav`` = speaker, sentence, emotion, version.

    Raises:
        DataError: missing folder, or a file name that does not follow the layout.
    """
    clips = []
    for path in audio_files(folder_in(root, "wav")):
        match = _EMO_DB_NAME.fullmatch(path.stem)
        if not match or match["sentence"] not in EMO_DB_SENTENCES:
            raise DataError(
                f"{path}: name is not SPEAKER SENTENCE EMOTION VERSION, such as 03a01Fa, with EMO-DB's codes"
            )
        text = EMO_DB_SENTENCES[match["sentence"]]
        clips.append(Clip(path, EMO_DB_EMOTIONS[match["emotion"]], f"emo-db/{match['speaker']}", text=text))
    return Corpus("emo-db", tuple(clips), present(("anger", "boredom", *EMOTIONS[1:]), clips), "free, no licence given")


def nemo(root: Path) -> Corpus:
    """Corpus nEMO (Christop 2024), Polish: ``samples/SPEAKER_EMOTION_SENTENCE.wav`` and ``data.tsv`` with the texts.

    The fixed list validates on the speakers IC0 (a woman) and WR0 (a man).

    Raises:
        DataError: missing folder or table, a file name that does not follow the layout, or a table that does not
            fit the files.
    """
    table = file_in(root, "data.tsv")
    files = {path.stem: path for path in audio_files(root / "samples")}
    texts: dict[str, str] = {}
    for line, row in read_table(table, ("file_id", "raw_text"), tabs=True):
        stem = Path(row["file_id"]).stem
        if stem not in files:
            raise DataError(f"{root / 'samples' / row['file_id']}: no such file; {table.name} lists it")
        if stem in texts:
            raise DataError(f"{table}, line {line}: {row['file_id']} is listed twice; download the table again")
        texts[stem] = row["raw_text"]
    clips = []
    for stem, path in files.items():
        match = _NEMO_NAME.fullmatch(stem)
        if not match or match["emotion"] not in NEMO_EMOTIONS:
            raise DataError(f"{path}: name is not SPEAKER_EMOTION_SENTENCE, such as IC0_anger_1, with nEMO's emotions")
        if stem not in texts:
            raise DataError(f"{path}: not listed in {table}")
        part = "validation" if match["speaker"] in NEMO_VALIDATION else "train"
        clips.append(Clip(path, NEMO_EMOTIONS[match["emotion"]], f"nemo/{match['speaker']}", part, texts[stem]))
    return Corpus("nemo", tuple(clips), tuple(NEMO_EMOTIONS.values()), "CC BY-NC-SA 4.0")
