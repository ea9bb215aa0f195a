"""The separators that come with a fresh install."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_models import shared_data

from stream_ser.audio.decode import read_blocks
from stream_ser.separation.separator import Separator, SeparatorStream, bundled_separators

CLIP = Path(__file__).parents[2] / "stream_ser" / "assets" / "demo.flac"
RATE = 16_000


def si_snr_db(estimate: NDArray[np.float32], target: NDArray[np.float32]) -> float:
    """Scale-invariant SNR without its means, which are nothing in sound."""
    part = (estimate @ target) / (target @ target) * target
    return float(10.0 * np.log10((part @ part) / ((estimate - part) @ (estimate - part))))


def both_ways(separator: Separator, samples: NDArray[np.float32], cuts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Sources ``(sources, time)``, fed in pieces."""
    stream = SeparatorStream(separator)
    return np.concatenate([*(stream.push(part) for part in np.split(samples, cuts)), stream.flush()], axis=1)


@pytest.fixture(scope="module")
def voice() -> NDArray[np.float32]:
    return np.concatenate(list(read_blocks(CLIP)))[7 * RATE : 11 * RATE]


def test_both_are_there() -> None:
    assert [path.stem for path in bundled_separators()] == ["enhancer", "separator"]


@pytest.mark.parametrize(("name", "sources", "corpora"), [("separator", 2, 3), ("enhancer", 1, 4)])
def test_they_are_small_quick_and_say_what_binds_them(name: str, sources: int, corpora: int) -> None:
    separator = Separator(name)
    card = separator.card
    assert separator.path.stat().st_size <= 16e6
    assert card.parameters <= 5e6
    assert len(card.sources) == sources
    assert card.window / card.sample_rate <= 0.032
    assert card.licence.count("trained on ") == corpora
    assert ("CC BY-NC" in card.licence) == (name == "enhancer")
    assert card.results["held_out"]["si_snr_improvement_db"] > 3.0


@pytest.mark.parametrize("name", ["separator", "enhancer"])
def test_any_split_gives_the_same_sources(name: str, voice: NDArray[np.float32]) -> None:
    separator = Separator(name)
    samples = voice[:RATE]
    cuts = np.sort(np.random.default_rng(0).integers(0, samples.size, 30))
    whole = both_ways(separator, samples, cuts[:0])
    np.testing.assert_array_equal(both_ways(separator, samples, cuts), whole)
    assert whole.shape == (len(separator.card.sources), samples.size)


def hum(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    return np.sin(2 * np.pi * 100.0 * np.arange(size) / RATE + rng.uniform(0, 6)).astype(np.float32)


def hiss(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    return rng.standard_normal(size).astype(np.float32)


@pytest.mark.parametrize(("noise", "least_db"), [(hiss, 5.0), (hum, 10.0)])
def test_the_enhancer_takes_noise_off_a_voice(
    voice: NDArray[np.float32], noise: Callable[[np.random.Generator, int], NDArray[np.float32]], least_db: float
) -> None:
    """A voice that it was not trained on, beside noise as loud as it."""
    added = noise(np.random.default_rng(0), voice.size)
    added *= np.sqrt(np.mean(voice**2) / np.mean(added**2))
    before, after = (
        si_snr_db(samples, voice)
        for samples in (voice + added, both_ways(Separator("enhancer"), voice + added, np.zeros(0, np.int64))[0])
    )
    assert after - before > least_db


@pytest.mark.slow
def test_the_separator_takes_unseen_speakers_apart() -> None:
    folder = shared_data("librispeech-clean")
    if folder is None:
        pytest.skip("LibriSpeech is not at ../shared/data/librispeech-clean")
    pytest.importorskip("torch")
    from stream_ser.train.data.corpora import load
    from stream_ser.train.experiments.separation import score, separate_by
    from stream_ser.train.tasks.separation.config import MixtureConfig
    from stream_ser.train.tasks.separation.mixtures import draw_many, load_pools

    config = MixtureConfig(sample_rate=RATE)
    pool = load_pools([load("librispeech", folder)], None, RATE, 0, ("test",))["test"]
    method = separate_by(Separator("separator"), RATE)
    gained = [score(method, one.mixture, one.sources)["si_snri_db"] for one in draw_many(pool, config, 1, 20)]
    assert np.mean(gained) > 3.0
