"""The transcriber: shapes, causality, padding, its cache, and that it can learn."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from torch.nn import functional

from stream_ser.models.transcriber import END, Transcriber, TranscriberConfig, sinusoids
from stream_ser.train.tasks.transcriber.task import teach

SMALL = TranscriberConfig(
    n_mels=8, vocabulary=7, dim=16, heads=2, encoder_layers=2, decoder_layers=2, max_tokens=9, dropout=0.0
)


def made(config: TranscriberConfig = SMALL, seed: int = 0) -> Transcriber:
    torch.manual_seed(seed)
    return Transcriber(config).eval()


def clip(frames: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(1, 8, frames, generator=torch.Generator().manual_seed(seed))


def test_shapes():
    network = made()
    encoded, mask = network.encode(torch.randn(3, 8, 40))
    assert encoded.shape == (3, 10, 16)
    assert mask is None
    memory = network.remember(encoded)
    assert memory.keys.shape == memory.values.shape == (2, 3, 2, 10, 8)
    assert network(memory, torch.full((3, 5), network.begin)).shape == (3, 5, 7)
    log_probs = network.ctc(encoded)
    assert log_probs.shape == (3, 10, 7)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(3, 10))


@pytest.mark.parametrize("strides", [(1, 2), (2, 2), (3, 2), (2, 3)])
def test_a_step_is_the_product_of_the_strides(strides):
    config = TranscriberConfig(n_mels=8, vocabulary=7, dim=16, heads=2, strides=strides)
    encoded, _ = made(config).encode(torch.randn(2, 8, 7 * config.stride))
    assert encoded.shape == (2, 7, 16)


@pytest.mark.parametrize("strides", [(1, 2), (2, 2), (2, 3), (3, 2)])
def test_a_clip_in_a_batch_is_heard_as_alone(strides):
    config = TranscriberConfig(n_mels=8, vocabulary=7, dim=16, heads=2, strides=strides, max_tokens=9)
    network, stride = made(config), config.stride
    short, long = clip(5 * stride), clip(9 * stride, seed=2)
    padded = functional.pad(short, (0, 4 * stride), value=3.0)  # what lies behind a clip's end is not heard
    steps = torch.tensor([5, 9])
    encoded, mask = network.encode(torch.cat([padded, long]), steps)
    for row, one in enumerate((short, long)):
        torch.testing.assert_close(encoded[row, : steps[row]], network.encode(one)[0][0])
    tokens = torch.tensor([[7, 1, 2], [7, 3, 4]])
    together = network(network.remember(encoded, mask), tokens)
    alone = network(network.remember(network.encode(short)[0]), tokens[:1])
    torch.testing.assert_close(together[:1], alone)
    written = network.greedy(torch.cat([padded, long]), steps)
    for (found, scores), one in zip(written, (short, long), strict=True):
        ((expected, wanted),) = network.greedy(one)
        assert found.tolist() == expected.tolist()
        torch.testing.assert_close(scores, wanted)


def test_the_decoder_sees_no_later_token():
    network = made()
    memory = network.remember(network.encode(clip(40))[0])
    tokens = torch.tensor([[7, 1, 2, 3, 4]])
    before = network(memory, tokens)
    for place in range(1, 5):
        changed = tokens.clone()
        changed[0, place] = 5
        after = network(memory, changed)
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.allclose(after[:, place], before[:, place])


def test_the_encoder_hears_the_whole_clip():
    network = made()
    features = clip(40)
    before = network.encode(features)[0]
    features[..., -1] += 1.0
    assert not torch.allclose(network.encode(features)[0][:, 0], before[:, 0])


def test_step_by_step_equals_all_at_once():
    network = made()
    memory = network.remember(*network.encode(torch.randn(2, 8, 40), torch.tensor([10, 6])))
    tokens = torch.tensor([[7, 1, 2, 3, 4], [7, 6, 6, 0, 1]])
    expected = network(memory, tokens)
    cache = network.start(memory, 6)
    for place in range(5):
        logits, cache = network.step(memory, tokens[:, place : place + 1], torch.tensor(place), cache)
        torch.testing.assert_close(logits, expected[:, place])


@pytest.mark.parametrize(("frames", "most"), [(12, 3), (80, 9)])
def test_a_text_that_does_not_end_is_cut_off(frames, most):
    """After one character a step, or as many as there are positions for, and room for the end."""
    network = made()
    with torch.no_grad():
        network.embedding.weight[END] = -100.0 * network.decoder_norm.weight
        network.decoder_norm.bias.fill_(1.0)
    ((tokens, scores),) = network.greedy(clip(frames))
    assert len(tokens) == len(scores) == most + 1
    assert END not in tokens.tolist()


def test_greedy_takes_the_likeliest_and_stops():
    network = made()
    ((tokens, scores),) = network.greedy(clip(80))
    memory = network.remember(network.encode(clip(80))[0])
    told = torch.cat([torch.tensor([network.begin]), tokens[:-1]])[None]
    best = network(memory, told).log_softmax(-1).max(-1)
    assert tokens.tolist() == best.indices[0].tolist()
    torch.testing.assert_close(scores, best.values[0])
    assert END not in tokens[:-1].tolist()


def test_positions_are_sines_and_cosines():
    found = sinusoids(5, 8, torch.device("cpu"))
    assert found.shape == (5, 8)
    assert found[0].tolist() == [0.0] * 4 + [1.0] * 4
    torch.testing.assert_close(found[3, 0], torch.tensor(3.0).sin())
    torch.testing.assert_close(found[3, 7], torch.tensor(3e-4).cos())


@pytest.mark.parametrize("shape", [(8, 40), (1, 9, 40), (1, 8, 0), (1, 8, 42)])
def test_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(batch, 8, frames\), a multiple of 4"):
        made().encode(torch.zeros(shape))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dim": 18, "heads": 4}, "multiple of twice the heads"),
        ({"strides": (2, 4)}, "strides"),
        ({"strides": (2,)}, "one a convolution"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"vocabulary": 1}, "vocabulary"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_impossible_settings_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        TranscriberConfig(**change)


def test_it_learns_four_clips_by_heart():
    """Of different lengths and texts, heard by nothing but their noise."""
    network = made(seed=3)
    lengths = torch.tensor([3, 5, 2, 4])
    texts = torch.randint(1, 7, (int(lengths.sum()),), generator=torch.Generator().manual_seed(4))
    features = torch.cat([clip(32, seed) for seed in range(4)])
    steps = torch.tensor([8, 7, 6, 8])
    told, expected = teach(texts, lengths, network.begin)
    optimizer = torch.optim.AdamW(network.train().parameters(), lr=1e-2)
    for _ in range(60):
        logits = network(network.remember(*network.encode(features, steps)), told)
        loss = functional.cross_entropy(logits.flatten(0, 1), expected.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    written = network.eval().greedy(features, steps)
    for (tokens, _), text in zip(written, texts.split(lengths.tolist()), strict=True):
        assert tokens.tolist() == [*text.tolist(), END]
