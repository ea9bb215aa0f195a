"""``stream-ser evaluate`` as a user calls it, on generated voices and models drawn at random."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_fakes import Terminal
from generate import voice, write_wav
from tiny_models import LABELS

from stream_ser.audio.decode import read_blocks
from stream_ser.cli.commands.evaluate_tables import speakers
from stream_ser.errors import AudioError, DataError
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime import engine
from stream_ser.train.data import corpora
from stream_ser.train.evaluation.evaluate import clips_of, evaluate


@pytest.fixture
def data(tiny_crema_d: Path) -> str:
    return f"crema-d={tiny_crema_d}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own recordings, in folders that are named as people name them."""
    root = tmp_path_factory.mktemp("own")
    for label, pitch_hz in (("angry", 260.0), ("sad", 90.0), ("calm", 120.0)):
        (root / label).mkdir()
        for take in range(2):
            write_wav(root / label / f"{take}.wav", voice(1.0, take, pitch_hz=pitch_hz))
    return root


def test_one_model(call, data: str, tiny_model: Path) -> None:
    code, out, err = call("evaluate", tiny_model, "--data", data, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["clips"] == 24
    assert found["protocol"].startswith("crema-d, validation part, 2 speakers, training speakers unknown; ONNX")
    assert {row["speaker"] for row in found["speakers"]} == {"crema-d/1009", "crema-d/1011"}
    assert found["uar_interval"][0] <= found["uar"] <= found["uar_interval"][1]
    assert found["window_ms"] > 0.0
    assert "corpora" not in found

    code, out, _ = call("evaluate", tiny_model, "--data", data)
    assert code == 0
    for said in (f"UAR {found['uar']:.4f}", f"ECE {found['ece_cross_fitted']:.4f} with a temperature from other"):
        assert said in out
    assert out.count("crema-d/10") == 2  # the best and the worst speaker
    assert "confusion" in out
    assert "McNemar" not in out


def test_two_models_side_by_side(call, data: str, tiny_model: Path, tiny_onnx) -> None:
    other = tiny_onnx("other.onnx", seed=1)
    code, out, err = call("evaluate", tiny_model, other, "--data", data, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    first, second = found["models"]
    (test,) = found["mcnemar"]
    assert (Path(test["first"]).name, Path(test["second"]).name) == ("tiny.onnx", "other.onnx")
    assert test["first_only"] - test["second_only"] == round(24 * (first["wa"] - second["wa"]))
    assert test["first_only"] + test["second_only"] > 0

    code, out, _ = call("evaluate", tiny_model, other, tiny_model, "--data", data)
    assert code == 0
    assert out.count("McNemar:") == 3
    assert "p = 1 (exact)" in out  # a model and itself
    assert f"{test['first_only']} clips only tiny.onnx has right, {test['second_only']} only other.onnx" in out
    for scores in (first, second):
        assert f"{scores['uar']:.4f}" in out


@pytest.mark.skipif(sys.platform == "win32", reason="Windows forbids such names")
@pytest.mark.parametrize("options", [(), ("--stream",)])
def test_the_name_of_a_model_is_no_markup_and_drives_no_terminal(
    options, call, data: str, tiny_onnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    err = Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    models = [tiny_onnx("v[2] [bold]\x1b[2J.onnx"), tiny_onnx("other[red].onnx", seed=1)]
    code, out, _ = call("evaluate", *models, "--data", data, "--speaker", "crema-d/1009", *options)
    assert code == 0
    assert out.count("v[2] [bold]\\x1b[2J.onnx") >= 2
    assert out.count("other[red].onnx") >= 2
    assert "\x1b" not in out
    assert "[bold]" in err.getvalue()


def test_the_order_of_labels_is_the_models_own(data: str, tiny_crema_d: Path, tiny_onnx, tiny_model: Path) -> None:
    """The same network under reversed labels says the opposite, and is scored by what it says."""
    clips = corpora.load("crema-d", tiny_crema_d).clips[::5]
    straight = evaluate(engine.load(tiny_model, "cpu"), clips)
    reverse = evaluate(engine.load(tiny_onnx(labels=LABELS[::-1]), "cpu"), clips)
    assert np.array_equal(straight.probabilities, reverse.probabilities)
    assert np.array_equal(straight.truth, 5 - reverse.truth)


def test_other_labels_cannot_be_compared(call, data: str, tiny_model: Path, tiny_onnx) -> None:
    code, out, err = call("evaluate", tiny_model, tiny_onnx("few.onnx", labels=("anger", "sad")), "--data", data)
    assert (code, out) == (2, "")
    assert "few.onnx has anger, sad; compare models of the same labels" in err
    assert len(err.splitlines()) == 1


def test_several_corpora_apart_and_together(call, data: str, folder: Path, tiny_model: Path) -> None:
    options = ("--data", data, "--data", f"folder={folder}", "--part", "all")
    code, out, err = call("evaluate", tiny_model, *options, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert {name: part["clips"] for name, part in found["corpora"].items()} == {"crema-d": 60, "folder": 4}
    assert found["clips"] == 64
    assert found["protocol"].startswith("crema-d + folder, all clips")
    assert np.sum([part["confusion"] for part in found["corpora"].values()], axis=0).tolist() == found["confusion"]

    code, out, _ = call("evaluate", tiny_model, *options, "--map", "calm=neutral")
    assert code == 0
    assert "crema-d + folder │    66" in out


def test_the_part_of_a_drawn_split_is_named(call, data: str, tiny_model: Path) -> None:
    code, out, err = call("evaluate", tiny_model, "--data", data, "--split", "random", "--part", "test", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert 6 <= found["clips"] <= 12
    assert "speakers overlap" in found["protocol"]


def test_record_writes_every_corpus_into_the_card(call, data: str, folder: Path, tiny_onnx) -> None:
    pytest.importorskip("torch")
    model = tiny_onnx("mine.onnx")
    both = ("--data", data, "--data", f"folder={folder}", "--part", "all")
    code, _, err = call("evaluate", model, *both, "--record")
    assert code == 0
    assert "mine.onnx: card updated" in err
    results = engine.load(model, "cpu").card.results
    assert set(results) == {"crema-d + folder all", "crema-d all", "folder all"}
    assert results["folder all"]["clips"] == 4


def test_many_classes_are_listed_by_recall(call, tmp_path: Path, tiny_onnx) -> None:
    labels = tuple(f"sound{number:02}" for number in range(14))
    for label in labels:
        (tmp_path / "own" / label).mkdir(parents=True)
        write_wav(tmp_path / "own" / label / "a.wav", voice(0.8, int(label[-2:])))
    code, out, err = call("evaluate", tiny_onnx(labels=labels), "--data", f"folder={tmp_path / 'own'}", "--part", "all")
    assert code == 0, err
    assert "mostly taken for" in out
    assert "confusion" not in out
    assert max(map(len, out.splitlines()[-12:])) < 80


def test_a_clip_in_which_nobody_speaks(tmp_path: Path, tiny_model: Path) -> None:
    path = write_wav(tmp_path / "silence.wav", np.zeros(32_000, np.float32))
    loud = write_wav(tmp_path / "loud.wav", voice(2.0))
    clips = [corpora.Clip(p, "anger", speaker) for p, speaker in ((path, "a"), (loud, "b"))]
    result = evaluate(engine.load(tiny_model, "cpu"), clips)
    assert (result.silent, result.heard.tolist()) == (1, [False, True])
    assert result.probabilities[0] == pytest.approx([1 / 6] * 6)
    assert not result.right[0], "silence is no anger, though anger is the first label"
    assert sum(map(sum, result.scores.confusion)) == 1
    assert result.owners.tolist()[:2] == [0, 1]
    apart = result.select(np.array([False, True]))
    assert (apart.silent, apart.scores.clips) == (0, 1)
    assert set(apart.owners.tolist()) == {0}
    assert apart.cross_fitted_ece is None


def test_voice_activity_detection_can_be_left_out(call, tmp_path: Path, tiny_model: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "own" / "anger").mkdir(parents=True)
    write_wav(tmp_path / "own" / "anger" / "noise.wav", (0.1 * rng.standard_normal(32_000)).astype(np.float32))
    options = ("evaluate", tiny_model, "--data", f"folder={tmp_path / 'own'}", "--part", "all", "--json")
    code, out, _ = call(*options)
    assert code == 0
    assert json.loads(out)["silent"] == 1
    assert "no VAD" not in out
    code, out, _ = call(*options, "--no-vad")
    assert code == 0
    assert json.loads(out)["silent"] == 0
    assert "ONNX, CPUExecutionProvider, no VAD" in json.loads(out)["protocol"]
    code, out, _ = call(*options[:-1])
    assert code == 0
    (row,) = (line.split() for line in out.splitlines() if line.startswith("│ anger"))
    assert row[3::2][-3:] == ["0", "1", "0.000"], "sad, silence and recall"


def test_it_hears_what_the_runtime_hears(tiny_crema_d: Path, tiny_model: Path) -> None:
    clips = corpora.load("crema-d", tiny_crema_d).clips[:3]
    loaded = engine.load(tiny_model, "cpu")
    result = evaluate(loaded, clips)
    recognizer = Recognizer(loaded)
    for block in read_blocks(clips[1].path):
        recognizer.push(block)
    recognizer.flush()
    assert result.probabilities[1].tolist() == list(recognizer.summary().probabilities)
    mean = np.exp(result.logits[result.owners == 1]).mean(axis=0)
    assert mean == pytest.approx(result.probabilities[1], abs=1e-12)


def test_mistakes(call, data: str, folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("--data", data, "--part", "test"), "no clip is in the test part; choose another --part or --split"),
        (("--data", f"folder={folder}"), "no clip is in the validation part"),
        (("--data", data, "--map", "bliss=happy"), "no corpus has that label"),
        (("--data", data, "--split", "folds", "--fold", "all"), "give its number"),
        (("--data", data, "--fold", "2"), "--split fixed has no folds; leave --fold and --folds away"),
        (("--data", data, "--part", "all", "--split", "folds", "--fold", "2"), "--part all takes every clip"),
        ((), "--data CORPUS=PATH is needed"),
    ):
        code, out, err = call("evaluate", tiny_model, *arguments)
        assert (code, out) == (2, "")
        assert message in err
        assert len(err.splitlines()) == 1
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF")
    with pytest.raises(AudioError, match=r"bad\.wav"):
        evaluate(engine.load(tiny_model, "cpu"), [corpora.Clip(bad, "anger", "a")])
    with pytest.raises(DataError, match="no clips"):
        evaluate(engine.load(tiny_model, "cpu"), [])
    with pytest.raises(DataError, match="'bliss' is not one of the model's"):
        evaluate(engine.load(tiny_model, "cpu"), [corpora.Clip(bad, "bliss", "a")])


def test_every_clip_of_a_part_once(tiny_crema_d: Path) -> None:
    corpus = corpora.load("crema-d", tiny_crema_d)
    parts = [clips_of([corpus], part)[0]["crema-d"] for part in ("train", "validation")]
    assert set(parts[0]) | set(parts[1]) == set(clips_of([corpus], "all")[0]["crema-d"])
    assert not set(parts[0]) & set(parts[1])


def test_nothing_is_claimed_of_unknown_speakers(tiny_model: Path) -> None:
    card = replace(engine.load(tiny_model, "cpu").card, training={"train_speakers": ["folder/anna"]})
    clips = [corpora.Clip(Path("a.wav"), "anger", f"folder/{name}") for name in ("bert", "unknown")]
    assert speakers(clips[:1], card) == "1 speaker, none of them heard in training"
    assert speakers(clips, card) == "1 known speakers and unknown ones, who may have been heard in training"


def test_among_the_classes_that_a_corpus_has(call, data: str, folder: Path, tiny_model: Path) -> None:
    options = ("--data", data, "--data", f"folder={folder}", "--part", "all", "--json")
    code, out, err = call("evaluate", tiny_model, *options)
    assert (code, err) == (0, "")
    every = json.loads(out)["corpora"]
    code, out, err = call("evaluate", tiny_model, *options, "--classes", "present")
    assert (code, err) == (0, "")
    among = json.loads(out)["corpora"]
    assert "all clips, among the classes that a corpus has, " in among["folder"]["protocol"]
    # CREMA-D has all classes; the folder has anger and sad, the first and the last.
    assert {k: v for k, v in among["crema-d"].items() if k not in ("protocol", "window_ms")} == {
        k: v for k, v in every["crema-d"].items() if k not in ("protocol", "window_ms")
    }
    assert all(row[1:5] == [0, 0, 0, 0] for row in among["folder"]["confusion"])
    assert among["folder"]["uar"] >= every["folder"]["uar"]
    code, _, err = call("evaluate", tiny_model, "--data", data, "--classes", "present", "--stream")
    assert code == 2
    assert "leave it or --stream away" in err
