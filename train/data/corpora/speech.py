"""Corpora of speech without emotion labels: LibriSpeech, AN4, speechocean762. Their one label is ``none``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from stream_ser.errors import DataError

from .base import AUDIO_SUFFIXES, Clip, Corpus, audio_files, file_in, folder_in, read_lines, refuse_copies

NO_LABEL = "none"

_LIBRISPEECH_NAME = re.compile(r"(?P<speaker>\d+)-(?P<chapter>\d+)-\d+")
_LIBRISPEECH_SET = re.compile(r"(train|dev|test)-(clean|other)")
_SET_PARTS = {"train": "train", "dev": "validation", "test": "test"}
_AN4_LISTS = {"an4_train": "train", "an4_test": "test"}
#: Of AN4's official archive: NIST SPHERE.
_AN4_SUFFIXES = (*AUDIO_SUFFIXES, ".sph")
_SPEECHOCEAN_FOLDER = re.compile(r"SPEAKER(?P<speaker>\d{4})")
_AN4_LINE = re.compile(r"(?P<text>.*?)\s*\((?P<name>[^()]+)\)")


def librispeech(root: Path) -> Corpus:
    """LibriSpeech (Panayotov et al. 2015): ``SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE.flac`` and ``.trans.txt``.

    ``root`` is one set (``train-clean-100``) or the folder of several, whose names give the parts. Files may also lie
    right in the speakers' folders. Without a chapter's transcript its clips have no text.

    Raises:
        DataError: no audio, a set twice, a file name that does not follow the layout, or a transcript that lacks
            a clip of its folder.
    """
    files = audio_files(root, deep=True)
    refuse_copies(files)
    name = root.resolve().name
    texts: dict[Path, dict[str, str]] = {}
    clips = []
    for path in files:
        match = _LIBRISPEECH_NAME.fullmatch(path.stem)
        if not match:
            raise DataError(f"{path}: name is not SPEAKER-CHAPTER-UTTERANCE in digits")
        transcript = path.with_name(f"{match['speaker']}-{match['chapter']}.trans.txt")
        if transcript not in texts:
            texts[transcript] = _librispeech_texts(transcript) if transcript.is_file() else {}
        if texts[transcript] and path.stem not in texts[transcript]:
            raise DataError(f"{transcript}: has no line for {path.name}; unpack the corpus again")
        sets = [part for part in (name, *path.relative_to(root).parts) if _LIBRISPEECH_SET.match(part)]
        part = _SET_PARTS[sets[-1].partition("-")[0]] if sets else ""
        text = texts[transcript].get(path.stem, "")
        clips.append(Clip(path, NO_LABEL, f"librispeech/{match['speaker']}", part, text))
    return Corpus("librispeech", tuple(clips), (NO_LABEL,), "CC BY 4.0")


def _librispeech_texts(path: Path) -> dict[str, str]:
    lines = (line.partition(" ") for line in read_lines(path))
    return {name: text for name, _, text in lines}


def an4(root: Path) -> Corpus:
    """CMU AN4 (Acero 1990): ``etc/an4_{train,test}.{fileids,transcription}`` and ``wav/an4_clstk/SPEAKER/*``.

    Raises:
        DataError: no list, a listed recording that is not there, or lists that do not fit each other.
    """
    audio = folder_in(root, "wav")
    lists = [name for name in _AN4_LISTS if (root / "etc" / f"{name}.fileids").is_file()]
    if not lists:
        file_in(root, "etc/an4_train.fileids", "etc/an4_test.fileids")
    clips = []
    for name in lists:
        transcription = file_in(root, f"etc/{name}.transcription")
        texts = dict(_an4_texts(transcription))
        for file_id in read_lines(root / "etc" / f"{name}.fileids"):
            stem = audio / file_id
            if stem.name not in texts:
                raise DataError(f"{transcription}: has no line for {stem.name}; unpack the corpus again")
            path = next((p for s in _AN4_SUFFIXES if (p := stem.with_name(stem.name + s)).is_file()), None)
            if path is None:
                raise DataError(
                    f"{stem}.wav: no such file (nor {', '.join(_AN4_SUFFIXES[1:])}); {name}.fileids lists it"
                )
            clips.append(Clip(path, NO_LABEL, f"an4/{stem.parent.name}", _AN4_LISTS[name], texts[stem.name]))
    return Corpus("an4", tuple(sorted(clips, key=lambda clip: clip.path)), (NO_LABEL,), "free for any use")


def _an4_texts(path: Path) -> Iterator[tuple[str, str]]:
    """File stem and text, without the marks of the sentence's ends."""
    for line in read_lines(path):
        match = _AN4_LINE.fullmatch(line)
        if not match:
            raise DataError(f"{path}: line {line[:60]!r} is not TEXT (NAME)")
        yield match["name"], " ".join(word for word in match["text"].split() if word not in ("<s>", "</s>"))


def speechocean762(root: Path) -> Corpus:
    """speechocean762 (Zhang et al. 2021): ``WAVE/SPEAKERNNNN/UTTERANCE.WAV``; learners read English.

    The official lists ``train/wav.scp`` and ``test/wav.scp`` give the parts, ``train/text`` and ``test/text`` what is
    read. Without them clips have no part and no text.

    Raises:
        DataError: missing folder, a file name that does not follow the layout, or a list that lacks a clip.
    """
    lists = [part for part in ("train", "test") if (root / part / "wav.scp").is_file()]
    parts: dict[str, str] = {}
    texts: dict[str, str] = {}
    for part in lists:
        parts |= {name: part for name, _ in _kaldi_lines(root / part / "wav.scp")}
        if (root / part / "text").is_file():
            texts |= dict(_kaldi_lines(root / part / "text"))
    files = audio_files(folder_in(root, "WAVE"), deep=True)
    refuse_copies(files)
    clips = []
    for path in files:
        match = _SPEECHOCEAN_FOLDER.fullmatch(path.parent.name)
        # The utterance's number begins with the speaker's, behind a zero.
        if not match or not path.stem.isdecimal() or not path.stem.startswith(f"0{match['speaker']}"):
            raise DataError(f"{path}: not SPEAKERNNNN/0NNNN and a number; expected the corpus in its official layout")
        if lists and path.stem not in parts:
            raise DataError(f"{path}: in neither wav.scp; unpack the corpus again")
        speaker = f"speechocean762/{match['speaker']}"
        clips.append(Clip(path, NO_LABEL, speaker, parts.get(path.stem, ""), texts.get(path.stem, "")))
    return Corpus("speechocean762", tuple(clips), (NO_LABEL,), "free for commercial and non-commercial purposes")


def _kaldi_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Utterance and the rest of each line of a list in Kaldi's format."""
    for line in read_lines(path):
        name, *rest = line.split(maxsplit=1)
        yield name, rest[0] if rest else ""
