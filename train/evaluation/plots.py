"""Pictures of a run. Figures are made without pyplot: no display, no global state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from stream_ser.train.checkpoint import write_atomically
from stream_ser.train.metrics import Floats, Reliability, Scores, SpeakerScore
from stream_ser.train.run_folder import Epoch

from .run_table import Row, duration, names, short

BLUE, ORANGE, GREY, FAINT, INK = "#2b6cb0", "#dd6b20", "#718096", "#e2e8f0", "#2d3748"
PERCENT = PercentFormatter(1.0, symbol=" %")
#: Classes up to which a confusion matrix has the count in each cell.
ROOMY = 12
#: Speakers up to which each has a bar with a name, and up to which each has a dot.
BARS, DOTS = 24, 120


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, atomically."""
    write_atomically(path, lambda part: figure.savefig(part, dpi=120, format="png", bbox_inches="tight"))


def tidy(axes: Axes, grid: str = "both") -> None:
    """Light lines of the grid along ``grid``, no frame but below and on the left."""
    axes.grid(axis=grid, color=FAINT, linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, length=0)
    axes.title.set_color(INK)


def plot_curves(history: Sequence[Epoch], path: Path) -> None:
    """Loss and validation UAR, epoch by epoch."""
    epochs = [epoch.epoch for epoch in history]
    marker = "o" if len(epochs) < 3 else ""  # a line needs two points to be seen
    figure = Figure(figsize=(11, 4))
    left, right = figure.subplots(1, 2)
    for values, colour, label in (
        # Not the same measure: augmented clips, smoothed targets, and whatever else is learnt beside the classes.
        ([e.train_loss for e in history], BLUE, "training: all that is minimised"),
        ([e.validation_loss for e in history], ORANGE, "validation: the classes alone"),
    ):
        left.plot(epochs, values, color=colour, label=label, marker=marker)
    left.set(xlabel="epoch", ylabel="loss (nats)", title="Loss")
    left.legend(frameon=False)
    uar = [e.scores.uar for e in history]
    best = int(np.argmax(uar))
    right.plot(epochs, uar, color=ORANGE, marker=marker)
    right.plot(epochs[best], uar[best], "o", color=ORANGE)
    right.set(xlabel="epoch", ylabel="UAR")
    right.set_title(f"Validation UAR: last {100 * uar[-1]:.1f} %, best {100 * uar[best]:.1f} % (epoch {epochs[best]})")
    right.yaxis.set_major_formatter(PERCENT)
    for axes in (left, right):
        tidy(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.margins(x=0.02)
        if len(epochs) == 1:
            axes.set_xlim(epochs[0] - 0.5, epochs[0] + 0.5)
    figure.tight_layout()
    save(figure, path)


def plot_confusion(scores: Scores, labels: Sequence[str], path: Path, title: str) -> None:
    """Confusion matrix: rows are truth; colour and text are the share of the row.

    Up to :data:`ROOMY` classes the count stands beside it; above, cells of less than 5 % have no text.
    """
    counts = np.asarray(scores.confusion)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    roomy = len(labels) <= ROOMY
    cell, size = (0.9, 9.0) if roomy else (0.24, 6.0)
    figure = Figure(figsize=(1.6 + cell * len(labels), 1.4 + cell * len(labels)))
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    for row, column in np.ndindex(*counts.shape):
        value = share[row, column]
        if not roomy and value < 0.05:
            continue
        text = f"{100 * value:.0f} %\n{counts[row, column]}" if roomy else f"{100 * value:.0f}"
        axes.text(column, row, text, ha="center", va="center", color="white" if value > 0.55 else INK, fontsize=size)
    text_size = 10.0 if roomy else 7.5
    axes.set_xticks(range(len(labels)), labels, rotation=35 if roomy else 90, ha="right" if roomy else "center")
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(length=0, labelsize=text_size, colors=INK)
    edges = np.arange(len(labels) + 1) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color="white" if roomy else FAINT, linewidth=1.5 if roomy else 0.4)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("predicted" if roomy else "predicted; numbers are percent of the row", color=INK)
    axes.set_ylabel("truth", color=INK)
    axes.set_title(title, color=INK, pad=12)
    axes.spines[:].set_visible(False)
    save(figure, path)


def _bars(axes: Axes, names: Sequence[str], values: Sequence[float], notes: Sequence[str]) -> None:
    """Horizontal bars from the top down, each with its value and a note at the right edge."""
    rows = np.arange(len(names))
    axes.barh(rows, values, color=BLUE, height=0.7)
    for row, (value, note) in enumerate(zip(values, notes, strict=True)):
        axes.text(1.085, row, f"{100 * value:.0f} %", va="center", ha="right", fontsize=9, color=INK)
        axes.text(1.20, row, note, va="center", ha="right", fontsize=8, color=GREY)
    axes.set_yticks(rows, names, fontsize=9)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0.0, 1.0)
    axes.xaxis.set_major_formatter(PERCENT)
    tidy(axes, "x")


