"""The models of emotion alone that come with a fresh install: the default, and the one that sees windows."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from stream_ser.audio.decode import read_blocks
from stream_ser.events import Decision, Prediction
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime import engine
from stream_ser.separation.separator import bundled_separators

CLIP = Path(__file__).parents[2] / "stream_ser" / "assets" / "demo.flac"


@pytest.fixture(scope="module", params=[engine.DEFAULT_MODEL, "septr"])
def bundled(request) -> engine.Engine:
    return engine.load(request.param, "cpu")


def test_it_is_small_and_says_what_binds_it(bundled) -> None:
    assert bundled.path.stat().st_size <= 16e6
    assert "CREMA-D" in bundled.card.licence.upper()
    assert "ODbL" in bundled.card.licence
    assert "CC BY-NC-SA" in bundled.card.licence
    assert bundled.card.training["corpora"] == {"crema-d": 5_885, "ravdess": 879}
    assert len(bundled.card.training["train_speakers"]) == 63 + 16
    assert bundled.card.training["macs"] <= 1.5e9
    for corpus, least in (("crema-d", 0.65), ("ravdess", 0.55)):
        results = bundled.card.results[f"{corpus} validation"]
        assert results["uar"] >= least
        assert "none of them heard in training; ONNX" in results["protocol"]


def test_it_does_not_tell_where_it_was_made() -> None:
    """torch's exporter notes a stack trace with absolute paths at every node; two bundled files had them."""
    for path in (*engine.bundled(), *bundled_separators()):
        content = path.read_bytes()
        assert not [word for word in (b"stack_trace", b"site-packages", b'.py"') if word in content], path.name


def test_one_model_is_the_default(call) -> None:
    names = [line for line in call("models")[1].splitlines() if "(the default)" in line]
    assert names == ["streaming-septr (the default)"]


def test_it_hears_the_demo(bundled) -> None:
    recognizer = Recognizer(bundled)
    events = [event for block in read_blocks(CLIP) for event in recognizer.push(block)] + recognizer.flush()
    spoken = [e for e in events if isinstance(e, Decision) and e.label in bundled.card.labels]
    assert spoken
    assert recognizer.summary().label in bundled.card.labels


def test_any_split_gives_the_same_events(bundled) -> None:
    samples = np.concatenate(list(read_blocks(CLIP)))[: 6 * 16_000]
    recognizer = Recognizer(bundled)
    whole = recognizer.push(samples) + recognizer.flush()
    recognizer.reset()
    rng = np.random.default_rng(0)
    cuts = np.sort(rng.integers(0, samples.size, 40))
    split = [event for part in np.split(samples, cuts) for event in recognizer.push(part)] + recognizer.flush()
    assert split == whole
    assert sum(isinstance(e, Prediction) for e in whole) > 15


@pytest.mark.slow
def test_its_accuracy_on_unseen_speakers(bundled, crema_d) -> None:
    from stream_ser.train.data import corpora, splits
    from stream_ser.train.evaluation.evaluate import evaluate

    clips = splits.fixed([corpora.load("crema-d", crema_d)]).validation
    scores = evaluate(bundled, clips).scores
    assert scores.uar >= 0.50
    assert scores.uar == pytest.approx(bundled.card.results["crema-d validation"]["uar"], abs=0.005)


@pytest.mark.slow
def test_an_hour_takes_no_more_memory_than_a_minute(tiny_model, speechlike) -> None:
    recognizer = Recognizer(engine.load(tiny_model, "cpu"))
    minute = speechlike(60.0, 0)
    events = 0
    tracemalloc.start()
    try:
        for part in range(60):
            for block in np.split(minute, 60):
                events += len(recognizer.push(block))
            if part == 1:
                after_two_minutes, _ = tracemalloc.get_traced_memory()
                tracemalloc.reset_peak()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    recognizer.flush()
    assert recognizer.summary().samples == 3_600 * 16_000
    assert events > 4 * 3_590
    assert peak - after_two_minutes < 1_000_000
