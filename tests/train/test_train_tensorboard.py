"""The TensorBoard log, read back as TensorBoard reads it."""

from __future__ import annotations

import sys

import pytest

torch = pytest.importorskip("torch")

from stream_ser.errors import TrainError  # noqa: E402
from stream_ser.train.metrics import Scores  # noqa: E402
from stream_ser.train.run_folder import Epoch  # noqa: E402
from stream_ser.train.tensorboard import FOLDER, TensorBoardLog  # noqa: E402


def epoch(number: int, uar: float) -> Epoch:
    scores = Scores(4, 0.5, uar, 0.4, 0.1, 1.0, (uar, uar), ((1, 1), (1, 1)))
    return Epoch(number, 1.5, 1.0, 1e-3, 2.0, scores)


def test_epochs_come_back(tmp_path) -> None:
    pytest.importorskip("tensorboard")
    log = TensorBoardLog(tmp_path)
    for number, uar in ((1, 0.3), (2, 0.4), (3, 0.9)):
        log(epoch(number, uar))
    log.close()
    resumed = TensorBoardLog(tmp_path, epochs=2)
    resumed(epoch(3, 0.5))
    resumed.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / FOLDER)).Reload()
    assert set(events.Tags()["scalars"]) >= {"loss/training", "loss/validation", "validation/uar", "training/lr"}
    read = [(event.step, event.value) for event in events.Scalars("validation/uar")]
    assert read == [(1, pytest.approx(0.3)), (2, pytest.approx(0.4)), (3, pytest.approx(0.5))]


def test_without_tensorboard_it_is_one_line(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainError, match=r"pip install 'stream-ser\[tensorboard\]'"):
        TensorBoardLog(tmp_path)
