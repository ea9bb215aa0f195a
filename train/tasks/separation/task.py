"""Training of a separator. A draw hangs on the seed and the epoch alone, so a resumed run repeats an unbroken one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_ser.errors import TrainError
from stream_ser.models import separator
from stream_ser.models.separator import Separator
from stream_ser.train.checkpoint import current_commit, read_state, with_weights
from stream_ser.train.files import write_atomically
from stream_ser.train.optimization import Optimization

from .config import SeparationConfig
from .metrics import Metric, best_order, pairwise, reorder, separation_loss, si_snr
from .mixture_folder import SeparationSet

FORMAT = "separator-1"
#: Not the classifiers' names: their commands look for those in run folders.
SEPARATOR = "separator.pt"
#: Mixtures that go through the network at once without gradients.
_TEST_BATCH = 16


class Batch(NamedTuple):
    """Mixtures ``(batch, time)`` and their sources ``(batch, sources, time)``."""

    mixtures: Tensor
    sources: Tensor


@dataclass(frozen=True)
class Examples:
    """Mixtures to test with.

    Attributes:
        names: of the mixtures.
        mixtures: ``(mixtures, time)`` float32.
        sources: ``(mixtures, sources, time)`` float32.
    """

    names: tuple[str, ...]
    mixtures: NDArray[np.float32]
    sources: NDArray[np.float32]

    def batches(self, size: int = _TEST_BATCH) -> Iterator[Batch]:
        """In order."""
        for first in range(0, len(self.names), size):
            part = slice(first, first + size)
            yield Batch(torch.from_numpy(self.mixtures[part]), torch.from_numpy(self.sources[part]))


class Material(Protocol):
    """What a separator is trained on and tested with.

    Attributes:
        steps: batches an epoch.
        validation: mixtures that are looked at after each epoch.
        test: mixtures that are looked at once, at the end; of a set on disk, the same.
        describe: where it came from and how it was split, for the record.
    """

    @property
    def steps(self) -> int: ...  # noqa: D102

    @property
    def validation(self) -> Examples: ...  # noqa: D102

    @property
    def test(self) -> Examples: ...  # noqa: D102

    @property
    def describe(self) -> dict[str, Any]: ...  # noqa: D102

    def epoch(self, number: int) -> Iterable[Batch]:
        """The batches of an epoch, from 1 on; the same whenever they are asked for."""


class SetMaterial:
    """A set on disk, split into a training and a test part by the seed.

    Raises:
        TrainError: fewer than two mixtures.
    """

    def __init__(self, whole: SeparationSet, test_share: float, batch_size: int, seed: int) -> None:
        count = len(whole.names)
        if count < 2:
            raise TrainError(f"{whole.folder}: holds {count} mixture, expected two or more to train and to test")
        order = np.random.default_rng(seed).permutation(count)
        held_out = min(count - 1, max(1, round(test_share * count)))
        self.test_index = np.sort(order[:held_out])
        self._train = np.sort(order[held_out:])
        self._whole = whole
        self._batch_size = batch_size
        self._seed = seed
        names = tuple(whole.names[i] for i in self.test_index)
        # One part for both: nothing is chosen by it, the last epoch counts.
        self.test = self.validation = Examples(names, whole.mixtures[self.test_index], whole.sources[self.test_index])
        self.steps = -(-len(self._train) // batch_size)
        self.describe: dict[str, Any] = {
            "data": whole.folder.name,
            "split": f"{len(self._train)} training, {held_out} test mixtures, seed {seed}",
            "held_out": list(names),
            "licences": {},
        }

    def epoch(self, number: int) -> Iterator[Batch]:
        """Every mixture once, shuffled."""
        order = np.random.default_rng((self._seed, number)).permutation(self._train)
        for first in range(0, len(order), self._batch_size):
            chosen = order[first : first + self._batch_size]
            yield Batch(torch.from_numpy(self._whole.mixtures[chosen]), torch.from_numpy(self._whole.sources[chosen]))


@dataclass(frozen=True)
class Epoch:
    """What one epoch brought.

    Attributes:
        epoch: from 1.
        losses: of its batches.
        si_snr_db: of its batches, each a mean over mixtures and sources.
        held_out_loss: over the validation mixtures.
        held_out_si_snr_db: the same.
        held_out_si_snr_improvement_db: the same, over the mixtures themselves.
        lr: of the last step.
        seconds: of training, without testing.
    """

    epoch: int
    losses: tuple[float, ...]
    si_snr_db: tuple[float, ...]
    held_out_loss: float
    held_out_si_snr_db: float
    held_out_si_snr_improvement_db: float
    lr: float
    seconds: float

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Epoch:
        """Inverse of ``asdict``."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in content.items()}
        return cls(**values)


