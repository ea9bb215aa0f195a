"""Is the CTC loss right? Against torch's native one and against enumeration, over random batches of every kind.

Each loss is compared by itself (``reduction="none"``), in float64, and its gradient at the logits, where torch's is a
gradient too: at ``log_probs`` torch presumes the log-softmax.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from stream_ser.ctc.batch import arrange

from .brute import labellings
from .loss import ctc_loss, ctc_loss_autograd

#: Largest differences that are rounding.
LOSS_TOLERANCE = 1e-10
GRADIENT_TOLERANCE = 1e-9

#: As far as every path is enumerated.
_FEW_FRAMES = 6
_INF = float("inf")


@dataclass(frozen=True)
class Problem:
    """A batch, as a caller of the loss would have it.

    Attributes:
        logits: ``(time, batch, classes)``, float64.
        targets: ``(batch, longest)``, padded with ``blank``.
        input_lengths: ``(batch,)``.
        target_lengths: ``(batch,)``.
        blank: class index.
        concatenated: pass the targets as one row.
    """

    logits: Tensor
    targets: Tensor
    input_lengths: Tensor
    target_lengths: Tensor
    blank: int
    concatenated: bool = False

    @property
    def impossible(self) -> int:
        """Items without an alignment."""
        sizes = self.input_lengths, self.target_lengths
        batch = arrange(tuple(self.logits.shape), self.targets, *sizes, self.blank)
        return int((batch.input_lengths < batch.least_frames).sum())

    def solve(self, loss: Callable[..., Tensor], zero_infinity: bool) -> tuple[Tensor, Tensor]:
        """Losses ``(batch,)`` and the gradient of their sum at the logits, by an implementation of the loss."""
        logits = self.logits.detach().clone().requires_grad_()
        targets = self.targets
        if self.concatenated:
            targets = targets[torch.arange(targets.shape[1], device=targets.device) < self.target_lengths[:, None]]
        losses = loss(
            logits.log_softmax(dim=2),
            targets,
            self.input_lengths,
            self.target_lengths,
            blank=self.blank,
            reduction="none",
            zero_infinity=zero_infinity,
        )
        (gradient,) = torch.autograd.grad(losses.sum(), logits)
        return losses.detach(), gradient


class Draw:
    """Random problems of every kind, the same ones for the same seed.

    Args:
        seed: of all that is drawn.
        device: where the tensors are.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._device = device

    def whole(self, low: int, high: int) -> int:
        """A number from ``low`` to ``high``, both included."""
        return int(torch.randint(low, high + 1, (), generator=self._generator))

    def problem(
        self,
        *,
        frames: tuple[int, int] = (1, 40),
        classes: tuple[int, int] = (2, 12),
        tokens: tuple[int, int] = (0, 10),
        items: tuple[int, int] = (1, 6),
        scale: float = 2.0,
        spare: int | None = None,
        distinct: bool = False,
        concatenated: bool = False,
        padding: bool = True,
    ) -> Problem:
        """A batch with sizes within the given ranges.

        Args:
            frames: of the longest item.
            classes: the blank, which is any of them, included.
            tokens: of an item.
            items: of the batch.
            scale: standard deviation of the logits.
            spare: frames that each item has beyond the least that has an alignment; negative ones make it impossible.
            distinct: no token follows itself.
            concatenated: pass the targets as one row.
            padding: let items have fewer frames than the longest, down to none.
        """
        n_classes, n_items = self.whole(*classes), self.whole(*items)
        blank = self.whole(0, n_classes - 1)
        lengths = [self.whole(*tokens) for _ in range(n_items)]
        rows = [self._row(length, n_classes, blank, distinct) for length in lengths]
        if spare is None:
            inputs = [self.whole(0 if padding else frames[0], frames[1]) for _ in range(n_items)]
            inputs[0] = max(inputs[0], frames[0])
        else:
            repeats = [sum(a == b for a, b in itertools.pairwise(row)) for row in rows]
            inputs = [max(length + same + spare, 0) for length, same in zip(lengths, repeats, strict=True)]
        shape = (max(*inputs, 1) + (self.whole(0, 3) if padding else 0), n_items, n_classes)
        logits = scale * torch.randn(shape, generator=self._generator, dtype=torch.float64)
        targets = torch.full((n_items, max(lengths)), blank)
        for line, row in zip(targets, rows, strict=True):
            line[: len(row)] = torch.tensor(row, dtype=torch.int64)
        device = self._device
        sizes = torch.tensor(inputs).to(device), torch.tensor(lengths).to(device)
        return Problem(logits.to(device), targets.to(device), *sizes, blank, concatenated)

    def _row(self, length: int, classes: int, blank: int, distinct: bool) -> list[int]:
        row: list[int] = []
        for _ in range(length):
            others = [c for c in range(classes) if c != blank and not (distinct and row and c == row[-1])]
            row.append(others[self.whole(0, len(others) - 1)])
        return row


