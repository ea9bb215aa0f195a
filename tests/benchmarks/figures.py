"""The picture of what recognition costs: ``figures.py --memory MEMORY.json --capacity BENCH.json [...] --out PNG``.

On the left the cost of a second of audio by how much of it the network sees (``memory.py --memories 1,3,10 --json``),
on the right the 99th percentile of latency by the number of streams on one core (``stream-ser bench --capacity
--json``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

from stream_ser.train.evaluation.plots import BLUE, GREY, INK, ORANGE, save, tidy

COLOURS = {"streaming-septr": BLUE, "multitask": ORANGE, "septr": GREY}


def draw_costs(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """A line a network: what a second of audio costs by the seconds that it sees or remembers."""
    names = list(dict.fromkeys(row["network"] for row in rows))
    for name in names:
        colour = COLOURS.get(name, INK)
        seconds = [row["memory_s"] for row in rows if row["network"] == name]
        costs = [row["ms_per_s"] for row in rows if row["network"] == name]
        axes.plot(seconds, costs, color=colour, marker="o", label=name)
        axes.annotate(f"{costs[-1]:.3g}", (seconds[-1], costs[-1]), (0, 7), textcoords="offset points", ha="center")
    axes.set(xscale="log", yscale="log", xlabel="window or memory (s)", ylabel="network (ms a second of audio)")
    axes.set_title("Cost of what is seen")
    axes.set_xticks(sorted({row["memory_s"] for row in rows}))
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.margins(y=0.15)


def draw_streams(axes: Axes, reports: list[dict[str, Any]]) -> None:
    """A line a model: the 99th percentile of latency of the trials, and the hop below which it has to stay."""
    for report in reports:
        colour = COLOURS.get(report["model"]["name"], INK)
        trials = sorted(report["trials"], key=lambda trial: int(trial["streams"]))
        model = report["model"]
        label = f"{model['name']}: {report['capacity']} streams"
        axes.plot([t["streams"] for t in trials], [t["p99_ms"] for t in trials], color=colour, marker="o", label=label)
        axes.axhline(model["hop_ms"], color=colour, linewidth=0.8, linestyle=":")
    axes.set(yscale="log", xlabel="streams on one core", ylabel="latency, 99th percentile (ms)")
    axes.set_title("Capacity; dotted: the hop")
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))


@click.command()
@click.option("--memory", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True)
@click.option("--capacity", type=click.Path(path_type=Path, exists=True, dir_okay=False), multiple=True, required=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
def main(memory: Path, capacity: tuple[Path, ...], out: Path) -> None:
    """Draw both."""
    figure = Figure(figsize=(11, 4))
    left, right = figure.subplots(1, 2)
    draw_costs(left, json.loads(memory.read_text(encoding="utf-8")))
    draw_streams(right, [json.loads(path.read_text(encoding="utf-8")) for path in capacity])
    for axes, place in ((left, (0.0, 0.9)), (right, (0.44, 0.87))):
        tidy(axes)
        axes.legend(frameon=False, labelcolor=INK, loc="center left", bbox_to_anchor=place)
    figure.tight_layout()
    save(figure, out)


if __name__ == "__main__":
    main()
