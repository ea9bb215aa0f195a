"""A picture of a stream: waveform, log-mel spectrogram, probabilities and decisions over time.

matplotlib is no part of the runtime: it is imported where a picture was asked for, and comes with the extra ``plot``.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import FeatureConfig
from stream_ser.errors import OutputError
from stream_ser.events import SILENCE, UNCLAIMED, Event, StreamInfo, Summary, Word
from stream_ser.sinks import clock
from stream_ser.sinks.draw.palette import LOST, colours
from stream_ser.sinks.plot.bins import PlotState
from stream_ser.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Columns = Callable[[NDArray[np.float32]], list[NDArray[np.float32]]]
"""From samples to the log-mel columns that they complete, ``(columns, n_mels)`` arrays."""

PICTURES = (".png", ".pdf", ".svg")
_SIZE_INCHES = (12.0, 7.0)
_DPI = 120
_INK, _GRID = "#3a3f47", "#d9dce1"
#: Of words, and the share of the time axis that a letter takes.
_WORD_LINES, _LETTER = 3, 0.0078


def check(path: Path) -> None:
    """Whether a picture can be drawn, before anything is heard.

    Raises:
        OutputError: matplotlib is missing, or the suffix names no picture.
    """
    if path.suffix.lower() not in PICTURES:
        raise OutputError(f"--plot {path}: the suffix names no picture; expected one of {', '.join(PICTURES)}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise OutputError(
            "--plot needs matplotlib, which is not installed; install it with pip install 'stream-ser[plot]'"
        ) from None


class Plot:
    """Draws each stream when it ends, also one that broke off.

    Args:
        place: from the name of a stream to the file of its picture.
        new_stage: makes what turns one stream's samples into log-mel columns.
        features: of those columns.
    """

    def __init__(self, place: Callable[[str], Path], new_stage: Callable[[], Columns], features: FeatureConfig) -> None:
        self._place = place
        self._new_stage = new_stage
        self._features = features

    def open(self, info: StreamInfo) -> None:
        """Begin a new picture."""
        self._info = info
        self._path = self._place(info.name)
        self._state = PlotState(info.labels, self._features.n_mels, self._features.hop_length)
        self._columns = self._new_stage()

    def write(self, event: Event) -> None:
        """Take in an event."""
        self._state.take(event)

    def hear(self, samples: NDArray[np.float32]) -> None:
        """Take in ``(time,)`` samples at the model's rate, zeros where audio was lost."""
        self._state.hear(samples)
        for columns in self._columns(samples):
            self._state.see(columns)

    def close(self, summary: Summary | None) -> None:
        """Draw and write the picture, if anything was heard.

        Raises:
            OSError: it cannot be written.
        """
        if not self._state.samples:
            return
        picture = io.BytesIO()
        figure = draw(self._info, self._state, self._features, summary)
        with warnings.catch_warnings():
            # A letter that matplotlib's font lacks is drawn as a box.
            warnings.simplefilter("ignore")
            figure.savefig(picture, format=self._path.suffix[1:].lower(), dpi=_DPI)
        # In one go: what is there is never half a picture over a whole one.
        self._path.write_bytes(picture.getvalue())


