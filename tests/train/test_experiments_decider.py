"""Tuning of the decider, on generated voices: the search, the cache, the command."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from generate import write_crema_d

pytest.importorskip("torch")

from stream_ser.config import DEFAULT_VAD, DeciderConfig
from stream_ser.errors import DataError
from stream_ser.events import Prediction
from stream_ser.export import decider_settings
from stream_ser.runtime import engine
from stream_ser.train.data.corpora import Clip, load
from stream_ser.train.data.long_streams import Placed, StreamConfig
from stream_ser.train.evaluation.stream_metrics import Heard, decide, score
from stream_ser.train.experiments import decider as experiment
from stream_ser.train.experiments.decider import TEMPERATURES, calibrated, listen, main, search

RATE = 16_000
HOP = 4_000
LABELS = ("a", "b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus") / "crema-d"
    return write_crema_d(root, actors=("1009", "1011"), sentences=("DFA",), seconds=0.8)


def flickering(clips: int = 6) -> Heard:
    """Utterances of two seconds with two seconds between them; the network is right, but for a blink in each."""
    predictions, placed = [], []
    for number in range(clips):
        start = number * 16 * HOP
        clip = Clip(Path(f"{number}"), LABELS[number % 2], "s")
        placed.append(Placed(clip, start, start + 8 * HOP, start, start + 8 * HOP))
        for index in range(16):
            right = (0.9, 0.1) if (number % 2 == 0) != (index == 4) else (0.1, 0.9)
            voice = (start, start + min(index + 1, 8) * HOP)
            row = right if index < 12 else ()
            predictions.append(Prediction(start, start + (index + 1) * HOP, row, -20.0, voice=voice))
    return Heard("s", RATE, clips * 16 * HOP, tuple(placed), (), (), tuple(predictions))


#: Nothing that buys steadiness.
HASTY = DeciderConfig(listen_s=0.0, switch_cost=0.0, hold_s=0.0, abstain_below=0.0, change_distance=1.0)


def test_the_search_finds_what_does_not_blink_and_is_as_prompt() -> None:
    heard = flickering()
    before = score([decide(heard, LABELS, HASTY)])
    best = search([heard], LABELS, HASTY, most_flips=1.0, draws=1, seed=0)
    assert before.flips_per_minute > 20.0
    assert best.scores.flips_per_minute == 0.0
    assert min(best.scores.uar_at.values()) == 1.0
    assert best == search([heard], LABELS, HASTY, most_flips=1.0, draws=1, seed=0)


def test_where_no_setting_is_steady_enough_the_steadiest_is_taken(monkeypatch) -> None:
    monkeypatch.setattr(experiment, "VALUES", {"hold_s": (0.0,)})
    best = search([flickering()], LABELS, HASTY, most_flips=0.5, draws=0, seed=0)
    assert best.scores.flips_per_minute > 0.5


def test_temperatures_are_those_of_highest_likelihood() -> None:
    """The network says .9 and is right in all but a blink: it could be surer."""
    fitted = calibrated([flickering()], LABELS, HASTY)
    assert fitted.temperature == min(TEMPERATURES)
    assert fitted.onset_temperature >= fitted.temperature


def test_kept_predictions_are_those_that_were_heard(folder, tiny_model, tmp_path, monkeypatch) -> None:
    loaded, config = engine.load(tiny_model, "cpu"), StreamConfig()
    clips = [clip for clip in load("crema-d", folder).clips if clip.speaker == "crema-d/1009"][:3]
    (first,) = listen(loaded, clips, DEFAULT_VAD, config, tmp_path)
    kept = list(tmp_path.iterdir())
    assert len(kept) == 1

    def refuse(*arguments: object) -> None:
        raise AssertionError("heard again")

    monkeypatch.setattr(experiment, "_hear", refuse)
    (second,) = listen(loaded, clips, DEFAULT_VAD, config, tmp_path)
    assert second == first
    assert any(p.probabilities for p in first.predictions)
    assert any(p.voice is None for p in first.predictions)
    assert sorted(p.clip.path.name for p in first.placed) == sorted(clip.path.name for clip in clips)
    # Other settings are another file.
    with pytest.raises(AssertionError, match="heard again"):
        listen(loaded, clips, replace(DEFAULT_VAD, min_silence_s=0.3), config, tmp_path)
    kept[0].write_bytes(b"PK")
    with pytest.raises(DataError, match="remove it"):
        listen(loaded, clips, DEFAULT_VAD, config, tmp_path)


def test_the_command(folder, tiny_onnx, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(experiment, "VALUES", {"hold_s": (0.3, 0.0), "listen_s": (1.2, 0.0)})
    model = tiny_onnx("mine.onnx")
    out = tmp_path / "r.json"
    speakers = ["--tune", "crema-d/1009", "--report", "crema-d/1011", "--min-silence", "0.5", "--draws", "0"]
    base = [str(model), "--data", f"crema-d={folder}", "--cache", str(tmp_path / "cache"), "--out", str(out)]
    done = CliRunner().invoke(main, [*base, *speakers])
    assert done.exit_code == 0, done.output
    content = json.loads(out.read_text())
    assert (content["tune"], content["report"]) == (["crema-d/1009"], ["crema-d/1011"])
    assert [row["settings"] for row in content["results"]] == ["card", "tuned"]
    assert content["chosen"]["min_silence_s"] == 0.5
    precise = [row["uncertain"] for row in content["abstain"]]
    assert precise == sorted(precise)
    assert "chosen: min_silence_s 0.5" in done.output
    done = CliRunner().invoke(decider_settings.main, [str(model), str(out)])
    assert done.exit_code == 0, done.output
    decider = engine.load(model, "cpu").card.decider
    assert asdict(decider) == content["chosen"]["decider"]
    assert decider.abstain_below == DeciderConfig().abstain_below
    out.write_text('{"chosen": {"decider": {"hold_s": -1}}}')
    done = CliRunner().invoke(decider_settings.main, [str(model), str(out)])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "no settings in it" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tune", "crema-d/1009", "--report", "crema-d/1009"], "crema-d/1009 is among the speakers to tune on"),
        (["--tune", "anna", "--report", "crema-d/1009"], "of speaker anna; speakers are named like crema-d/1009"),
        ([], "of speaker"),
        (["--tune", "crema-d/1009", "--report", "crema-d/1011", "--min-silence", "-1"], "x>=0"),
    ],
)
def test_mistakes_are_one_line(folder, tiny_model, tmp_path, options, message) -> None:
    base = [str(tiny_model), "--data", f"crema-d={folder}", "--cache", str(tmp_path), "--out", str(tmp_path / "r.json")]
    done = CliRunner().invoke(main, [*base, *options])
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") <= 4, "click adds the usage to a value that is out of range"
