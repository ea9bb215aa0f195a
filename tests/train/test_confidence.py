"""Whether the number beside a label is looked at rightly, on streams whose truth is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_ser.config import DeciderConfig
from stream_ser.events import Prediction
from stream_ser.train.data.corpora import Clip
from stream_ser.train.data.long_streams import Placed
from stream_ser.train.evaluation.confidence import confidences
from stream_ser.train.evaluation.stream_metrics import Heard

RATE, HOP = 16_000, 4_000
LABELS = ("a", "b")
CONFIG = DeciderConfig(listen_s=0.0, hangover_s=0.0)


def heard(right: list[bool], sure: float) -> Heard:
    """Utterances of two seconds; the network says "a" with the same probability all the time."""
    predictions, placed = [], []
    for number, is_right in enumerate(right):
        start = number * 16 * HOP
        placed.append(
            Placed(
                Clip(Path(f"{number}"), "a" if is_right else "b", "s"), start, start + 8 * HOP, start, start + 8 * HOP
            )
        )
        for index in range(12):
            end = start + (index + 1) * HOP
            voice = (start, min(end, start + 8 * HOP))
            predictions.append(Prediction(start, end, (sure, 1.0 - sure), -20.0, voice=voice))
    return Heard("s", RATE, len(right) * 16 * HOP, tuple(placed), (), (), tuple(predictions))


def test_a_number_that_is_the_share_of_right_labels_has_no_error() -> None:
    stream = heard([True] * 8 + [False] * 2, 0.8)
    found = confidences([stream], LABELS, CONFIG)
    assert set(found) == {"0.5", "1", "1.5", "2", "end"}
    for each in found.values():
        assert (each.labels, each.accuracy) == (10, 0.8)
        assert each.ece == pytest.approx(0.0, abs=1e-3)


def test_too_sure_and_too_unsure_numbers_show_and_a_temperature_mends_them() -> None:
    stream = heard([True] * 6 + [False] * 4, 0.9)
    before = confidences([stream], LABELS, CONFIG)["end"]
    assert before.ece == pytest.approx(0.3, abs=1e-3)
    warm = DeciderConfig(listen_s=0.0, hangover_s=0.0, temperature=5.4, onset_temperature=5.4)
    after = confidences([stream], LABELS, warm)["end"]
    assert after.ece < 0.01
    assert after.nll < before.nll
