"""Small corpora with texts, for networks that spell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")

from generate import voice  # noqa: E402

from stream_ser.train.data.corpora import EMOTIONS  # noqa: E402
from stream_ser.train.losses.ctc import ENGLISH  # noqa: E402
from stream_ser.train.tasks.multitask import data  # noqa: E402

CPU = torch.device("cpu")
WORDS = ("YES", "NO", "STOP IT", "GO ON")


def spoken(seed: int, pitch_hz: float = 150.0) -> np.ndarray:
    return (voice(1.0, seed=seed, pitch_hz=pitch_hz) * 0.3).astype(np.float32)


@pytest.fixture(scope="module")
def librispeech(tmp_path_factory) -> Path:
    """Five speakers, a chapter of four utterances each, as unpacked from an archive of the corpus."""
    root = tmp_path_factory.mktemp("data") / "LibriSpeech"
    for speaker in range(1, 6):
        chapter = root / str(speaker) / "7"
        chapter.mkdir(parents=True)
        names = [f"{speaker}-7-{number:04d}" for number in range(len(WORDS))]
        for number, name in enumerate(names):
            soundfile.write(chapter / f"{name}.flac", spoken(10 * speaker + number), 16_000)
        lines = (f"{name} {text}\n" for name, text in zip(names, WORDS, strict=True))
        (chapter / f"{speaker}-7.trans.txt").write_text("".join(lines))
    return root


@pytest.fixture(scope="module")
def emotions(tmp_path_factory) -> Path:
    """Two speakers a part and an emotion's clip each, with text for none, in a manifest."""
    root = tmp_path_factory.mktemp("felt")
    rows = ["path,label,speaker,split"]
    for part in ("train", "validation"):
        for speaker in range(2):
            for number, label in enumerate((*EMOTIONS, "surprise")):
                name = f"{part}-{speaker}-{label}.wav"
                soundfile.write(root / name, spoken(100 * speaker + number, 80.0 + 60.0 * number), 16_000)
                rows.append(f"{name},{label},{part}{speaker},{part}")
    (root / "list.csv").write_text("\n".join(rows))
    return root / "list.csv"


def material(*options: str, held_out: tuple[str, ...] = ()) -> data.Material:
    return data.gather(options, ENGLISH, held_out, 0, 0.2)
