"""How well sources are separated, in decibels: all functions take ``(..., time)``, batched as one by one.

SI-SDR: Le Roux et al. 2019, "SDR - half-baked or well done?"; SI-SNR is the same after the means are taken off (Luo &
Mesgarani 2018). SDR: Vincent et al. 2006 (BSS-eval) with a distortion filter of 512 taps, as in version 4.
Permutation-invariant: Yu et al. 2017.

A small constant keeps silence finite: of a silent target nothing can be said, and the value is very low, or 0 dB where
the estimate is silent, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

#: Of a metric: ``(..., time)`` estimate, ``(..., time)`` target to ``(...)`` decibels, more is better.
Metric = Callable[[Tensor, Tensor], Tensor]
FILTER_TAPS = 512
#: Most sources of which all orders are tried: 720 of them.
MAX_SOURCES = 6


def _check(estimate: Tensor, target: Tensor) -> None:
    if estimate.shape != target.shape or not estimate.ndim or not estimate.shape[-1]:
        raise ValueError(f"estimate {tuple(estimate.shape)} and target {tuple(target.shape)} must be equal (..., time)")


def _ratio_db(signal: Tensor, noise: Tensor) -> Tensor:
    """``10 log10`` of the energies' ratio over the last axis."""
    eps = torch.finfo(signal.dtype).eps
    return 10.0 * torch.log10((signal.square().sum(-1) + eps) / (noise.square().sum(-1) + eps))


def snr(estimate: Tensor, target: Tensor) -> Tensor:
    """Signal-to-noise ratio: what differs from the target is noise, a wrong level included.

    Args:
        estimate: ``(..., time)``.
        target: the same shape.

    Returns:
        ``(...)`` dB.

    Raises:
        ValueError: the shapes differ, or there is no sample.
    """
    _check(estimate, target)
    return _ratio_db(target, estimate - target)