class SeparatorTrainer:
    """One run.

    Args:
        config: what to train, and how.
        material: what to train on.
        out: run folder; it is there.
        device: of the network.

    Attributes:
        network: what is trained.
        history: finished epochs.
    """

    def __init__(self, config: SeparationConfig, material: Material, out: Path, device: torch.device) -> None:
        sources = material.test.sources.shape[1]
        if config.model.sources != sources:
            raise TrainError(
                f"model.sources is {config.model.sources}, but the mixtures are made of {sources}; leave it to the data"
            )
        self.config, self.material, self.out, self.device = config, material, out, device
        if config.train.threads:
            torch.set_num_threads(config.train.threads)
        torch.manual_seed(config.train.seed)
        self.network = separator.build(config.network, config.model).to(device)
        self._begin()

    def _begin(self) -> None:
        train = self.config.train
        self._optimization = Optimization(self.network, train.optimizer_settings(), self.material.steps, self.device)
        self.history: list[Epoch] = []
        self._describe: dict[str, Any] = {**self.material.describe}

    def start_from(self, path: Path) -> None:
        """Begin with the averaged weights of another run, of the same network.

        Raises:
            TrainError: unreadable, another network, or a test speaker (or mixture) of this run was trained on there.
        """
        state = read_checkpoint(path)
        then = SeparationConfig.from_dict(state["config"])
        if (then.network, then.model) != (self.config.network, self.config.model):
            raise TrainError(
                f"{path}: holds another network than the one to train; repeat its --preset and --set model.…"
            )
        there, here = state["describe"], self.material.describe
        if leaked := _trained_on(here, there):
            raise TrainError(
                f"{path}: was trained on {len(leaked)} of the speakers or mixtures that are held out here, such as "
                f"{leaked[0]}; repeat its --data and --seed"
            )
        self.network.load_state_dict(state["average"])
        self._begin()
        past = {"data": there["data"], "epochs": len(state["history"]), "commit": there.get("commit")}
        self._describe["started_from"] = past | {k: v for k, v in there.items() if k == "started_from"}
        self._describe["licences"] = {**there["licences"], **here["licences"]}

    @property
    def averaged(self) -> Separator:
        """The averaged network: what is tested, checkpointed beside the trained one and exported."""
        network: Separator = self._optimization.averaged
        return network

    def fit(
        self,
        on_step: Callable[[int, float], object] = lambda step, loss: None,
        on_epoch: Callable[[Epoch], object] = lambda epoch: None,
    ) -> None:
        """Train what is left of the epochs; ``on_step`` gets the number of the step and its loss."""
        for number in range(len(self.history) + 1, self.config.train.epochs + 1):
            start = time.perf_counter()
            losses, ratios = [], []
            self.network.train()
            for index, batch in enumerate(self.material.epoch(number)):
                loss, ratio = self._step((number - 1) * self.material.steps + index, batch)
                losses.append(loss)
                ratios.append(ratio)
                on_step(index + 1, loss)
            seconds = time.perf_counter() - start
            test_loss, test_ratio, improvement = self._test()
            epoch = Epoch(
                number,
                tuple(losses),
                tuple(ratios),
                test_loss,
                test_ratio,
                improvement,
                self._optimization.lr,
                seconds,
            )
            self.history.append(epoch)
            self.save()
            on_epoch(epoch)

    def _step(self, step: int, batch: Batch) -> tuple[float, float]:
        """One optimiser step; its loss and mean SI-SNR.

        Raises:
            TrainError: the loss is not finite.
        """
        train = self.config.train
        mixtures, sources = (part.to(self.device) for part in batch)
        self._optimization.begin(step)
        with self._optimization.autocast():
            estimate = self.network.separate(mixtures)
        estimate = estimate.float()
        loss = separation_loss(estimate, sources, train.objective, train.permute)
        value = self._optimization.end(step, loss)
        with torch.no_grad():
            ratio = si_snr(in_order(estimate, sources, train.permute), sources).mean()
        return value, float(ratio)

    def _test(self) -> tuple[float, float, float]:
        """Loss, SI-SNR and its improvement over the validation mixtures."""
        train, held_out = self.config.train, self.material.validation
        estimates = self.estimate(held_out)
        target = torch.from_numpy(held_out.sources)
        loss = separation_loss(estimates, target, train.objective)
        after = si_snr(estimates, target)
        before = si_snr(torch.from_numpy(held_out.mixtures).unsqueeze(1).expand_as(target), target)
        return float(loss), float(after.mean()), float((after - before).mean())

    @torch.no_grad()
    def estimate(self, examples: Examples) -> Tensor:
        """Sources by the averaged network, ``(mixtures, sources, time)``, in the order of the true ones."""
        network = self.averaged.eval()
        permute = self.config.train.permute
        parts = []
        for mixtures, sources in examples.batches():
            separated = network.separate(mixtures.to(self.device)).cpu()
            parts.append(in_order(separated, sources, permute))
        return torch.cat(parts)

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "format": FORMAT,
            "network": self.config.network,
            "config": self.config.as_dict(),
            "describe": {**self._describe, "commit": current_commit()},
            **self._optimization.state(),
            "history": [asdict(epoch) for epoch in self.history],
        }
        write_atomically(self.out / SEPARATOR, lambda part: torch.save(state, part))

    def resume(self) -> None:
        """Go on from the run folder's checkpoint.

        Raises:
            TrainError: unreadable, or of other settings or data.
        """
        path = self.out / SEPARATOR
        state = read_checkpoint(path)
        then = {name: value for name, value in state["describe"].items() if name != "commit"}
        started = {name: then.pop(name) for name in ("started_from", "licences") if name in then}
        now = {name: value for name, value in self.material.describe.items() if name != "licences"}
        if state["config"] != self.config.as_dict() or then != now:
            raise TrainError(f"{path}: made with other settings or data; repeat them or choose another --out")
        self._optimization.restore(state)
        self._describe |= started
        self.history = [Epoch.from_dict(content) for content in state["history"]]


