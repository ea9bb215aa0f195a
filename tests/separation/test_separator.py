"""Separators: perfect reconstruction, latency, and the same result however a recording is cut."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ser.errors import TrainError
from stream_ser.models import separator
from stream_ser.models.separator import LSTMMaskConfig, LSTMTasNetConfig, Separator, STFTBasis, frame_sizes

CONFIGS = {
    "mask": ("lstm-mask", LSTMMaskConfig(window=64, hop=16, hidden=6, layers=2)),
    "half": ("lstm-mask", LSTMMaskConfig(window=48, hop=24, sources=3, mask="relu")),
    "tasnet": ("lstm-tasnet", LSTMTasNetConfig(window=64, hop=16, hidden=10, bottleneck=7, layers=2)),
    "learned": (
        "lstm-tasnet",
        LSTMTasNetConfig(window=24, hop=8, hidden=9, bottleneck=5, basis="learned", channels=12, sources=1),
    ),
}


def network(name: str) -> Separator:
    torch.manual_seed(0)
    return separator.build(*CONFIGS[name]).double().eval()


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@torch.no_grad()
def streamed(net: Separator, x: torch.Tensor, hops: list[int]) -> torch.Tensor:
    state, out, position = None, [], 0
    for count in hops:
        size = count * net.config.hop
        y, state = net(x[:, position : position + size], state)
        out.append(y)
        position += size
    assert position == x.shape[1]
    return torch.cat(out, dim=-1)


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=25, deadline=None)
@given(hops=st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_chunks_equal_the_whole(name, hops) -> None:
    net = network(name)
    x = noise(2, sum(hops) * net.config.hop)
    whole = streamed(net, x, [sum(hops)])
    torch.testing.assert_close(streamed(net, x, hops), whole, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_state_after_any_chunks_is_the_same(name) -> None:
    net = network(name)
    hop = net.config.hop
    x = noise(3, 6 * hop)
    with torch.no_grad():
        _, whole = net(x)
        state = None
        for i in range(6):
            _, state = net(x[:, i * hop : (i + 1) * hop], state)
    for a, b in zip(state, whole, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_future_changes_nothing_beyond_the_latency(name) -> None:
    net = network(name)
    hop, delay = net.config.hop, net.config.delay
    x = noise(1, 20 * hop)
    other = x.clone()
    other[:, 10 * hop :] = noise(1, 10 * hop, seed=2)
    with torch.no_grad():
        a, b = (net.separate(wave) for wave in (x, other))
    torch.testing.assert_close(a[..., : 10 * hop - delay], b[..., : 10 * hop - delay], atol=0, rtol=0)
    assert not torch.allclose(a[..., 10 * hop :], b[..., 10 * hop :])


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("size", [1, 15, 100, 333])
def test_a_recording_of_any_length_keeps_it(name, size) -> None:
    net = network(name)
    assert net.separate(noise(2, size)).shape == (2, net.config.sources, size)


@pytest.mark.parametrize("name", CONFIGS)
def test_batched_is_one_by_one(name) -> None:
    net = network(name)
    x = noise(3, 300)
    with torch.no_grad():
        together = net.separate(x)
        for i in range(3):
            torch.testing.assert_close(net.separate(x[i : i + 1])[0], together[i], atol=1e-10, rtol=0)


@pytest.mark.parametrize(("window", "hop"), [(64, 32), (64, 16), (60, 20), (45, 15), (256, 32)])
def test_masks_of_one_give_the_mixture_back(window, hop) -> None:
    net = separator.build("lstm-mask", LSTMMaskConfig(window=window, hop=hop, sources=1)).eval()
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.fill_(50.0)
        x = torch.randn(2, 500)
        torch.testing.assert_close(net.separate(x)[:, 0], x, atol=1e-5, rtol=0)


def test_the_basis_is_the_fourier_transform() -> None:
    basis = STFTBasis(64, 16).double()
    frames = noise(2, 3, 64)
    spectrum, _ = basis.encode(frames)
    root = torch.hann_window(64, dtype=torch.float64).sqrt()
    expected = torch.fft.rfft(frames * root)
    torch.testing.assert_close(spectrum, torch.cat([expected.real, expected.imag], -1), atol=1e-4, rtol=0)


def test_the_level_decides_nothing() -> None:
    net = network("tasnet")
    x = noise(1, 640)
    with torch.no_grad():
        quiet, loud = net.separate(0.05 * x), net.separate(x)
    torch.testing.assert_close(quiet / 0.05, loud, atol=1e-3, rtol=0)


def test_silence_is_finite_for_hours() -> None:
    net = network("tasnet")
    with torch.no_grad():
        y, state = net(torch.zeros(1, 16_000, dtype=torch.float64))
    assert float(y.abs().max()) == 0.0
    assert all(torch.isfinite(part).all() for part in state)


def test_small_enough_and_quick_enough() -> None:
    for name, kind in separator.SEPARATORS.items():
        for rate in (8_000, 16_000):
            window, hop = frame_sizes(rate)
            config = kind.config(sample_rate=rate, window=window, hop=hop)
            assert config.latency_ms <= 32.0
            assert sum(p.numel() for p in separator.build(name, config).parameters()) <= 5_000_000
    assert frame_sizes(8_000) == (256, 64)
    assert frame_sizes(16_000) == (512, 128)
    assert frame_sizes(44_100) == (1024, 256)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"window": 512}, "latency of 64 ms at 8000 Hz, expected 32 ms at most"),
        ({"window": 100, "hop": 64}, "must be a multiple of hop 64"),
        ({"window": 64, "hop": 64}, "twice at least"),
        ({"basis": "wavelet"}, "basis 'wavelet' is not one of stft, learned"),
        ({"mask": "none"}, "mask 'none' is not one of"),
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"bottleneck": 0}, "bottleneck must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(change, said) -> None:
    with pytest.raises(ValueError, match=said):
        LSTMTasNetConfig(**change)


def test_mistakes_are_named() -> None:
    with pytest.raises(TrainError, match="known: lstm-mask, lstm-tasnet"):
        separator.build("gru", LSTMMaskConfig())
    with pytest.raises(TrainError, match="built from a LSTMTasNetConfig"):
        separator.build("lstm-tasnet", LSTMMaskConfig())
    net = network("mask")
    for shape in ((1, 17), (1, 0), (16,)):
        with pytest.raises(ValueError, match="multiple of 16"):
            net(torch.zeros(*shape, dtype=torch.float64))
