"""Optimiser, schedules, targets and balance: what a step of training does, by hand where that can be."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training import PATCHES, make  # noqa: E402

from stream_ser.errors import TrainError  # noqa: E402
from stream_ser.models import registry  # noqa: E402
from stream_ser.train import optim, presets  # noqa: E402
from stream_ser.train.config import TrainConfig  # noqa: E402
from stream_ser.train.data.corpora import Clip  # noqa: E402
from stream_ser.train.losses import targets  # noqa: E402


def test_learning_rate_rises_and_falls() -> None:
    config = TrainConfig(epochs=10, warmup_epochs=2.0, lr=1.0)
    rates = [optim.learning_rate(step, 10, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.05)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (19, 20)
    assert rates[-1] < 0.001
    flat = [optim.learning_rate(step, 10, replace(config, schedule="constant")) for step in range(100)]
    assert flat[:20] == rates[:20]
    assert set(flat[20:]) == {1.0}


def test_a_fractional_warmup_does_not_overshoot() -> None:
    config = TrainConfig(epochs=10, warmup_epochs=0.25, lr=1.0, schedule="constant")
    assert max(optim.learning_rate(step, 10, config) for step in range(20)) == 1.0


def schedule(**changes) -> optim.Schedule:
    config = TrainConfig(epochs=100, lr=1.0, warmup_epochs=0.0, schedule="plateau", plateau_patience=2, **changes)
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr_scale": scale} for scale in (1.0, 0.1)]
    return optim.Schedule(torch.optim.SGD(groups, lr=1.0), config, 10)


def rates_of(schedule: optim.Schedule, losses: list[float], step: int = 0) -> list[float]:
    found = []
    for loss in losses:
        schedule.before_step(step)
        found.append(schedule.lr)
        schedule.after_epoch(loss)
    return found


def test_a_plateau_lowers_the_rate_as_torch_does() -> None:
    losses = [1.0, 0.9, 0.9, 0.9, 0.9, 0.8, 0.85, 0.85, 0.85, 0.7]
    parameter = torch.nn.Parameter(torch.zeros(1))
    theirs = torch.optim.SGD([parameter], lr=1.0)
    reduce = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, factor=0.1, patience=2)
    expected = []
    for loss in losses:
        expected.append(theirs.param_groups[0]["lr"])
        reduce.step(loss)
    ours = schedule()
    assert rates_of(ours, losses) == pytest.approx(expected)
    assert min(expected) == pytest.approx(0.01)
    assert [group["lr"] for group in ours.optimizer.param_groups] == pytest.approx([0.01, 0.001])


def test_a_plateau_goes_on_from_its_state() -> None:
    losses = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    whole = rates_of(schedule(), losses)
    first = schedule()
    start = rates_of(first, losses[:3])
    second = schedule()
    second.load_state_dict(first.state_dict())
    assert start + rates_of(second, losses[3:]) == whole
    assert len(set(whole)) == 3


def test_average_starts_fast_and_can_be_off() -> None:
    averaged, current = [torch.zeros(1), torch.zeros(1, dtype=torch.int64)], [torch.ones(1), torch.tensor([7])]
    optim.ema_with_warmup(0.99)(averaged, current, torch.tensor(0))
    assert averaged[0].item() == pytest.approx(0.9)
    assert averaged[1].item() == 7
    late = [torch.zeros(1)]
    optim.ema_with_warmup(0.99)(late, [torch.ones(1)], torch.tensor(10**6))
    assert late[0].item() == pytest.approx(0.01)
    optim.ema_with_warmup(0.0)(late, [torch.full((1,), 5.0)], torch.tensor(10**6))
    assert late[0].item() == 5.0


def network() -> torch.nn.Module:
    config = presets.apply(presets.preset("septr", "default"), ["model.dim=16", "model.stem_channels=4,4,4,4"])
    return registry.build("septr", config.model)


def test_only_matrices_and_kernels_decay() -> None:
    net = network()
    groups = optim.parameter_groups(net, TrainConfig(weight_decay=0.1))
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    names = {name for name, p in net.named_parameters() if id(p) in decayed}
    assert {"head.weight", "stem.layers.0.conv.weight"} <= names
    assert not any("norm" in name or "bias" in name or "position" in name or "cls" in name for name in names)
    assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))
    attention = torch.nn.TransformerEncoderLayer(8, 2, 8)
    decayed = optim.decayed_parameters(attention)
    assert {n for n, p in attention.named_parameters() if id(p) in decayed} == {
        *("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"),
    }


def test_a_body_learns_slowly_or_not_at_all() -> None:
    net = network()
    slow = optim.Schedule(
        optim.make_optimizer(net, TrainConfig(body_lr=0.1, lr=1.0, warmup_epochs=0.0)),
        TrainConfig(lr=1.0, warmup_epochs=0.0),
        10,
    )
    slow.before_step(0)
    rates = {round(group["lr"], 6) for group in slow.optimizer.param_groups}
    assert rates == {1.0, 0.1}
    assert slow.lr == 1.0
    frozen = optim.make_optimizer(net, TrainConfig(body_lr=0.0))
    assert sum(len(group["params"]) for group in frozen.param_groups) == 2
    assert {name for name, p in net.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_optimizers(name: str, kind: type) -> None:
    assert type(optim.make_optimizer(network(), TrainConfig(optimizer=name))) is kind


def test_fp16_needs_cuda() -> None:
    with pytest.raises(TrainError, match="fp16 trains on CUDA only"):
        optim.check_precision("fp16", torch.device("cpu"))
    optim.check_precision("bf16", torch.device("cpu"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate": 3}, "must divide batch_size 32"),
        ({"votes": 1.5}, "votes must be in"),
        ({"balance": "fair"}, "not one of none, weights, sampling"),
        ({"optimizer": "sgd"}, "not one of adamw, adam"),
        ({"schedule": "linear"}, "not one of cosine, plateau, constant"),
        ({"plateau_factor": 1.0}, "plateau_factor"),
        ({"distill_temperature": 0.0}, "distill_temperature"),
        ({"body_lr": -0.1}, "body_lr"),
        ({"patience": -1}, "patience"),
        ({"grad_clip": float("nan")}, "grad_clip"),
        ({"batch_size": 1}, "batch_size"),
    ],
)
def test_recipes_that_make_no_sense(changes: dict, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        TrainConfig(**changes)


LABELS = ("a", "b", "c")


def clips(*labels: str, votes: tuple[float, ...] = ()) -> list[Clip]:
    return [Clip(Path(f"{number}.wav"), label, "s", votes=votes) for number, label in enumerate(labels)]


def test_targets_are_labels_and_votes() -> None:
    some = [*clips("a"), *clips("b", votes=(3.0, 1.0, 0.0)), *clips("c", votes=(0.0, 0.0, 0.0))]
    np.testing.assert_array_equal(targets.training_targets(some, LABELS, 0.0), np.eye(3))
    expected = [[1, 0, 0], [0.3, 0.7, 0], [0, 0, 1]]
    np.testing.assert_allclose(targets.training_targets(some, LABELS, 0.4), expected, atol=1e-6)
    only = targets.training_targets(some, LABELS, 1.0)
    np.testing.assert_allclose(only[1], [0.75, 0.25, 0.0])
    with pytest.raises(TrainError, match="2 votes for 3 labels"):
        targets.training_targets(clips("a", votes=(1.0, 0.0)), LABELS, 0.5)
    with pytest.raises(TrainError, match="'d' is not one of a, b, c"):
        targets.training_targets(clips("d"), LABELS, 0.5)


def test_votes_of_the_real_corpus(crema_d) -> None:
    from stream_ser.train.data import corpora

    corpus = corpora.load("crema-d", crema_d)
    soft = targets.training_targets(corpus.clips, corpus.labels, 0.5)
    np.testing.assert_allclose(soft.sum(axis=1), 1.0, atol=1e-5)
    own = soft[np.arange(len(soft)), targets.class_indices(corpus.clips, corpus.labels)]
    assert own.min() >= 0.5 - 1e-6
    # Raters hear the intended emotion in the voice alone 40.9 % of the time, in all 91 actors.
    assert 2.0 * own.mean() - 1.0 == pytest.approx(0.41, abs=0.04)


def test_balance_evens_out_the_classes() -> None:
    some = clips("a", "a", "a", "b")
    config = TrainConfig()
    assert targets.balance(some, LABELS, config) == (None, None)
    weights, drawn = targets.balance(some, LABELS, replace(config, balance="weights"))
    assert drawn is None
    np.testing.assert_allclose(weights, [4 / 6, 2.0, 0.0], rtol=1e-6)
    assert weights[[0, 0, 0, 1]].mean() == pytest.approx(1.0)
    weights, drawn = targets.balance(some, LABELS, replace(config, balance="sampling"))
    assert weights is None
    np.testing.assert_allclose(drawn, [1 / 6, 1 / 6, 1 / 6, 1 / 2])


def weights_after(corpus: Path, out: Path, *changes: str) -> dict[str, torch.Tensor]:
    trainer = make(corpus, out, *PATCHES, "train.epochs=1", "augment.mixup_alpha=0.4", *changes)
    trainer.fit()
    return trainer.model.state_dict()


def test_accumulated_parts_are_the_whole_batch(tiny_crema_d, tmp_path) -> None:
    whole = weights_after(tiny_crema_d, tmp_path / "whole", "train.balance=weights")
    parts = weights_after(tiny_crema_d, tmp_path / "parts", "train.balance=weights", "train.accumulate=4")
    assert not torch.equal(whole["network.head.weight"], parts["network.head.weight"])  # another order of sums
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, atol=2e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    "change",
    [
        "train.balance=weights",
        "train.balance=sampling",
        "train.optimizer=adam",
        "train.grad_clip=0.01",
        "train.grad_clip=0",
    ],
)
def test_each_switch_changes_the_weights(change: str, tiny_crema_d, tmp_path) -> None:
    few = slice(0, 20)  # the classes are not equally frequent among them
    plain = make(tiny_crema_d, tmp_path / "plain", *PATCHES, "train.epochs=1", clips=few)
    plain.fit()
    other = make(tiny_crema_d, tmp_path / "other", *PATCHES, "train.epochs=1", change, clips=few)
    other.fit()
    assert not torch.equal(plain.model.network.head.weight, other.model.network.head.weight)


def test_attention_computes_in_the_precision_of_the_run_and_torch_is_left_as_it_was() -> None:
    allowed = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed
    before = allowed()
    with optim.autocast("bf16", torch.device("cpu")):
        assert allowed()
    assert allowed() == before
    with optim.autocast("fp32", torch.device("cpu")):
        assert allowed() == before