def _trained_on(here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """What is held out ``here`` and was not ``there``: speakers of corpora that both have, mixtures of one set."""
    if not any("/" in name for name in there["held_out"]):
        shared = set(here["held_out"]) if here["data"] == there["data"] else set()
    else:
        corpora = {name.partition("/")[0] for name in there["held_out"]}
        shared = {name for name in here["held_out"] if name.partition("/")[0] in corpora}
    return sorted(shared - set(there["held_out"]))


def in_order(estimate: Tensor, target: Tensor, permute: bool, metric: Metric = si_snr) -> Tensor:
    """Estimates ``(batch, sources, time)`` as they are or, where their order is free, in that of the targets."""
    return reorder(estimate, best_order(pairwise(metric, estimate, target))) if permute else estimate


_KINDS: Sequence[tuple[str, type]] = (
    *((name, dict) for name in ("config", "describe", "weights", "average", "optimizer")),
    ("history", list),
)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a separator's checkpoint as data, never as code.

    Raises:
        TrainError: missing, unreadable, or not a separator's.
    """
    state: dict[str, Any] = read_state(path, FORMAT, "a separator's checkpoint", "stream-ser train separator", _KINDS)
    return state


def trained_separator(state: dict[str, Any]) -> Separator:
    """The averaged network of a checkpoint, in evaluation mode.

    Raises:
        TrainError: weights that do not fit the configuration.
    """
    config = SeparationConfig.from_dict(state["config"])
    network: Separator = with_weights(separator.build(config.network, config.model), state["average"])
    return network
