"""A run that is killed, stopped early or finished, and goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training import PATCHES, make, options, strip  # noqa: E402

from stream_ser.errors import TrainError  # noqa: E402
from stream_ser.train.checkpoint import CHECKPOINT, read_checkpoint  # noqa: E402

#: Everything that draws or remembers is on.
NOISY = (
    *("model.dropout=0.2", "augment.mixup_alpha=0.3", "augment.noise_p=1.0", "train.balance=sampling"),
    *("train.schedule=plateau", "train.plateau_patience=0", "train.warmup_epochs=0", "train.epochs=4"),
)


class KilledError(Exception):
    pass


def kill(_epoch) -> None:
    raise KilledError


def test_a_resumed_run_equals_an_unbroken_one(tiny_crema_d, tmp_path) -> None:
    run = make(tiny_crema_d, tmp_path / "whole", *NOISY)
    run.fit()
    assert len({epoch.lr for epoch in run.history}) > 1  # the plateau had its effect
    for _ in range(2):
        broken = make(tiny_crema_d, tmp_path / "broken", *NOISY)
        broken.resume()
        with pytest.raises(KilledError):
            broken.fit(on_epoch=kill)
    resumed = make(tiny_crema_d, tmp_path / "broken", *NOISY)
    assert resumed.resume()
    assert len(resumed.history) == 2
    resumed.fit()
    assert strip(resumed.history) == strip(run.history)
    for name, value in run.average.state_dict().items():
        assert torch.equal(value, resumed.average.state_dict()[name]), name


@pytest.mark.slow
def test_killed_at_any_moment_it_loses_no_finished_epoch(tiny_crema_d, tmp_path) -> None:
    """A process that is killed for good (SIGKILL), at a moment that differs from one test run to the next."""
    changes = (*NOISY, "train.epochs=12", "train.threads=1")
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "stream_ser", "train", "septr", "--data", f"crema-d={tiny_crema_d}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--out", str(out), *options(*changes)], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    told = 0
    for line in process.stderr:
        told += line.startswith("epoch")
        if told:
            break
    moment = random.uniform(0.0, 0.6)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    told += sum(line.startswith("epoch") for line in process.stderr.read().splitlines())
    process.stderr.close()
    process.wait()

    resumed = make(tiny_crema_d, out, *changes)
    assert resumed.resume()
    assert told <= len(resumed.history) <= told + 1, f"killed {moment:.3f} s after the first epoch"
    resumed.fit()
    whole = make(tiny_crema_d, tmp_path / "whole", *changes)
    whole.fit()
    assert strip(resumed.history) == strip(whole.history)
    with np.load(out / "predictions.npz") as ours, np.load(tmp_path / "whole" / "predictions.npz") as theirs:
        np.testing.assert_array_equal(ours["probabilities"], theirs["probabilities"])


def test_it_stops_early_and_stays_stopped(tiny_crema_d, tmp_path) -> None:
    changes = ("train.epochs=30", "train.patience=2", "train.lr=1e-9", "train.warmup_epochs=0")
    run = make(tiny_crema_d, tmp_path, *changes)
    run.fit()
    uars = [epoch.scores.uar for epoch in run.history]
    assert len(uars) == int(np.argmax(uars)) + 3 < 30
    assert json.loads((tmp_path / "metrics.json").read_text())["finished"]
    again = make(tiny_crema_d, tmp_path, *changes)
    assert again.resume()
    again.fit()
    assert strip(again.history) == strip(run.history)


def test_an_older_checkpoint_goes_on(septr_run, tiny_crema_d, tmp_path) -> None:
    """One from before there were schedules, teachers and starts to remember."""
    with pytest.raises(KilledError):
        make(tiny_crema_d, tmp_path / "old").fit(on_epoch=kill)
    state = read_checkpoint(tmp_path / "old" / CHECKPOINT)
    for name in ("schedule", "scaler"):
        del state[name]
    for name in ("start", "teachers", "machine", "processes", "test_clips"):
        del state["describe"][name]
    for group in state["optimizer"]["param_groups"]:
        del group["lr_scale"]
    torch.save(state, tmp_path / "old" / CHECKPOINT)
    resumed = make(tiny_crema_d, tmp_path / "old")
    assert resumed.resume()
    resumed.fit()
    assert strip(resumed.history) == strip(septr_run.history)


def test_predictions_are_those_of_the_scores(tiny_crema_d, tmp_path) -> None:
    from stream_ser.train import metrics

    run = make(tiny_crema_d, tmp_path, *PATCHES)
    run.fit()
    with np.load(tmp_path / "predictions.npz") as arrays:
        assert list(arrays["stems"]) == [clip.path.stem for clip in run.split.validation]
        assert set(arrays["speakers"]) == {"crema-d/1009", "crema-d/1011"}
        assert list(arrays["labels"]) == list(run.labels)
        assert arrays["logits"].shape == arrays["probabilities"].shape == (24, 6)
        assert arrays["window_logits"].shape == (len(arrays["owners"]), 6)
        assert metrics.score(arrays["probabilities"], arrays["truth"]) == run.history[-1].scores
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["finished"]
    assert content["processes"] == 1
    assert content["machine"]["device"] == "cpu"
    assert content["temperature"] == read_checkpoint(tmp_path / CHECKPOINT)["temperature"]
    assert "test" not in content


def test_the_test_part_is_looked_at_once(tiny_crema_d, tmp_path, monkeypatch) -> None:
    from dataclasses import replace

    from stream_ser.train.trainer import Trainer

    looked = []
    evaluate = Trainer._evaluate

    def watch(self, part):
        looked.append(part is self.test)
        return evaluate(self, part)

    monkeypatch.setattr(Trainer, "_evaluate", watch)
    plain = make(tiny_crema_d, tmp_path / "plain", *PATCHES)
    plain.fit()
    assert looked == [False, False]
    parts = plain.split
    split = replace(parts, validation=parts.validation[:12], test=parts.validation[12:])
    run = Trainer(plain.config, split, plain.corpora, tmp_path, torch.device("cpu"))
    run.prepare()
    run.fit()
    assert looked[2:] == [False, False, True]
    assert [epoch.train_loss for epoch in run.history] == [epoch.train_loss for epoch in plain.history]
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert (content["validation_clips"], content["test_clips"], content["test"]["clips"]) == (12, 12, 12)
    with np.load(tmp_path / "predictions-test.npz") as arrays:
        assert list(arrays["stems"]) == [clip.path.stem for clip in split.test]


def test_resume_refuses_another_start_and_other_teachers(tiny_crema_d, tmp_path) -> None:
    first = make(tiny_crema_d, tmp_path / "first", "train.epochs=1")
    first.fit()
    with pytest.raises(TrainError, match="other teachers"):
        make(tiny_crema_d, first.out, "train.epochs=1", teachers=[first.out]).resume()
    with pytest.raises(TrainError, match="another start"):
        make(tiny_crema_d, first.out, "train.epochs=1", start=read_checkpoint(first.out / CHECKPOINT)).resume()
