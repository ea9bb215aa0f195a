"""``stream-ser evaluate --ordinary``: what is claimed of plain speech."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from generate import voice, write_wav

from stream_ser.errors import DataError
from stream_ser.runtime import engine
from stream_ser.train.data import corpora
from stream_ser.train.evaluation import ordinary

LABELS = ("anger", "neutral", "sad")


def test_what_counts_as_a_claim() -> None:
    rows = np.array(
        [
            [0.8, 0.1, 0.1],  # an emotion, above .7
            [0.1, 0.8, 0.1],  # neutral
            [0.34, 0.33, 0.33],  # uncertain: below the threshold
            [0.55, 0.40, 0.05],  # an emotion, above .5
            [0.0, 0.0, 0.0],  # silence
        ]
    )
    shares = ordinary.claimed_shares(rows, LABELS, 0.35)
    assert shares == {0.0: 0.4, 0.5: 0.4, 0.7: 0.2, 0.9: 0.0}
    assert ordinary.claimed_shares(rows, LABELS, 0.3)[0.0] == 0.6
    assert ordinary.claimed_shares(np.zeros((0, 3)), LABELS, 0.3)[0.0] == 0.0


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """LibriSpeech's layout, four speakers."""
    for speaker in range(4):
        (tmp_path / f"plain/{speaker}").mkdir(parents=True)
        write_wav(tmp_path / f"plain/{speaker}/{speaker}-1-0000.wav", voice(2.0, speaker))
    return tmp_path / "plain"


def test_shares_agree_with_the_runtime(plain: Path, tiny_model: Path) -> None:
    clips = corpora.load("librispeech", plain).clips
    found = ordinary.measure(engine.load(tiny_model, "cpu"), clips, vad=None)
    assert (found.clips, found.speakers) == (4, 4)
    assert sum(found.labels.values()) == pytest.approx(1.0)
    emotions = set(found.labels) - {"neutral", "uncertain", "silence"}
    assert found.clips_claimed[0.0] == pytest.approx(sum(found.labels[label] for label in emotions))
    for shares in (found.clips_claimed, found.hops_claimed):
        assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert 0.0 <= found.time_claimed <= 1.0


def test_speakers_of_the_training_are_left_out(call, plain: Path, tiny_onnx) -> None:
    pytest.importorskip("torch")
    from stream_ser.export.checkpoints import rewrite_card

    tiny_model = tiny_onnx("own.onnx")
    card = engine.load(tiny_model, "cpu").card
    rewrite_card(tiny_model, replace(card, training={"train_speakers": ["librispeech/0", "librispeech/2", "x/1"]}))
    code, out, err = call("evaluate", tiny_model, "--ordinary", f"librispeech={plain}", "--no-vad", "--json")
    assert (code, err) == (0, "")
    (row,) = json.loads(out)
    assert (row["clips"], row["protocol"]) == (2, "2 training speakers left out")
    rewrite_card(tiny_model, replace(card, training={"train_speakers": [f"librispeech/{n}" for n in range(4)]}))
    code, out, err = call("evaluate", tiny_model, "--ordinary", f"librispeech={plain}", "--no-vad", "--json")
    assert code == 0
    assert json.loads(out) == []
    assert "was trained on all speakers of librispeech" in err


def test_the_table_and_the_card(call, plain: Path, tiny_onnx) -> None:
    pytest.importorskip("torch")
    tiny_model = tiny_onnx("own.onnx")
    arguments = ("evaluate", tiny_model, "--ordinary", f"librispeech={plain}", "--no-vad", "--record")
    code, out, err = call(*arguments)
    assert code == 0
    assert "an emotion claimed" in out
    assert "training speakers unknown" in out
    assert "card updated" in err
    recorded = engine.load(tiny_model, "cpu").card.results["librispeech plain speech"]
    assert recorded["clips"] == 4


def test_mistakes_are_one_line(call, plain: Path, tiny_onnx, tiny_model: Path) -> None:
    code, _, err = call("evaluate", tiny_model, "--ordinary", f"librispeech={plain}", "--data", "crema-d=x")
    assert code == 2
    assert "leave --data and --stream away" in err
    without = tiny_onnx("without.onnx", labels=("anger", "sad"))
    with pytest.raises(DataError, match="no label neutral"):
        ordinary.measure(engine.load(without, "cpu"), corpora.load("librispeech", plain).clips)
