"""Mixtures drawn while a network trains: no two are the same, and every run draws the same ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from .config import MixtureConfig
from .mixtures import Drawn, Pool, draw, draw_many
from .task import Batch, Examples

#: Keeps the draws of training apart from those of tests, which have the seed and the number of a part in front.
_TRAINING = 11


def _stacked(drawn: list[Drawn]) -> tuple[Any, Any]:
    return np.stack([d.mixture for d in drawn]), np.stack([d.sources for d in drawn])


class MixtureStream(IterableDataset[Batch]):
    """The batches of one epoch. Batch ``n`` is the same with any number of loader processes, in any order.

    Args:
        pool: recordings.
        config: what to draw.
        batch_size: mixtures.
        steps: batches.
        seed: of all draws.
        epoch: other numbers give other mixtures.
    """

    def __init__(
        self, pool: Pool, config: MixtureConfig, batch_size: int, steps: int, seed: int, epoch: int = 1
    ) -> None:
        self._pool, self._config = pool, config
        self._batch_size, self._steps = batch_size, steps
        self._key = (seed, _TRAINING, epoch)

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[Batch]:
        """A loader's process gives every ``n``-th batch, so that the loader, which asks in turn, keeps their order."""
        info = get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        for number in range(first, self._steps, step):
            places = range(number * self._batch_size, (number + 1) * self._batch_size)
            drawn = [draw(self._pool, self._config, np.random.default_rng((*self._key, place))) for place in places]
            mixtures, sources = _stacked(drawn)
            yield Batch(torch.from_numpy(mixtures), torch.from_numpy(sources))


class CorpusMaterial:
    """Voices that are mixed anew for each step; tested on mixtures of other speakers, drawn once.

    Args:
        pools: recordings of the parts ``train``, ``validation`` and ``test``.
        config: what to draw.
        batch_size: mixtures.
        steps: batches an epoch.
        held_out: mixtures of the validation part, and of the test part.
        seed: of all draws.
        data: names of the corpora, for the record.
        licences: of the corpora and the noises, by name.
        workers: processes that draw; 0 draws in this one.
    """

    def __init__(
        self,
        pools: dict[str, Pool],
        config: MixtureConfig,
        batch_size: int,
        steps: int,
        held_out: int,
        seed: int,
        data: str,
        licences: dict[str, str],
        workers: int = 0,
    ) -> None:
        self._train, self._config = pools["train"], config
        self._batch_size, self._seed, self._workers = batch_size, seed, workers
        self.steps = steps
        self.validation = _examples(pools["validation"], config, seed, held_out)
        self.test = _examples(pools["test"], config, seed, held_out)
        counts = ", ".join(f"{len(pool.voices)} {part}" for part, pool in pools.items())
        minutes = pools["train"].seconds / 60
        self.describe: dict[str, Any] = {
            "data": data,
            "split": f"speakers: {counts}, seed {seed}; {minutes:.1f} min of training speech",
            "held_out": sorted(set(pools["validation"].voices) | set(pools["test"].voices)),
            "licences": licences,
        }

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch."""
        stream = MixtureStream(self._train, self._config, self._batch_size, self.steps, self._seed, number)
        if not self._workers:
            yield from stream
            return
        yield from DataLoader(stream, batch_size=None, num_workers=self._workers)


def _examples(pool: Pool, config: MixtureConfig, seed: int, count: int) -> Examples:
    drawn = list(draw_many(pool, config, seed, count))
    mixtures, sources = _stacked(drawn)
    return Examples(tuple(f"{number:04d}" for number in range(1, count + 1)), mixtures, sources)
