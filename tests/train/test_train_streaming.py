"""Training of streaming SepTr: asked at the window's end and before, taught by a network that saw the whole window."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from streaming_runs import config, trainer  # noqa: E402
from training import make, strip  # noqa: E402

from stream_ser.errors import TrainError  # noqa: E402
from stream_ser.models import registry  # noqa: E402
from stream_ser.train.checkpoint import CHECKPOINT, read_checkpoint, trained_network  # noqa: E402
from stream_ser.train.config import TrainConfig  # noqa: E402
from stream_ser.train.losses.distillation import distillation_loss  # noqa: E402
from stream_ser.train.losses.emotion import Objective  # noqa: E402
from stream_ser.train.losses.moments import EarlyToo  # noqa: E402


def test_the_end_and_an_earlier_moment_are_embedded() -> None:
    settings = config()
    network = registry.build("streaming-septr", settings.model).eval()
    asked = EarlyToo(network, settings.features)
    x = torch.randn(64, 64, 128)
    both = asked.embed(x)
    torch.testing.assert_close(both[:, 0], network.embed(x))
    moments = network.moments(x)
    places = [(moment - rows).abs().amax(dim=-1).argmin() for moment, rows in zip(both[:, 1], moments, strict=True)]
    # A second is six columns of 160 ms; the end itself may be drawn.
    assert {int(place) for place in places} == {5, 6, 7}
    assert asked(x).shape == (64, 2, 6)


def test_a_window_shorter_than_a_second_is_asked_at_its_end() -> None:
    settings = config("window.frames=48")
    asked = EarlyToo(registry.build("streaming-septr", settings.model).eval(), settings.features)
    both = asked.embed(torch.randn(8, 64, 48))
    assert torch.equal(both[:, 0], both[:, 1])


def test_other_networks_give_no_early_answer(tiny_crema_d: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"train\.early .* only streaming-septr gives one"):
        make(tiny_crema_d, tmp_path, "train.early=0.3")


def test_the_loss_is_shared_between_the_end_and_earlier() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 2, 9, generator=generator)
    targets = torch.cat((torch.eye(6)[[0, 1, 2, 3, 4]], torch.eye(3)[[0, 1, 2, 0, 1]]), dim=1)
    taught = torch.randn(5, 6, generator=generator).softmax(dim=-1)
    settings = TrainConfig(early=0.25, sentences=0.3, distill=0.4, label_smoothing=0.1)

    def expected(moment: torch.Tensor) -> torch.Tensor:
        label = torch.nn.functional.cross_entropy(moment[:, :6], targets[:, :6], label_smoothing=0.1)
        told = distillation_loss(moment[:, :6], taught, settings.distill_temperature)
        said = torch.nn.functional.cross_entropy(moment[:, 6:], targets[:, 6:])
        return 0.6 * label + 0.4 * told + 0.3 * said

    loss = Objective(settings, 6, None)
    torch.testing.assert_close(loss(logits[:, 0], targets, taught), expected(logits[:, 0]))
    both = 0.75 * expected(logits[:, 0]) + 0.25 * expected(logits[:, 1])
    torch.testing.assert_close(loss(logits, targets, taught), both)


def test_it_learns_and_its_checkpoint_knows_the_normalisation(tiny_crema_d: Path, tmp_path: Path) -> None:
    run = trainer(tiny_crema_d, tmp_path, "train.epochs=6", "train.ema_decay=0.5", "train.lr=0.003")
    run.fit()
    assert run.history[-1].train_loss < run.history[0].train_loss
    state = read_checkpoint(tmp_path / CHECKPOINT)
    network = trained_network(state)
    np.testing.assert_allclose(network.level.mean[:, 0].numpy(), state["mean"], rtol=1e-6)
    np.testing.assert_allclose(network.level.std[:, 0].numpy(), state["std"], rtol=1e-6)
    assert float(network.level.floor) == pytest.approx(run.config.features.log_floor)


def test_a_resumed_run_draws_the_same_moments(tiny_crema_d: Path, tmp_path: Path) -> None:
    whole = trainer(tiny_crema_d, tmp_path / "whole")
    whole.fit()
    first = trainer(tiny_crema_d, tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        first.fit(on_epoch=_stop)
    second = trainer(tiny_crema_d, tmp_path / "parts")
    assert second.resume()
    second.fit()
    assert strip(second.history) == strip(whole.history)


def _stop(_epoch: object) -> None:
    raise KeyboardInterrupt


def test_a_network_that_saw_the_whole_window_teaches(tiny_crema_d: Path, tmp_path: Path) -> None:
    teacher = make(tiny_crema_d, tmp_path / "teacher", "window.frames=128", "window.minimum=48", "train.epochs=1")
    teacher.fit()
    plain = trainer(tiny_crema_d, tmp_path / "plain", "train.epochs=1")
    plain.fit()
    taught = trainer(tiny_crema_d, tmp_path / "taught", "train.epochs=1", teachers=(tmp_path / "teacher",))
    taught.fit()
    assert taught.history[0].train_loss != plain.history[0].train_loss
    assert taught.describe()["teachers"][0].startswith("septr of 1 epochs on crema-d")
    assert replace(taught.config.features, normalization="level") == teacher.config.features
