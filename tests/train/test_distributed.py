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

#: What each of two processes runs below; it leaves what it found in a file of its own.
CHILD = """
import json, pathlib, sys
import torch
from stream_ser.train.distributed import join_world

def gloo_threads():
    return sum("gloo" in (task / "comm").read_text() for task in pathlib.Path("/proc/self/task").iterdir())

with join_world(cuda=False) as world:
    torch.manual_seed(world.rank)
    network = torch.nn.Linear(3, 2)
    network.bias.requires_grad_(False)
    world.copy_parameters(network)
    torch.optim.AdamW(network.parameters())
    network(world.share(torch.arange(12.0).view(4, 3))).square().mean().backward()
    world.mean_gradients(network)
    found = {"inside": gloo_threads()}
found |= {"after": gloo_threads(), "gradient": network.weight.grad.tolist(), "frozen": network.bias.grad is None}
pathlib.Path(sys.argv[1], f"{world.rank}.json").write_text(json.dumps(found))
"""

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


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_gradients_are_averaged_and_no_thread_stays(tmp_path) -> None:
    (tmp_path / "child.py").write_text(CHILD)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(tmp_path / "child.py"), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr

    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    network(torch.arange(12.0).view(4, 3)).square().mean().backward()
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        torch.testing.assert_close(torch.tensor(found["gradient"]), network.weight.grad)
        assert found["frozen"]
        # A thread of gloo that outlives the interpreter aborts the process after all its work is done.
        assert found["inside"] > 0
        assert found["after"] == 0


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
