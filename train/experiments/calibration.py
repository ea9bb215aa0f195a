"""What a richer calibration than one temperature would do for a run: better numbers, or only on its own speakers?

``python -m stream_ser.train.experiments.calibration runs/NAME [--corpus crema-d]``

Three maps of a window's logits ``z``, each fitted to the likelihood of the clips' mean probabilities on the validation
part: ``temperature``, ``z / T`` (Guo et al. 2017); ``biases``, ``z / T + b`` (Alexandari et al. 2020); ``vector``,
``w * z + b`` (Guo et al. 2017). Each is scored on the clips that it was fitted to, and on each speaker with a fit to
all the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_ser.errors import DataError, TrainError
from stream_ser.train.evaluation import report
from stream_ser.train.metrics import Scores, score
from stream_ser.train.run_folder import PREDICTIONS

from .command import Command

_STEPS = 100


@dataclass(frozen=True)
class Part:
    """Windows of clips.

    Attributes:
        logits: ``(windows, classes)`` float64.
        owners: clip of each window.
        truth: ``(clips,)``.
        speakers: ``(clips,)``.
    """

    logits: Tensor
    owners: Tensor
    truth: Tensor
    speakers: NDArray[np.str_]

    def of(self, clips: NDArray[np.bool_]) -> Part:
        """These clips alone."""
        chosen = torch.from_numpy(clips)
        number = torch.cumsum(chosen, 0) - 1
        kept = chosen[self.owners]
        return Part(self.logits[kept], number[self.owners[kept]], self.truth[chosen], self.speakers[clips])


def _temperature(logits: Tensor, values: Tensor) -> Tensor:
    return logits * values[0].exp()


def _biases(logits: Tensor, values: Tensor) -> Tensor:
    return logits * values[0].exp() + values[1:]


def _vector(logits: Tensor, values: Tensor) -> Tensor:
    classes = logits.shape[1]
    return logits * values[:classes].exp() + values[classes:]


#: name: the map, and how many numbers it has for so many classes.
MAPS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[int], int]]] = {
    "temperature": (_temperature, lambda classes: 1),
    "biases": (_biases, lambda classes: 1 + classes),
    "vector": (_vector, lambda classes: 2 * classes),
}


def probabilities(part: Part, name: str, values: Tensor) -> Tensor:
    """Mean over the windows of each clip, as the runtime forms it, ``(clips, classes)``."""
    found = torch.softmax(MAPS[name][0](part.logits, values), dim=1)
    count = torch.bincount(part.owners, minlength=len(part.truth))[:, None]
    return found.new_zeros(len(part.truth), found.shape[1]).index_add(0, part.owners, found) / count


def fit(part: Part, name: str) -> Tensor:
    """The numbers of a map that make the clips likeliest."""
    values = torch.zeros(MAPS[name][1](part.logits.shape[1]), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([values], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        chosen = probabilities(part, name, values).gather(1, part.truth[:, None])
        nll = -chosen.clamp_min(1e-12).log().mean()
        nll.backward()
        return nll

    optimizer.step(loss)
    return values.detach()


def compare(part: Part, name: str) -> tuple[Scores, Scores]:
    """Scores on the clips of the fit, and on speakers that were not in it."""
    truth = part.truth.numpy()
    whole = probabilities(part, name, fit(part, name)).numpy()
    others = np.empty_like(whole)
    for speaker in np.unique(part.speakers):
        own = part.speakers == speaker
        others[own] = probabilities(part.of(own), name, fit(part.of(~own), name)).numpy()
    return score(whole, truth), score(others, truth)


def read(run: Path, corpus: str | None) -> Part:
    """The validation part of a run folder.

    Raises:
        DataError: fewer than two speakers.
        TrainError: not a run.
    """
    left = report.Part.read(run / PREDICTIONS, "validation")
    if left is None:
        raise TrainError(f"{run}: holds no {PREDICTIONS}; expected the folder of a run")
    logits, owners, truth = (torch.from_numpy(array) for array in (left.logits, left.owners, left.truth))
    part = Part(logits, owners, truth, np.array(left.speakers))
    if corpus is not None:
        part = part.of(np.char.startswith(part.speakers, f"{corpus}/"))
    if len(np.unique(part.speakers)) < 2:
        where = f" of {corpus}" if corpus else ""
        raise DataError(f"{run}: fewer than two validation speakers{where}, expected some to fit to, others to score")
    return part


@click.command(cls=Command)
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option("--corpus", metavar="NAME", help="Its clips alone.")
def main(run: Path, corpus: str | None) -> None:
    """Compare three calibrations of a run, on their own clips and on other speakers."""
    part = read(run, corpus)
    click.echo(f"{len(part.truth)} clips, {len(np.unique(part.speakers))} speakers")
    click.echo(f"{'':12}{'fitted to the same clips':>27}{'fitted to other speakers':>27}")
    click.echo(f"{'':12}" + 2 * f"{'ECE':>9}{'NLL':>9}{'UAR':>9}")
    for name in MAPS:
        both = compare(part, name)
        click.echo(f"{name:12}" + "".join(f"{s.ece:9.4f}{s.nll:9.4f}{s.uar:9.4f}" for s in both))


if __name__ == "__main__":
    main()
