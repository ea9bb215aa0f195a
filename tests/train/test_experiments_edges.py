"""Edges of utterances: found in what voice activity detection says, moved, and scored by the command."""

from __future__ import annotations

import json

from click.testing import CliRunner
from generate import write_crema_d

from stream_ser.train.evaluation.diarization import Span
from stream_ser.train.experiments import edges
from stream_ser.train.experiments.edges import moved, utterances
from stream_ser.vad.detector import Voice


def test_utterances_begin_before_speech_was_known_and_end_with_the_voice() -> None:
    flags = [(0, 0), (1, 1), (0, 1), (1, 1), (0, 1), (0, 0), (0, 0), (1, 1)]
    voices = [Voice(512 * (i + 1), 0.5, bool(voiced), bool(speaking)) for i, (voiced, speaking) in enumerate(flags)]
    assert utterances(voices, 512, 512) == [(0, 4 * 512), (6 * 512, 8 * 512)]


def test_moved_edges_stay_in_order_and_in_the_stream() -> None:
    spans = [(100, 200), (210, 220)]
    assert moved(spans, 0, -20, 1_000) == [Span(100, 180, "speech"), Span(210, 211, "speech")]
    assert moved(spans, -150, 20, 225) == [Span(0, 220, "speech"), Span(220, 225, "speech")]


def test_the_command_prints_missed_and_false_by_noise(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(edges, "SNR_DB", (float("inf"), 20.0))
    folder = write_crema_d(tmp_path / "crema-d", actors=("1009",), sentences=("DFA",), seconds=0.8)
    out = tmp_path / "r.json"
    options = ["--data", f"crema-d={folder}", "--speaker", "crema-d/1009", "--out", str(out)]
    done = CliRunner().invoke(edges.main, options)
    assert done.exit_code == 0, done.output
    rows = json.loads(out.read_text())["results"]
    assert len(rows) == 2 * len(edges.MOVES_S)
    by_move = {tuple(row["move_s"]): row for row in rows if row["snr_db"] == "20.0"}
    earlier, later = by_move[0.0, -0.15], by_move[0.0, 0.0]
    assert earlier["missed"] >= later["missed"]
    assert earlier["false_alarm"] <= later["false_alarm"]