def plot_recall(scores: Scores, labels: Sequence[str], path: Path, title: str) -> None:
    """Recall of each class, best first, with the UAR and chance as lines."""
    clips = np.asarray(scores.confusion).sum(axis=1)
    order = sorted(range(len(labels)), key=lambda i: -scores.recall[i])
    figure = Figure(figsize=(7.5, 1.3 + 0.27 * len(labels)))
    axes = figure.subplots()
    _bars(axes, [labels[i] for i in order], [scores.recall[i] for i in order], [f"{clips[i]} clips" for i in order])
    axes.axvline(scores.uar, color=ORANGE, linewidth=1.5, label=f"UAR {100 * scores.uar:.1f} %")
    axes.axvline(1.0 / len(labels), color=GREY, linewidth=1.2, linestyle=":", label="chance")
    _legend_below(figure, axes, title, "recall")
    save(figure, path)


def _legend_below(figure: Figure, axes: Axes, title: str, label: str) -> None:
    axes.set_title(title, color=INK, pad=10)
    axes.set_xlabel(label, color=INK)
    below = (0.0, -0.55 / figure.get_figheight())
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=below, ncols=3)


def plot_speakers(
    rows: Sequence[SpeakerScore], uar: float, interval: tuple[float, float] | None, path: Path, title: str
) -> None:
    """UAR of each speaker beside that of all: bars for a few, dots for many, a histogram for a crowd.

    Args:
        rows: best first.
        uar: of all clips.
        interval: its confidence interval over speakers.
        path: of the PNG.
        title: of the figure.
    """
    names = _short([row.speaker for row in rows])
    values = [row.uar for row in rows]
    count = len(rows)
    if count <= BARS:
        figure = Figure(figsize=(7.5, 1.3 + 0.3 * count))
        axes = figure.subplots()
        _bars(axes, names, values, [f"{row.clips} clips" for row in rows])
        _mark_uar(axes, uar, interval, vertical=True)
        _legend_below(figure, axes, title, "UAR")
        save(figure, path)
        return
    figure = Figure(figsize=(min(3.0 + 0.135 * count, 16.0) if count <= DOTS else 8.0, 4.2))
    axes = figure.subplots()
    if count <= DOTS:
        places = np.arange(count)
        axes.vlines(places, 0.0, values, color=FAINT, linewidth=1.2)
        axes.plot(places, values, "o", color=BLUE, markersize=5)
        axes.set_xticks(places, names, rotation=90, fontsize=7)
        axes.set_xlim(-1.0, count)
        axes.set_ylim(0.0, 1.04)
        axes.yaxis.set_major_formatter(PERCENT)
        axes.set_ylabel("UAR", color=INK)
        _mark_uar(axes, uar, interval, vertical=False)
        tidy(axes, "y")
        axes.tick_params(axis="x", pad=1)
    else:
        axes.hist(values, bins=20, range=(0.0, 1.0), color=BLUE, rwidth=0.9)
        axes.set_xlim(0.0, 1.0)
        axes.xaxis.set_major_formatter(PERCENT)
        axes.set_ylabel("speakers", color=INK)
        _mark_uar(axes, uar, interval, vertical=True)
        tidy(axes, "y")
    _legend_below(figure, axes, title, "" if count <= DOTS else "UAR of a speaker")
    save(figure, path)


def _mark_uar(axes: Axes, uar: float, interval: tuple[float, float] | None, *, vertical: bool) -> None:
    line, span = (axes.axvline, axes.axvspan) if vertical else (axes.axhline, axes.axhspan)
    line(uar, color=ORANGE, linewidth=1.5, label=f"all clips {100 * uar:.1f} %")
    if interval is not None:
        said = f"95 % interval over speakers {100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"
        span(*interval, color=ORANGE, alpha=0.15, linewidth=0, zorder=0.5, label=said)


def _short(speakers: Sequence[str]) -> list[str]:
    """Names without the corpus where all are of the same one."""
    heads = {speaker.partition("/")[0] for speaker in speakers}
    return [s.partition("/")[2] or s for s in speakers] if len(heads) == 1 else list(speakers)


