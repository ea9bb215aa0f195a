"""Plots of a run: learning curves and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .checkpoint import write_atomically
from .loop import Epoch
from .metrics import Scores

BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "#4a5568"


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, atomically. Figures are made without pyplot: no display, no global state."""
    write_atomically(path, lambda part: figure.savefig(part, dpi=120, format="png", bbox_inches="tight"))


def plot_curves(history: Sequence[Epoch], path: Path) -> None:
    """Loss and validation UAR, epoch by epoch."""
    epochs = [epoch.epoch for epoch in history]
    figure = Figure(figsize=(10, 4))
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [e.train_loss for e in history], color=BLUE, label="training (augmented, smoothed labels)")
    left.plot(epochs, [e.validation_loss for e in history], color=ORANGE, label="validation")
    left.set(xlabel="epoch", ylabel="loss (nats)", title="Loss")
    left.legend(frameon=False)
    uar = [100.0 * e.scores.uar for e in history]
    right.plot(epochs, uar, color=ORANGE)
    right.set(xlabel="epoch", ylabel="UAR (%)", title=f"Validation UAR, last {uar[-1]:.1f} %, best {max(uar):.1f} %")
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.tight_layout()
    save(figure, path)


def plot_confusion(scores: Scores, labels: Sequence[str], path: Path, title: str) -> None:
    """Confusion matrix: rows are truth, cells are the share of the row and the count."""
    counts = np.asarray(scores.confusion)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(1.2 + 0.95 * len(labels), 1.2 + 0.85 * len(labels)))
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if share[row, column] > 0.55 else GREY
        text = f"{100 * share[row, column]:.0f} %\n{counts[row, column]}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="truth", title=title)
    axes.spines[:].set_visible(False)
    save(figure, path)


def write_report(history: Sequence[Epoch], labels: Sequence[str], out: Path) -> None:
    """``curves.png`` and ``confusion.png`` of a run, from its last epoch."""
    scores = history[-1].scores
    plot_curves(history, out / "curves.png")
    title = f"Validation, {scores.clips} clips: UAR {100 * scores.uar:.1f} %, WA {100 * scores.wa:.1f} %"
    plot_confusion(scores, labels, out / "confusion.png", title)
