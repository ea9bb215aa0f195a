"""The multitask network: cut anywhere, a stream gives what the whole gives; nothing later changes what came before."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from stream_ser.models.multitask import Multitask, MultitaskConfig, RunningMean

SMALL = MultitaskConfig(n_mels=8, vocabulary=5, channels=(3, 4), width=8, layers=2, heads=2, memory=20.0)
#: With another stride, and longer kernels.
OTHER = MultitaskConfig(n_mels=8, num_classes=3, channels=(2, 2), kernels=(7, 3), strides=(3, 1), width=6, heads=3)


def network(config: MultitaskConfig) -> Multitask:
    torch.manual_seed(0)
    return Multitask(config).eval()


def heard(config: MultitaskConfig, steps: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(steps)
    return torch.randn(batch, config.n_mels, steps * config.stride, generator=generator)


@pytest.mark.parametrize("config", [SMALL, OTHER])
@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8))
@torch.no_grad()
def test_a_stream_equals_the_whole(config, sizes):
    net, x = network(config), heard(config, sum(sizes))
    felt, spelt, last = net.steps(x)
    logits, log_probs, _ = net(x)
    assert torch.equal(logits, felt[:, -1])
    assert torch.equal(log_probs, spelt)
    state, end = None, 0
    for part in x.split([size * config.stride for size in sizes], dim=2):
        logits, log_probs, state = net(part, state)
        start, end = end, end + log_probs.shape[1]
        torch.testing.assert_close(logits, felt[:, end - 1], atol=1e-5, rtol=0.0)
        torch.testing.assert_close(log_probs, spelt[:, start:end], atol=1e-5, rtol=0.0)
    for one, other in zip(state, last, strict=True):
        # The running mean's sums grow with time: at 36 a step of float32 is 4e-6 already.
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-6)


@torch.no_grad()
def test_nothing_later_changes_what_came_before():
    net, x = network(SMALL), heard(SMALL, 9)
    felt, spelt, _ = net.steps(x)
    changed = x.clone()
    changed[..., 5 * SMALL.stride :] += 3.0
    after, other, _ = net.steps(changed)
    torch.testing.assert_close(after[:, :5], felt[:, :5], atol=1e-6, rtol=0.0)
    torch.testing.assert_close(other[:, :5], spelt[:, :5], atol=1e-6, rtol=0.0)
    assert (other[:, 5] - spelt[:, 5]).abs().max() > 1e-3


@torch.no_grad()
def test_each_item_alone_and_outputs_are_probabilities():
    net, x = network(SMALL), heard(SMALL, 6, batch=3)
    logits, log_probs, state = net(x)
    assert logits.shape == (3, SMALL.num_classes)
    assert log_probs.shape == (3, 6, SMALL.vocabulary)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(3, 6))
    alone = net(x[1:2])
    torch.testing.assert_close(alone[0][0], logits[1], atol=1e-5, rtol=0.0)
    torch.testing.assert_close(alone[1][0], log_probs[1], atol=1e-5, rtol=0.0)
    assert [part.shape for part in state] == [part.shape for part in net.initial_state(3)]


def test_the_running_mean_is_as_described():
    torch.manual_seed(0)
    pool = RunningMean(4, 2, memory=3.0).double()
    x = torch.randn(1, 7, 4, dtype=torch.float64)
    total, weight = torch.rand(1, 4), torch.rand(1, 2)
    values = torch.nn.functional.silu(pool.values(x))
    weights = torch.sigmoid(pool.weights(x)).repeat_interleave(2, dim=-1)
    above, below = total.double(), weight.double().repeat_interleave(2, dim=-1)
    forget = torch.exp(torch.tensor(-1.0 / 3.0, dtype=torch.float64))
    mean = pool(x, total, weight)[0]
    for step in range(7):
        above = forget * above + weights[:, step] * values[:, step]
        below = forget * below + weights[:, step]
        torch.testing.assert_close(mean[:, step].double(), above / (below + 1e-4), atol=1e-5, rtol=0.0)


@torch.no_grad()
def test_what_was_said_long_ago_is_forgotten():
    """Silence weighs, too: after many times the memory, the sums are those of the silence alone."""
    net = network(SMALL)
    state = net(10.0 * heard(SMALL, 4, batch=1))[2]
    fresh = None
    quiet = torch.zeros(1, SMALL.n_mels, 100 * SMALL.stride)
    for _ in range(3):
        one, _, state = net(quiet, state)
        other, _, fresh = net(quiet, fresh)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0.0)


def test_default_size():
    net = Multitask(MultitaskConfig())
    size = sum(p.numel() for p in net.parameters())
    assert 1.5e6 < size < 4e6
    assert MultitaskConfig().stride == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_mels": 6}, "multiple of 4"),
        ({"width": 9, "heads": 2}, "multiple of heads"),
        ({"kernels": (2, 3)}, "longer than strides"),
        ({"channels": (3,)}, "two positive numbers"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"memory": 0.0}, "memory must be positive"),
        ({"dropout": 1.0}, r"dropout in \[0, 1\)"),
    ],
)
def test_impossible_settings_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        MultitaskConfig(**change)


@pytest.mark.parametrize("shape", [(1, 8, 6), (1, 7, 8), (8, 8), (1, 8, 0)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(batch, 8, frames\)"):
        network(SMALL)(torch.zeros(shape))