#: What can go wrong: how to draw it.
CASES: dict[str, dict[str, Any]] = {
    "random": {},
    "repeated tokens": {"classes": (2, 3)},
    "empty targets": {"tokens": (0, 1)},
    "no tokens at all": {"tokens": (0, 0)},
    "T = S, no repetition": {"spare": 0, "distinct": True, "tokens": (1, 10), "classes": (3, 12)},
    "T = S + repetitions": {"spare": 0, "classes": (2, 4), "tokens": (1, 10)},
    "T < S + repetitions": {"spare": -1, "classes": (2, 4), "tokens": (1, 10)},
    "no padding": {"padding": False, "tokens": (5, 5)},
    "targets in one row": {"concatenated": True},
    "one class, the blank": {"classes": (1, 1), "tokens": (0, 0)},
    "one item": {"items": (1, 1)},
    "far from the target": {"scale": 100.0},
    "long": {"frames": (200, 400), "tokens": (20, 60), "items": (1, 3)},
}
#: Rows of :func:`compare`.
COMPARISONS = len(CASES) + 2


@dataclass
class Row:
    """What one comparison came to.

    Attributes:
        case: name.
        against: whose losses they were compared with.
        batches: so many.
        sequences: in all of them.
        impossible: of these, without an alignment.
        loss: largest difference of a loss; inf where only one of the two is finite.
        gradient: largest difference of a gradient at the logits, likewise; None where there is none to compare with.
    """

    case: str
    against: str
    batches: int = 0
    sequences: int = 0
    impossible: int = 0
    loss: float = 0.0
    gradient: float | None = 0.0

    @property
    def passed(self) -> bool:
        """Whether all differences are rounding."""
        return self.loss <= LOSS_TOLERANCE and (self.gradient is None or self.gradient <= GRADIENT_TOLERANCE)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "passed": self.passed}

    def add(self, problem: Problem, ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor | None]) -> None:
        """Take in a batch's losses and gradients."""
        self.batches += 1
        self.sequences += len(ours[0])
        self.impossible += problem.impossible
        self.loss = max(self.loss, difference(ours[0], theirs[0]))
        if theirs[1] is None:
            self.gradient = None
        elif self.gradient is not None:
            self.gradient = max(self.gradient, difference(ours[1], theirs[1]))


def difference(one: Tensor, other: Tensor) -> float:
    """Largest absolute difference; equal infinities and two NaN are equal, anything else that is not finite is inf."""
    same = (one == other) | (one.isnan() & other.isnan())
    apart = torch.where(same, 0.0, (one - other).abs()).nan_to_num(nan=_INF, posinf=_INF)
    return float(apart.max()) if apart.numel() else 0.0


def compare(
    batches: int, seed: int = 0, device: torch.device | str = "cpu", loss: Callable[..., Tensor] = ctc_loss
) -> Iterator[Row]:
    """Solve ``batches`` random problems by ``loss`` and by torch, and a tenth as many by the other two ways.

    Args:
        batches: in all, in equal shares of :data:`CASES`; half of them with ``zero_infinity``.
        seed: of the problems.
        device: of the tensors.
        loss: what is checked.

    Yields:
        A row a case, then the small ones that are enumerated, then those solved by autograd.
    """
    cases = list(CASES.items())
    for number, (name, sizes) in enumerate(cases):
        draw, row = Draw(seed * 1_000 + number, device), Row(name, "torch")
        for batch in range(batches // len(cases) + (number < batches % len(cases))):
            problem, zero = draw.problem(**sizes), bool(batch % 2)
            row.add(problem, problem.solve(loss, zero), problem.solve(F.ctc_loss, zero))
        yield row
    few = max(batches // 10, 1)
    draw, row = Draw(seed * 1_000 + 998, device), Row(f"every text of T <= {_FEW_FRAMES}", "all paths")
    for _ in range(few):
        frames = draw.problem(frames=(1, _FEW_FRAMES), classes=(1, 4), tokens=(0, 0), items=(1, 1), padding=False)
        for expected, problem in _spellings(frames):
            losses = torch.tensor([expected], dtype=torch.float64, device=device)
            row.add(problem, problem.solve(loss, False), (losses, None))
    yield row
    draw, row = Draw(seed * 1_000 + 999, device), Row("random", "autograd")
    for _ in range(few):
        problem = draw.problem(classes=(2, 4))
        row.add(problem, problem.solve(loss, True), problem.solve(ctc_loss_autograd, True))
    yield row


def _spellings(problem: Problem) -> Iterator[tuple[float, Problem]]:
    """All texts that one item's frames can spell, and one that they cannot, with their losses."""
    frames, _, classes = problem.logits.shape
    possible = labellings(problem.logits[:, 0].log_softmax(dim=1), problem.blank)
    losses = {text: -score for text, score in possible.items()}
    if classes > 1:
        losses[((problem.blank + 1) % classes,) * (frames + 1)] = _INF
    device = problem.logits.device
    for text, loss in losses.items():
        targets = torch.tensor([text], dtype=torch.int64, device=device).reshape(1, -1)
        lengths = torch.tensor([[frames], [len(text)]], device=device)
        yield loss, Problem(problem.logits, targets, lengths[0], lengths[1], problem.blank)