def plot_calibration(
    before: Reliability, after: Reliability, confidence: Floats, temperature: float, path: Path, title: str
) -> None:
    """Reliability diagram, before and after temperature scaling; below it how sure the network is how often.

    Args:
        before: at temperature 1.
        after: at ``temperature``.
        confidence: top probability of each clip at ``temperature``.
        temperature: what divides the logits.
        path: of the PNG.
        title: of the figure.
    """
    figure = Figure(figsize=(6.2, 6.6))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=1.2, linestyle=":", label="perfect")
    biggest = max(before.counts.max(), after.counts.max())
    for bins, colour, label in (
        (before, ORANGE, f"as trained: ECE {before.ece:.3f}"),
        (after, BLUE, f"temperature {temperature:.2f}: ECE {after.ece:.3f}"),
    ):
        filled = bins.counts > 0
        sizes = 15.0 + 150.0 * bins.counts[filled] / biggest
        upper.plot(bins.confidence[filled], bins.accuracy[filled], color=colour, linewidth=1.2, alpha=0.6)
        upper.scatter(bins.confidence[filled], bins.accuracy[filled], s=sizes, color=colour, label=label, alpha=0.9)
    upper.set(ylabel="share that is right", xlim=(0, 1), ylim=(-0.02, 1.02))
    upper.set_title(title, pad=10)
    lower.hist(confidence, bins=len(after.counts), range=(0.0, 1.0), color=BLUE, rwidth=0.9)
    lower.set(xlabel="probability of the predicted class", ylabel="clips")
    for axes in (upper, lower):
        tidy(axes)
        axes.xaxis.set_major_formatter(PERCENT)
    upper.yaxis.set_major_formatter(PERCENT)
    figure.tight_layout()
    # Below everything: points may lie anywhere.
    handles, names = upper.get_legend_handles_labels()
    legend = figure.legend(
        handles, names, frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.53, 0.0), columnspacing=1.2
    )
    for handle in legend.legend_handles[1:]:
        handle.set_sizes([45.0])  # type: ignore[union-attr]
    save(figure, path)


#: Columns of :func:`plot_runs`: heading, width in inches, and a run's text; empty where it is not known.
_COLUMNS: tuple[tuple[str, float, Callable[[Row], str]], ...] = (
    ("UAR", 1.15, lambda r: f"{100 * r.uar:.1f}" + ("" if r.uar_std is None else f" ± {100 * r.uar_std:.1f}")),
    ("WA", 0.55, lambda r: f"{100 * r.wa:.1f}"),
    ("F1", 0.55, lambda r: f"{100 * r.f1:.1f}"),
    ("ECE", 0.6, lambda r: f"{r.ece:.3f}"),
    ("calibrated", 0.8, lambda r: "" if r.ece_calibrated is None else f"{r.ece_calibrated:.3f}"),
    ("parameters", 0.95, lambda r: short(r.parameters)),
    ("MACs", 0.8, lambda r: short(r.macs)),
    ("trained", 0.8, lambda r: duration(r.train_seconds)),
    ("a window", 1.5, lambda r: "" if r.latency_ms is None else f"{r.latency_ms:.2f} ms, {r.latency_by}"),
)


def plot_runs(groups: Sequence[Sequence[Row]], path: Path) -> None:
    """Runs as a table with bars for the UAR; one block for each protocol, whose name stands above it.

    Args:
        groups: rows of the same protocol each, in order.
        path: of the PNG.
    """
    line, bars = 0.27, 3.6  # inches
    shown = [column for column in _COLUMNS if any(column[2](row) for group in groups for row in group)]
    called = names([row for group in groups for row in group])
    heights = [line * len(group) for group in groups]
    figure = Figure(figsize=(bars, 1.0))
    top = 0.0
    for group, height in zip(groups, heights, strict=True):
        # Places are in units of the figure, one inch high: blocks grow downwards, and saving cuts to what is drawn.
        axes = figure.add_axes((0.0, -top - height, 1.0, height))
        rows = np.arange(len(group))
        colour = ORANGE if group[0].overlap else BLUE
        error = [row.uar_std or 0.0 for row in group]
        axes.barh(rows, [row.uar for row in group], height=0.66, color=colour, alpha=0.9)
        axes.errorbar([r.uar for r in group], rows, xerr=error, fmt="none", ecolor=INK, elinewidth=1.2)
        axes.set_yticks(rows, [_run_name(row, called[row.folder]) for row in group], fontsize=9)
        axes.set_ylim(len(group) - 0.5, -0.5)
        axes.set_xlim(0.0, 1.0)
        axes.xaxis.set_major_formatter(PERCENT)
        tidy(axes, "x")
        axes.tick_params(axis="x", labelsize=8)
        place = 1.0
        for head, width, text in shown:
            place += width / bars
            axes.text(place, -0.85, head, ha="right", va="bottom", fontsize=8, color=GREY)
            for row, run in enumerate(group):
                axes.text(place, row, text(run), ha="right", va="center", fontsize=9, color=INK)
        said = f"{group[0].protocol}; {group[0].clips:,} clips"
        axes.text(0.0, -1.75, said, ha="left", va="bottom", fontsize=9.5, fontweight="bold", color=INK)
        if group[0].overlap:
            warning = "SPEAKERS OVERLAP: not comparable"
            axes.text(0.0, -1.05, warning, ha="left", va="bottom", fontsize=9, fontweight="bold", color=ORANGE)
        top += height + 1.05
    save(figure, path)


def _run_name(row: Row, name: str) -> str:
    return name if row.network in name else f"{name} ({row.network})"