def draw(info: StreamInfo, state: PlotState, features: FeatureConfig, summary: Summary | None) -> Figure:
    """The picture as a figure of rows that share a time axis: four, and one of words where some were said.

    Args:
        info: the stream.
        state: what was heard and decided.
        features: of the log-mel columns.
        summary: None where the stream broke off.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    heights = (2, 3, 3, 0.7, 0.9)[: 5 if state.words else 4]
    rows = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    wave, mel, chart, strip = rows[:4]
    rate = info.sample_rate
    edges_s = np.minimum(np.arange(state.used + 1) * state.span, state.samples) / rate
    colour = colours(info.labels)

    title = printable(Path(info.name).name if len(info.name) > 60 else info.name, 80)
    verdict = "broke off" if summary is None else f"overall {summary.label}"
    length = f"{state.samples / rate:.2f} s" if state.samples < 60 * rate else clock(state.samples / rate)
    _text(figure.suptitle(f"{title} · {length} · {printable(info.model)} · {verdict}", fontsize=11, color=_INK))

    low, high = state.waveform
    wave.stairs(high, edges_s, baseline=low, fill=True, color="#5b6b80")
    peak = max(1e-3, float(np.abs(np.concatenate([low, high])).max()))
    wave.set(ylim=(-1.05 * peak, 1.05 * peak), ylabel="waveform")

    image = state.log_mel
    if np.isfinite(image).any():
        bottom, top = np.nanpercentile(image, [1, 99.8])
        bands = np.arange(features.n_mels + 1)
        mel.pcolormesh(edges_s, bands, image, cmap="magma", vmin=bottom, vmax=max(top, bottom + 1), rasterized=True)
        _hertz(mel, features)
    mel.set(ylabel="log-mel, Hz", ylim=(0, features.n_mels))

    _probabilities(chart, state, edges_s, info.labels, colour)
    _strip(strip, state, edges_s, colour)
    if state.words:
        _words(rows[4], state.words, rate, float(edges_s[-1]))
    for axes in rows:
        for first, end, _ in state.gaps:
            axes.axvspan(edges_s[first], edges_s[end], facecolor="white", edgecolor=LOST, hatch="////", lw=0, zorder=5)
        axes.set_xlim(0, edges_s[-1])
        axes.tick_params(colors=_INK, labelsize=8)
        axes.yaxis.label.set_color(_INK)
        for side in axes.spines.values():
            side.set_color(_GRID)
    rows[-1].xaxis.set_major_formatter(lambda seconds, _: f"{seconds:g} s" if edges_s[-1] < 60 else clock(seconds))
    figure.align_ylabels(rows)
    return figure


def _probabilities(
    axes: Axes, state: PlotState, edges_s: NDArray[np.float64], labels: tuple[str, ...], colour: dict[str, str]
) -> None:
    """Stacked to 1; nothing where nobody spoke."""
    values = state.probabilities
    base = np.zeros(values.shape[1])
    for label, row in zip(labels, values, strict=True):
        axes.stairs(base + row, edges_s, baseline=base, fill=True, color=colour[label], label=_plain(label))
        base = base + row
    axes.set(ylim=(0, 1), ylabel="probability")
    columns = max(1, -(-len(labels) // 8))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False, ncols=columns, reverse=True)


def _strip(axes: Axes, state: PlotState, edges_s: NDArray[np.float64], colour: dict[str, str]) -> None:
    """The decisions: coloured, named where there is room; silence and uncertainty look different without colours."""
    for first, end, label in state.runs:
        start_s, end_s = float(edges_s[first]), float(edges_s[end])
        faint = label in UNCLAIMED
        axes.axvspan(
            start_s,
            end_s,
            facecolor="#f0f1f3" if faint else colour[label],
            edgecolor=colour[label] if faint and label != SILENCE else "white",
            hatch="..." if faint and label != SILENCE else None,
            lw=0 if faint else 1,
        )
        if (end_s - start_s) / edges_s[-1] > 0.0075 * (len(label) + 1):
            ink = "#5c626c" if faint else "#101216"
            _text(
                axes.text((start_s + end_s) / 2, 0.5, printable(label), ha="center", va="center", fontsize=8, color=ink)
            )
    axes.set(ylim=(0, 1), yticks=[], ylabel="emotion")


def _words(axes: Axes, words: list[Word], rate: int, seconds: float) -> None:
    """Each word where it begins, on the first line with room; where there is none, a tick."""
    ends_s = [0.0] * _WORD_LINES
    for word in words:
        start_s, text = word.start / rate, printable(word.text)
        line = next((line for line, end_s in enumerate(ends_s) if end_s <= start_s), None)
        axes.plot([start_s] * 2, [0.0, 1.0] if line is None else [0.0, 1.0 - line / _WORD_LINES], color=_GRID, lw=0.8)
        if line is None:
            continue
        y = 1.0 - (line + 0.5) / _WORD_LINES
        _text(axes.text(start_s, y, f" {text}", va="center", fontsize=8, color=_INK, clip_on=True))
        ends_s[line] = start_s + _LETTER * (len(text) + 2) * seconds
    axes.set(ylim=(0, 1), yticks=[], ylabel="words")


def _hertz(axes: Axes, features: FeatureConfig) -> None:
    """Ticks of the mel axis where round frequencies lie (HTK scale)."""
    edges = 2595.0 * np.log10(1.0 + np.array([features.f_min, features.f_max]) / 700.0)
    ticks_hz = [hz for hz in (100, 500, 1000, 2000, 4000, 8000) if features.f_min <= hz <= features.f_max]
    mels = 2595.0 * np.log10(1.0 + np.array(ticks_hz, dtype=np.float64) / 700.0)
    # Band ``i`` is centred one step above the lower edge plus ``i`` steps.
    steps = (mels - edges[0]) / (edges[1] - edges[0]) * (features.n_mels + 1) - 0.5
    axes.set_yticks(steps, [f"{hz:g}" for hz in ticks_hz])


def _text(text: object) -> None:
    """A name is no formula: dollars are dollars."""
    text.set_parse_math(False)  # type: ignore[attr-defined]


def _plain(label: str) -> str:
    r"""A label for a legend, where a leading underscore hides it and dollars mean formulas."""
    return " " + printable(label).replace("$", r"\$")
