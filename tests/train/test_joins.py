"""Joined utterances and what is found in them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from generate import write_crema_d

from stream_ser.errors import DataError
from stream_ser.events import Decision
from stream_ser.train.data.corpora import Clip, load
from stream_ser.train.data.joined_clips import APART_S, FADE_S, JoinConfig, joined, score_cuts, utterances_of
from stream_ser.train.data.long_streams import Placed
from stream_ser.train.experiments import changes

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus") / "crema-d"
    return write_crema_d(root, actors=("1009",), sentences=("DFA", "IEO", "TIE"), seconds=0.8)


@pytest.fixture(scope="module")
def clips(folder: Path) -> tuple[Clip, ...]:
    return load("crema-d", folder).clips


def test_clips_of_one_utterance_follow_each_other_without_a_pause(clips) -> None:
    (stream,) = joined(clips, RATE, JoinConfig(pairs=3, singles=2, run=3))
    groups = utterances_of(stream.placed)
    assert sorted(len(group) for group in groups) == [2, 2, 2, 3, 3]
    for group in groups:
        labels = {each.clip.label for each in group}
        assert len(labels) == (2 if len(group) == 2 else 1)
        for before, after in itertools.pairwise(group):
            assert before.end == before.offset == after.start == after.onset
    for before, after in itertools.pairwise(groups):
        assert after[0].start - before[-1].end == pytest.approx(APART_S * RATE)
    assert stream.samples.size == pytest.approx(groups[-1][-1].end + APART_S * RATE)
    assert FADE_S < 0.1
    (again,) = joined(clips, RATE, JoinConfig(pairs=3, singles=2, run=3))
    assert np.array_equal(again.samples, stream.samples)


def test_a_speaker_with_one_emotion_cannot_be_joined(clips) -> None:
    with pytest.raises(DataError, match="too few clips"):
        list(joined([clip for clip in clips if clip.label == "anger"], RATE, JoinConfig()))


def test_cuts_are_scored() -> None:
    def placed(label: str, start: int, end: int) -> Placed:
        return Placed(Clip(Path(label), label, "s"), start * RATE, end * RATE, start * RATE, end * RATE)

    clips = [placed("a", 0, 3), placed("b", 3, 6), placed("a", 8, 11), placed("b", 11, 14), placed("a", 16, 46)]
    clips += [placed("a", 46, 76)]

    def said(label: str, start: float, end: float, utterance: int) -> Decision:
        return Decision(round(start * RATE), round(end * RATE), label, 0.9, utterance)

    decisions = [
        said("a", 0, 3.4, 1),
        said("b", 3.4, 6, 1),
        said("silence", 6, 8, 0),
        said("a", 8, 12, 2),
        said("b", 12, 14, 2),
        said("silence", 14, 16, 0),
        said("a", 16, 20, 3),
        said("b", 20, 22, 3),
        said("a", 22, 76, 3),
    ]
    scores = score_cuts([(clips, decisions, ["a", "b", "a", "b", "a", "a"])], RATE)
    assert (scores.pairs, scores.recognised) == (2, 2)
    assert (scores.found, scores.both_right, scores.found_all) == (0.5, 0.5, 0.5)
    assert (scores.single_minutes, scores.false_cuts, scores.false_cuts_per_2_minutes) == (1.0, 2, 4.0)
    # Of halves that are not recognised alone nothing is expected.
    scores = score_cuts([(clips, decisions, ["b", "b", "a", "b", "a", "a"])], RATE)
    assert (scores.recognised, scores.found, scores.found_all) == (1, 0.0, 0.5)
    with pytest.raises(DataError, match="no joined streams"):
        score_cuts([], RATE)


def test_the_command_prints_what_each_distance_finds(folder, tiny_model, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(changes, "DISTANCES", (0.1, 1.0))
    out = tmp_path / "r.json"
    options = ["--data", f"crema-d={folder}", "--speaker", "crema-d/1009", "--out", str(out)]
    done = CliRunner().invoke(changes.main, [str(tiny_model), *options])
    assert done.exit_code == 0, done.output
    rows = json.loads(out.read_text())["results"]
    assert [row["change_distance"] for row in rows] == [0.1, 0.6, 1.0]
    assert (rows[-1]["found_all"], rows[-1]["false_cuts"]) == (0.0, 0), "nothing is worth that"
    assert "false cuts in 2 min" in done.output
