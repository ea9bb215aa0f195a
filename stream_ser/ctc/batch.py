"""What CTC's loss and alignment are asked: targets and lengths in any of the usual forms, checked, as numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Targets and lengths of ``log_probs (time, batch, classes)``.

    Attributes:
        targets: ``(batch, longest)``, class indices; ``blank`` behind an item's end.
        target_lengths: ``(batch,)``.
        input_lengths: ``(batch,)``, frames.
        blank: class index.
    """

    targets: Ints
    target_lengths: Ints
    input_lengths: Ints
    blank: int

    @property
    def repeated(self) -> NDArray[np.bool_]:
        """``(batch, longest)``: whether a token equals the one before it, so that a blank must lie between them."""
        same = np.zeros(self.targets.shape, dtype=np.bool_)
        same[:, 1:] = (self.targets[:, 1:] == self.targets[:, :-1]) & (self.targets[:, 1:] != self.blank)
        return same

    @property
    def least_frames(self) -> Ints:
        """``(batch,)``: frames below which an item has no alignment, a frame a token and a blank a repetition."""
        frames: Ints = self.target_lengths + self.repeated.sum(axis=1)
        return frames


def as_array(values: Any) -> NDArray[Any]:
    """A tensor of any device, or whatever numpy understands, as an array.

    torch is not imported for it: the same code serves a machine without it.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if "bfloat16" in str(values.dtype):  # numpy has none
            values = values.float()
    return np.asarray(values)


def arrange(shape: tuple[int, ...], targets: Any, input_lengths: Any, target_lengths: Any, blank: int) -> Batch:
    """Check targets and lengths against the shape of ``log_probs``, and bring them into one form.

    Args:
        shape: of ``log_probs``: ``(time, batch, classes)``, or ``(time, classes)`` for one item.
        targets: ``(batch, longest)`` padded with anything, or ``(sum of target_lengths,)``; class indices.
        input_lengths: ``(batch,)``, frames; for one item a number or an array of one.
        target_lengths: ``(batch,)``, tokens; likewise.
        blank: class index.

    Raises:
        ValueError: a shape, kind of number, length, class or blank is not as above; the message names the item.
    """
    if len(shape) not in (2, 3):
        raise ValueError(f"log_probs have {len(shape)} axes, expected (time, batch, classes) or (time, classes)")
    frames, items, classes = (shape[0], 1, shape[1]) if len(shape) == 2 else shape
    if items == 0 or classes == 0:
        raise ValueError(f"log_probs are empty: shape {tuple(shape)}; a batch has one item or more, one class or more")
    if isinstance(blank, bool) or not isinstance(blank, (int, np.integer)) or not 0 <= blank < classes:
        raise ValueError(f"blank is {blank!r}, expected a class index in 0..{classes - 1}")
    given = _whole(targets, "targets")
    inputs = _lengths(input_lengths, "input_lengths", items, frames, "frames of log_probs")
    if given.ndim == 2 and len(shape) == 3:
        if given.shape[0] != items:
            raise ValueError(f"targets have {given.shape[0]} rows, log_probs have {items} items")
        lengths = _lengths(target_lengths, "target_lengths", items, given.shape[1], "columns of targets")
        padded = given[:, : lengths.max()]
    elif given.ndim == 1:
        lengths = _lengths(target_lengths, "target_lengths", items, given.size, "targets")
        if lengths.sum() != given.size and len(shape) == 3:
            raise ValueError(f"{given.size} targets in one row, but target_lengths sum to {lengths.sum()}")
        starts = lengths.cumsum() - lengths
        places = starts[:, None] + np.arange(lengths.max())
        # What lies behind an item's end is overwritten below.
        padded = given[np.minimum(places, max(given.size - 1, 0))] if given.size else np.zeros(places.shape, np.int64)
    else:
        raise ValueError(
            f"targets have shape {given.shape}, expected (batch, longest) or (sum of target_lengths,)"
            + ("; (longest,) for log_probs of one item" if len(shape) == 2 else "")
        )
    inside = np.arange(padded.shape[1]) < lengths[:, None]
    _refuse(inside & (padded == blank), padded, f"the blank ({blank}) is no target; take it out, or set blank=")
    _refuse(inside & ((padded < 0) | (padded >= classes)), padded, f"classes are 0..{classes - 1}")
    return Batch(np.where(inside, padded, blank), lengths, inputs, int(blank))


def _whole(values: Any, name: str) -> Ints:
    array = as_array(values)
    if array.size == 0 and not hasattr(values, "dtype"):
        array = array.astype(np.int64)  # an empty list says nothing of its kind
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} are {array.dtype}, expected integers")
    return array.astype(np.int64)


def _lengths(values: Any, name: str, items: int, most: int, of_what: str) -> Ints:
    lengths = _whole(values, name)
    if items == 1 and lengths.ndim == 0:
        lengths = lengths[None]
    if lengths.shape != (items,):
        raise ValueError(f"{name} have shape {lengths.shape}, expected ({items},), one for each item")
    wrong = np.flatnonzero((lengths < 0) | (lengths > most))
    if wrong.size:
        item = wrong[0]
        raise ValueError(f"{name}[{item}] is {lengths[item]}, expected 0..{most}, the number of {of_what}")
    return lengths


def _refuse(wrong: NDArray[np.bool_], targets: Ints, why: str) -> None:
    if wrong.any():
        item, place = np.argwhere(wrong)[0]
        raise ValueError(f"target {place} of item {item} is {targets[item, place]}: {why}")
