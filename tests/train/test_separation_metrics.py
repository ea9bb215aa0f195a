"""Separation metrics: golden values, torchmetrics, batches, permutations, silence; the closed-form control."""

import doctest
import warnings

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ser.train.tasks.separation import metrics, sinusoid_fit
from stream_ser.train.tasks.separation.metrics import (
    best_order,
    matched,
    pairwise,
    sdr,
    separation_loss,
    si_sdr,
    si_snr,
    snr,
)
from stream_ser.train.tasks.separation.sines import SineConfig, draw

GOLDEN = torch.tensor([2.5, 0.0, 2.0, 8.0]), torch.tensor([3.0, -0.5, 2.0, 7.0])


def noisy(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(*shape, generator=generator, dtype=dtype)
    return 0.7 * target + 0.3 * torch.randn(*shape, generator=generator, dtype=dtype) + 0.1, target


def test_golden_values() -> None:
    assert float(si_sdr(*GOLDEN)) == pytest.approx(18.4030, abs=1e-4)
    assert float(si_snr(*GOLDEN)) == pytest.approx(15.0918, abs=1e-4)
    assert doctest.testmod(metrics, extraglobs={"torch": torch}) == (0, 2)


def test_torchmetrics_agrees() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its import warns of is not ours
        audio = pytest.importorskip("torchmetrics.functional.audio")
    for dtype, shape in ((torch.float64, (3, 2, 900)), (torch.float32, (4, 800))):
        estimate, target = noisy(*shape, dtype=dtype)
        for ours, theirs in (
            (si_snr, audio.scale_invariant_signal_noise_ratio),
            (si_sdr, audio.scale_invariant_signal_distortion_ratio),
            (snr, audio.signal_noise_ratio),
            (sdr, audio.signal_distortion_ratio),
        ):
            torch.testing.assert_close(ours(estimate, target), theirs(estimate, target), atol=2e-3, rtol=1e-4)
    estimate, target = noisy(5, 3, 400)
    estimate = estimate[:, [2, 0, 1]]
    best, order = audio.permutation_invariant_training(
        estimate, target, audio.scale_invariant_signal_noise_ratio, mode="speaker-wise", eval_func="max"
    )
    torch.testing.assert_close(si_snr(matched(estimate, target), target).mean(-1), best)
    assert torch.equal(best_order(pairwise(si_snr, estimate, target)), order)


@pytest.mark.parametrize("metric", [si_snr, si_sdr, snr, sdr, metrics.negative_l1])
def test_batched_is_one_by_one(metric) -> None:
    estimate, target = noisy(2, 3, 700)
    together = metric(estimate, target)
    assert together.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        torch.testing.assert_close(together[i, j], metric(estimate[i, j], target[i, j]))


def test_what_each_is_blind_to() -> None:
    estimate, target = noisy(600)
    torch.testing.assert_close(si_snr(5 * estimate + 3, target), si_snr(estimate, target))
    torch.testing.assert_close(si_sdr(5 * estimate, target), si_sdr(estimate, target))
    assert abs(si_sdr(estimate + 1, target) - si_sdr(estimate, target)) > 1
    assert abs(snr(2 * estimate, target) - snr(estimate, target)) > 1
    # A delay is a filter; 512 taps hold it.
    delayed = torch.nn.functional.pad(target, (40, 0))[:600]
    assert sdr(delayed, target) > 10 > si_sdr(delayed, target)


@pytest.mark.parametrize("metric", [si_snr, si_sdr, snr, sdr])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_silence_is_finite_and_so_is_its_gradient(metric, dtype) -> None:
    silence, sound = torch.zeros(600, dtype=dtype), noisy(600, dtype=dtype)[1]
    for estimate, target in ((silence, sound), (sound, silence), (silence, silence), (sound, sound)):
        estimate = estimate.clone().requires_grad_(metric is not sdr)
        value = metric(estimate, target)
        assert torch.isfinite(value)
        if metric is not sdr:
            value.backward()
            assert torch.isfinite(estimate.grad).all()


def test_improvement_is_over_the_mixture() -> None:
    estimate, target = noisy(3, 2, 500)
    mixture = target.sum(-2)
    gained = metrics.improvement(si_snr, estimate, target, mixture)
    torch.testing.assert_close(gained[1, 0], si_snr(estimate[1, 0], target[1, 0]) - si_snr(mixture[1], target[1, 0]))


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(4)), st.sampled_from(sorted(metrics.OBJECTIVES)))
def test_the_loss_does_not_hang_on_the_order_of_sources(order, objective) -> None:
    estimate, target = noisy(2, 4, 60)
    shuffled = estimate[:, list(order)]
    torch.testing.assert_close(matched(shuffled, target), matched(estimate, target))
    torch.testing.assert_close(
        separation_loss(shuffled, target, objective, permute=True),
        separation_loss(estimate, target, objective, permute=True),
    )
    fixed = separation_loss(estimate, target, objective)
    assert separation_loss(estimate, target, objective, permute=True) <= fixed + 1e-12


def test_each_mixture_has_an_order_of_its_own_and_the_gradient_follows_it() -> None:
    target = noisy(2, 2, 50)[1]
    estimate = torch.stack([target[0], target[1].flip(0)]).requires_grad_()
    loss = separation_loss(estimate, target, "l1", permute=True)
    assert float(loss.detach()) == 0.0
    separation_loss(estimate + 0.1, target, "l1", permute=True).backward()
    torch.testing.assert_close(estimate.grad, torch.full_like(target, 1 / 200))


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="must be equal"):
        si_snr(torch.zeros(3), torch.zeros(4))
    with pytest.raises(ValueError, match="must be equal"):
        sdr(torch.zeros(0), torch.zeros(0))
    with pytest.raises(ValueError, match="1 to 6"):
        best_order(torch.zeros(7, 7))


def test_the_control_finds_what_the_rounding_leaves() -> None:
    config = SineConfig(12, 8_000, 0.25, phases="random")
    for item in draw(config, seed=5):
        mixture, *sources = (item.waves[role] / np.float32(32768) for role in ("mixture", "source_1", "source_2"))
        found, hz = sinusoid_fit.separate(mixture, 8_000)
        assert hz == pytest.approx([item.about["frequency_1_hz"], item.about["frequency_2_hz"]], abs=0.01)
        assert float(si_snr(torch.from_numpy(found), torch.from_numpy(np.stack(sources))).min()) > 60


def test_the_control_tells_close_sinusoids_apart() -> None:
    time_s = np.arange(8_000) / 8_000
    sources = np.stack([np.sin(2 * np.pi * 1_998 * time_s), 0.3 * np.cos(2 * np.pi * 2_002 * time_s)])
    found, hz = sinusoid_fit.separate(sources.sum(0).astype(np.float32), 8_000)
    assert hz == pytest.approx([1_998, 2_002], abs=1e-3)
    np.testing.assert_allclose(found, sources, atol=1e-4)


def test_the_control_survives_silence_and_less_than_it_expects() -> None:
    assert np.abs(sinusoid_fit.separate(np.zeros(400, np.float32), 8_000)[0]).max() == 0.0
    tone = np.sin(2 * np.pi * 1_000 * np.arange(400) / 8_000).astype(np.float32)
    np.testing.assert_allclose(sinusoid_fit.separate(tone, 8_000)[0].sum(0), tone, atol=1e-5)