def si_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio; the means stay in. As :func:`snr` otherwise."""
    _check(estimate, target)
    eps = torch.finfo(estimate.dtype).eps
    scale = ((estimate * target).sum(-1, keepdim=True) + eps) / (target.square().sum(-1, keepdim=True) + eps)
    projected = scale * target
    return _ratio_db(projected, estimate - projected)


def si_snr(estimate: Tensor, target: Tensor) -> Tensor:
    """:func:`si_sdr` of signals whose means were taken off.

    Example:
        >>> estimate, target = torch.tensor([2.5, 0.0, 2.0, 8.0]), torch.tensor([3.0, -0.5, 2.0, 7.0])
        >>> f"{si_snr(estimate, target):.4f} {si_sdr(estimate, target):.4f}"
        '15.0918 18.4030'
    """
    _check(estimate, target)
    return si_sdr(estimate - estimate.mean(-1, keepdim=True), target - target.mean(-1, keepdim=True))


def improvement(metric: Metric, estimate: Tensor, target: Tensor, mixture: Tensor) -> Tensor:
    """What separation brought: the metric of the estimate over that of the mixture itself (SI-SNRi, with SI-SNR).

    Args:
        metric: such as :func:`si_snr`.
        estimate: ``(..., sources, time)``.
        target: the same shape.
        mixture: ``(..., time)``.

    Returns:
        ``(..., sources)`` dB.
    """
    return metric(estimate, target) - metric(mixture.unsqueeze(-2).expand_as(target), target)


def sdr(estimate: Tensor, target: Tensor, taps: int = FILTER_TAPS) -> Tensor:
    """BSS-eval's signal-to-distortion ratio: the target may be filtered by the best FIR filter of ``taps`` taps.

    The filter solves the normal equations with the target's autocorrelation, in float64; the ratio follows from the
    share of the estimate's energy that it explains (Scheibler 2021).

    Args:
        estimate: ``(..., time)``.
        target: the same shape.
        taps: of the filter.

    Returns:
        ``(...)`` dB, in the type of the estimate.

    Raises:
        ValueError: the shapes differ.
    """
    _check(estimate, target)
    tiny = 1e-10
    first, second = (
        wave.double() / wave.double().norm(dim=-1, keepdim=True).clamp_min(1e-6) for wave in (estimate, target)
    )
    size = 2 ** (estimate.shape[-1] + taps - 1).bit_length()
    spectrum = torch.fft.rfft(second, size)
    auto = torch.fft.irfft(spectrum.abs().square(), size)[..., :taps]
    cross = torch.fft.irfft(spectrum.conj() * torch.fft.rfft(first, size), size)[..., :taps]
    lags = torch.arange(taps, device=estimate.device)
    matrix = auto[..., (lags[:, None] - lags).abs()]
    # A band-limited target leaves the matrix singular to working precision.
    matrix = matrix + tiny * torch.eye(taps, dtype=matrix.dtype, device=matrix.device)
    explained = (cross * torch.linalg.solve(matrix, cross)).sum(-1)
    explained = explained.clamp(tiny, 1.0 - tiny)
    return (10.0 * torch.log10(explained / (1.0 - explained))).to(estimate.dtype)


def pairwise(metric: Metric, estimate: Tensor, target: Tensor) -> Tensor:
    """A metric of every estimate against every target.

    Args:
        metric: of ``(..., time)``.
        estimate: ``(..., sources, time)``.
        target: the same shape.

    Returns:
        ``(..., sources, sources)``, estimates in rows.
    """
    _check(estimate, target)
    sources = target.shape[-2]
    shape = (*target.shape[:-2], sources, sources, target.shape[-1])
    return metric(estimate.unsqueeze(-2).expand(shape), target.unsqueeze(-3).expand(shape))


def best_order(scores: Tensor) -> Tensor:
    """Which estimate belongs to which target, by the highest sum of scores over all orders.

    Args:
        scores: ``(..., sources, sources)``, estimates in rows, as by :func:`pairwise`.

    Returns:
        ``(..., sources)`` int64: the estimate of each target.

    Raises:
        ValueError: not square, or too many sources to try all orders.
    """
    sources = scores.shape[-1]
    if scores.shape[-2] != sources or not 1 <= sources <= MAX_SOURCES:
        raise ValueError(f"scores {tuple(scores.shape)} must be (..., n, n) with n from 1 to {MAX_SOURCES}")
    orders = torch.tensor(list(itertools.permutations(range(sources))), device=scores.device)
    columns = torch.arange(sources, device=scores.device)
    totals = scores[..., orders, columns].sum(-1)
    return orders[totals.argmax(-1)]


def reorder(estimate: Tensor, order: Tensor) -> Tensor:
    """Estimates ``(..., sources, time)`` in the targets' order, as given by :func:`best_order`."""
    return estimate.gather(-2, order.unsqueeze(-1).expand_as(estimate))


def matched(estimate: Tensor, target: Tensor, metric: Metric = si_snr) -> Tensor:
    """Estimates ``(..., sources, time)`` in the order that fits the targets best; permutation-invariant evaluation."""
    return reorder(estimate, best_order(pairwise(metric, estimate, target)))


def negative_l1(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference over time, negated: more is better, as for :data:`Metric`."""
    return -(estimate - target).abs().mean(-1)


#: What a separator can be trained on, by name.
OBJECTIVES: dict[str, Metric] = {"l1": negative_l1, "si-snr": si_snr, "snr": snr}


def separation_loss(estimate: Tensor, target: Tensor, objective: str = "l1", permute: bool = False) -> Tensor:
    """What training minimises: the negative objective, averaged over sources and batch.

    Args:
        estimate: ``(batch, sources, time)``.
        target: the same shape.
        objective: of :data:`OBJECTIVES`: ``l1``, ``si-snr``, or ``snr``, by which the level is learnt, too.
        permute: score each mixture in the order of sources that is best for it (uPIT, Kolbaek et al. 2017).

    Returns:
        a scalar.
    """
    metric = OBJECTIVES[objective]
    if not permute:
        return -metric(estimate, target).mean()
    scores = pairwise(metric, estimate, target)
    order = best_order(scores.detach())
    return -scores.gather(-2, order.unsqueeze(-2)).mean()
