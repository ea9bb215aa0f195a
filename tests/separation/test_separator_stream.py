"""A separator as a stage: in step with its input, of its length, the same for every split; and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from separators import FACTORS, write_tiny_separator

from stream_ser.errors import AudioError, ModelError
from stream_ser.events import Block
from stream_ser.runtime.card.separation import SeparatorCard
from stream_ser.separation.separator import Separator, SeparatorStream, find_separator
from stream_ser.separation.source import SeparatedSource
from stream_ser.sources.parts import split

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Separator(write_tiny_separator(tmp_path_factory.mktemp("tiny") / "tiny.onnx"))


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    path = tmp_path_factory.mktemp("narrow") / "narrow.onnx"
    return Separator(write_tiny_separator(path, sample_rate=8_000, hop=32, window=64))


def run(stream, samples, cuts=()):
    places = [0, *sorted(cuts), len(samples)]
    parts = [stream.push(samples[first:last]) for first, last in pairwise(places)]
    return np.concatenate([*parts, stream.flush()], axis=1)


@given(
    size=st.integers(0, 3_000),
    cuts=st.lists(st.integers(0, 3_000), max_size=12),
    hops=st.sampled_from([1, 3, 8]),
)
@settings(max_examples=60, deadline=None)
def test_sources_are_in_step_for_every_split(tiny, size, cuts, hops):
    samples = RNG.standard_normal(size).astype(np.float32)
    stream = SeparatorStream(tiny, hops=hops)
    expected = np.array(FACTORS, np.float32)[:, None] * samples
    np.testing.assert_array_equal(run(stream, samples, [min(cut, size) for cut in cuts]), expected)


@given(
    size=st.integers(0, 3_000), cuts=st.lists(st.integers(0, 3_000), max_size=8), rate=st.sampled_from([16_000, 22_050])
)
@settings(max_examples=40, deadline=None)
def test_another_rate_keeps_length_and_split(narrow, size, cuts, rate):
    samples = RNG.standard_normal(size).astype(np.float32)
    stream = SeparatorStream(narrow, rate)
    whole = run(stream, samples)
    assert whole.shape == (2, size)
    np.testing.assert_array_equal(run(stream, samples, [min(cut, size) for cut in cuts]), whole)


def test_another_rate_keeps_places(narrow):
    time_s = np.arange(16_000) / 16_000
    tone = (np.sin(2 * np.pi * 440 * time_s) * np.hanning(16_000)).astype(np.float32)
    found = run(SeparatorStream(narrow, 16_000), tone, range(100, 16_000, 333))
    np.testing.assert_allclose(found, np.array(FACTORS)[:, None] * tone, atol=2e-3)


def test_nothing_waits_longer_than_the_latency(tiny):
    stream = SeparatorStream(tiny)
    taken = given_ = 0
    longest = 0
    for _ in range(200):
        given_ += stream.push(np.zeros(10, np.float32)).shape[1]
        taken += 10
        longest = max(longest, taken - given_)
    assert stream.latency_s == 256 / 16_000
    assert 256 - 10 <= longest < 256


def test_a_stream_begins_anew_after_its_end(tiny):
    stream = SeparatorStream(tiny)
    samples = RNG.standard_normal(700).astype(np.float32)
    first = run(stream, samples)
    np.testing.assert_array_equal(run(stream, samples), first)
    stream.push(samples)
    stream.reset()
    np.testing.assert_array_equal(run(stream, samples), first)


class Mixture:
    name, sample_rate, parts = "a.wav", 16_000, ("",)

    def __init__(self, *blocks):
        self.blocks = blocks

    def __iter__(self):
        return iter(self.blocks)


def test_losses_notices_and_times_stay_where_they_were(tiny):
    samples = RNG.standard_normal(1_000).astype(np.float32)
    mixture = Mixture(
        Block(samples[:300], captured_at=10.0),
        Block(samples[:0], notices=(("stalled", "nothing comes"),)),
        Block(samples[300:650], captured_at=10.5, lost=120, behind=True),
        Block(samples[650:], captured_at=11.0),
    )
    heard = np.concatenate([samples[:300], np.zeros(120, np.float32), samples[300:]])
    separated = SeparatedSource(mixture, tiny, 16_000)
    assert (separated.name, separated.sample_rate, separated.parts) == ("a.wav", 16_000, ("#1", "#2"))
    blocks = list(separated)
    filled = [block for block in blocks if len(block.samples)]
    np.testing.assert_array_equal(
        np.concatenate([block.samples for block in filled]), heard[:, None] * np.array(FACTORS, np.float32)
    )
    starts = np.cumsum([0, *(len(block.samples) for block in filled)])
    gaps = [(int(start), block.gap) for start, block in zip(starts, filled, strict=False) if block.gap]
    assert gaps == [(300, 120)]
    assert [block.notices for block in blocks if block.notices] == [(("stalled", "nothing comes"),)]
    assert {len(split(block)) for block in blocks} == {2}
    # By 10.0 s 300 samples were captured: what is not through yet was captured later.
    assert filled[0].captured_at == pytest.approx(10.0 - (300 - len(filled[0].samples)) / 16_000)
    assert filled[-1].captured_at == pytest.approx(11.0)
    assert any(block.behind for block in filled)
    assert [part.samples.shape for part in split(filled[0])] == [(len(filled[0].samples),)] * 2


def test_each_channel_is_separated_on_its_own(tiny):
    stereo = RNG.standard_normal((900, 2)).astype(np.float32)
    mixture = Mixture(Block(stereo[:100]), Block(stereo[:0], notices=(("overflow", "full"),)), Block(stereo[100:]))
    mixture.parts = ("#1", "#2")
    separated = SeparatedSource(mixture, tiny, 16_000)
    assert separated.parts == ("#1#1", "#1#2", "#2#1", "#2#2")
    blocks = list(separated)
    assert {len(split(block)) for block in blocks} == {4}
    expected = np.concatenate([stereo[:, [n]] * np.array(FACTORS, np.float32) for n in (0, 1)], axis=1)
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks]), expected)


def test_one_source_alone(tiny):
    samples = RNG.standard_normal(500).astype(np.float32)
    source = SeparatedSource(Mixture(Block(samples)), tiny, 16_000, 1)
    assert source.parts == ("",)
    found = np.concatenate([block.samples for block in source])
    np.testing.assert_array_equal(found, np.float32(FACTORS[1]) * samples)


def test_what_is_no_separator_is_refused(tiny_model, tmp_path):
    with pytest.raises(ModelError, match="no such separator file, nor a bundled"):
        find_separator("nope")
    with pytest.raises(ModelError, match="is a folder"):
        find_separator(tmp_path)
    with pytest.raises(ModelError, match="expected 'separator': a network that separates sources"):
        Separator(tiny_model)
    (tmp_path / "no.onnx").write_bytes(b"no")
    with pytest.raises(ModelError, match="not a readable ONNX model"):
        Separator(tmp_path / "no.onnx")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": (("past", (1, 192)),)}, "its inputs are mixture, history, but its card needs mixture, past"),
        ({"state": (("history", (1, 10)),)}, "the network cannot be run"),
        ({"sources": ("a", "b", "c")}, r"returned \(1, 2, 64\), expected \(1, 3, 64\)"),
    ],
)
def test_a_graph_that_does_not_fit_its_card_is_refused(tmp_path, change, said):
    card = SeparatorCard("two", ("a", "b"), 16_000, 64, 256, (("history", (1, 192)),))
    path = write_tiny_separator(tmp_path / "wrong.onnx", card=replace(card, **change))
    with pytest.raises(ModelError, match=said):
        Separator(path)


def test_values_that_are_not_finite_are_refused(tmp_path):
    separator = Separator(write_tiny_separator(tmp_path / "loud.onnx", factors=(3e38, 1.0)))
    with pytest.raises(ModelError, match="not finite"):
        SeparatorStream(separator).push(np.full(1_000, 2.0, np.float32))


def test_samples_that_are_not_finite_leave_the_stream_as_it_was(tiny):
    stream, untouched = SeparatorStream(tiny), SeparatorStream(tiny)
    samples = RNG.standard_normal(500).astype(np.float32)
    first, second = stream.push(samples), untouched.push(samples)
    with pytest.raises(AudioError, match="sample 502 is nan"):
        stream.push(np.array([0.0, 0.0, np.nan], np.float32))
    np.testing.assert_array_equal(
        np.concatenate([first, stream.flush()], axis=1), np.concatenate([second, untouched.flush()], axis=1)
    )


def test_a_file_without_a_card_is_refused(tmp_path):
    import onnx

    path = write_tiny_separator(tmp_path / "bare.onnx")
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(ModelError, match="no stream-ser card"):
        Separator(path)
