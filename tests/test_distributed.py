"""Two processes under torchrun do what one does alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training import PATCHES, make, options  # noqa: E402

from stream_ser.errors import TrainError  # noqa: E402
from stream_ser.train.distributed import World, join_world  # noqa: E402

#: All that is drawn for a batch is on; dropout is not, for each process draws its own.
CHANGES = (*PATCHES, "augment.mixup_alpha=0.4", "augment.noise_p=1.0", "train.threads=1", "train.balance=weights")


def test_two_processes_are_one(tiny_crema_d, tmp_path) -> None:
    out = tmp_path / "two"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command += ["stream_ser", "train", "septr", "--data", f"crema-d={tiny_crema_d}", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *options(*CHANGES, "train.accumulate=2")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation UAR") == 1, "one process speaks"
    assert sum(line.startswith("epoch") for line in done.stderr.splitlines()) == 2

    alone = make(tiny_crema_d, tmp_path / "one", *CHANGES)
    alone.fit()
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["processes"] == 2
    # The sums of float32 run in another order; nothing else differs.
    for ours, theirs in zip(alone.history, metrics["history"], strict=True):
        assert theirs["train_loss"] == pytest.approx(ours.train_loss, rel=1e-4)
        assert theirs["validation_loss"] == pytest.approx(ours.validation_loss, rel=1e-4)
    with np.load(out / "predictions.npz") as two, np.load(tmp_path / "one" / "predictions.npz") as one:
        np.testing.assert_allclose(two["probabilities"], one["probabilities"], atol=1e-4)
        np.testing.assert_array_equal(two["stems"], one["stems"])

    # One process can go on with what two began, and finds nothing left to do.
    resumed = make(tiny_crema_d, out, *CHANGES, "train.accumulate=2")
    assert resumed.resume()
    assert resumed.finished


def test_shares_are_all_rows_once() -> None:
    rows = torch.arange(8)
    shares = [World(rank, 4).share(rows) for rank in range(4)]
    assert sorted(torch.cat(shares).tolist()) == list(range(8))
    assert {len(share) for share in shares} == {2}
    assert torch.equal(World().share(rows), rows)


def test_a_process_alone_needs_no_others() -> None:
    with join_world(cuda=False) as world:
        assert world == World()
        assert world.first
        assert world.mean(torch.tensor(3.0)).item() == 3.0
        assert world.from_first(lambda: "x") == "x"
        rows = torch.randn(3, 2)
        assert torch.equal(world.join(rows, 3), rows)
    assert not torch.distributed.is_initialized()


def test_a_batch_is_dealt_out_evenly() -> None:
    World(0, 4).check_batch(32, 2)
    with pytest.raises(TrainError, match="batch_size 32 cannot be dealt out to 3 processes"):
        World(0, 3).check_batch(32, 1)
