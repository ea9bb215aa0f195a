"""The printed result of a stream: a coloured timeline, its stretches, and what the whole amounts to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, Group
from rich.text import Text

from stream_ser.events import (
    SILENCE,
    TOO_SHORT,
    UNCERTAIN,
    UNCLAIMED,
    Decision,
    Event,
    Gap,
    StreamInfo,
    Summary,
    Transcript,
)
from stream_ser.sinks import clock
from stream_ser.sinks.draw.captions import listed as listed_words
from stream_ser.sinks.draw.palette import FAINT, GREY, LOST, colours
from stream_ser.sinks.draw.timeline import GAP, axis, bar, fit, fit_tail, sample_cells, strip
from stream_ser.text import printable

#: More stretches than this are not listed: who wants them all wants CSV or JSON lines.
MAX_LISTED = 40
#: Decisions, and gaps, that are kept at most: many times what a timeline has cells.
MAX_KEPT = 4096
#: Wider lines are harder to read, not easier.
MAX_WIDTH = 120
_LABEL_WIDTH = 10


def console_for(out: TextIO, width: int | None = None) -> Console:
    """A console that writes to ``out``, in colours only on a terminal that wants them.

    Args:
        out: stays open.
        width: cells where ``out`` is no terminal; the usual 80 by default.
    """
    width = None if out.isatty() else width
    return Console(file=out, highlight=False, markup=False, emoji=False, soft_wrap=False, width=width)


class Table:
    """Prints a stream when it ends.

    Args:
        console: where to print.
        chart: also print the timeline and the list of stretches, not the summary alone.
    """

    def __init__(self, console: Console, *, chart: bool = True) -> None:
        self._console = console
        self._chart = chart
        self._info = StreamInfo("", "", (), 1)
        self._decisions: list[Decision] = []
        self._gaps: list[Gap] = []
        self._first: list[Decision | Gap] = []
        self._count = self._lines = 0
        self._said: list[Transcript] = []

    def open(self, info: StreamInfo) -> None:
        """Forget the stream before."""
        self._info = info
        self._decisions, self._gaps, self._first, self._said = [], [], [], []
        self._count = self._lines = 0

    def write(self, event: Event) -> None:
        """Keep decisions and gaps, of a long stream as many as the timeline can show, and the first lines of words."""
        if isinstance(event, Transcript) and event.final:
            self._lines += 1
            if len(self._said) < MAX_LISTED:
                self._said.append(event)
        if not isinstance(event, (Decision, Gap)):
            return
        self._count += 1
        if len(self._first) < MAX_LISTED:
            self._first.append(event)
        if isinstance(event, Gap):
            self._gaps.append(event)
            if len(self._gaps) > MAX_KEPT:
                pairs = zip(self._gaps[0::2], self._gaps[1::2], strict=False)
                self._gaps = [Gap(a.start, b.start + b.length - a.start) for a, b in pairs] + self._gaps[-1:]
        else:
            self._decisions.append(event)
            if len(self._decisions) > MAX_KEPT:
                pairs_of = zip(self._decisions[0::2], self._decisions[1::2], strict=False)
                self._decisions = [_longer(a, b) for a, b in pairs_of] + self._decisions[-1:]

    def close(self, summary: Summary | None) -> None:
        """Print, if the stream came to its end."""
        if summary is None:
            return
        width = min(self._console.width, MAX_WIDTH)
        spans: list[Decision | Gap] = [*self._decisions, *self._gaps] if self._chart else []
        words = _transcript(self._info, self._said, self._lines, width) if self._chart else []
        self._console.print(
            render(self._info, spans, summary, width, listed=self._first, count=self._count, words=words)
        )


def _longer(first: Decision, second: Decision) -> Decision:
    """Two neighbours as one, with the label of the longer."""
    kept = max((first, second), key=lambda decision: decision.end - decision.start)
    return Decision(first.start, second.end, kept.label, kept.confidence)


def render(
    info: StreamInfo,
    spans: Sequence[Decision | Gap],
    summary: Summary,
    width: int,
    *,
    listed: Sequence[Decision | Gap] | None = None,
    count: int | None = None,
    words: Sequence[Text] = (),
) -> Group:
    """The printed result as text lines, none wider than ``width``.

    Args:
        info: the stream.
        spans: its decisions and gaps; none leaves the timeline out.
        summary: what it amounts to.
        width: cells, 40 or more to look well.
        listed: the first of them, in order, where ``spans`` are a coarser picture of them.
        count: how many there were.
        words: rows of what was said.
    """
    listed = (spans if listed is None else listed)[:MAX_LISTED]
    count = len(spans) if count is None else count
    colour = colours(info.labels)
    rate = info.sample_rate
    lines = [_title(info, summary, width), Text()]
    if spans:
        marks = [
            (span.start, span.start + span.length, GAP) if isinstance(span, Gap) else (span.start, span.end, span.label)
            for span in sorted(spans, key=lambda span: span.start)
        ]
        cells = sample_cells(marks, 0, summary.samples, width - 4)
        lines.append(Text("  ").append_text(strip(cells, colour)))
        lines.append(Text("  ").append_text(axis(0.0, summary.samples / rate, width - 4, _axis_time)))
        lines.append(Text())
        lines += [_stretch(span, rate, colour, width) for span in listed]
        if count > len(listed):
            rest = f"  … and {count - len(listed)} more: --format csv or jsonl writes all of them"
            lines.append(Text(fit(rest, width), style=FAINT))
        lines.append(Text())
    if words:
        lines += [*words, Text()]
    lines += _verdict(info, summary, colour, width)
    return Group(*lines, Text())


def overview(results: list[tuple[str, Summary | None, int]], labels: tuple[str, ...], width: int) -> Group:
    """One line a file: its length, its emotion and how sure that is.

    Args:
        results: ``(name, summary or None where the file could not be read, sample rate)``.
        labels: the model's labels.
        width: cells.
    """
    colour = colours(labels)
    width = min(width, MAX_WIDTH)
    results = [(printable(name), summary, rate) for name, summary, rate in results]
    longest = max((cell_len(name) for name, _, _ in results), default=0)
    name_width = max(8, min(longest, width - 2 - 10 - _LABEL_WIDTH - 2 - 16))
    heading = f"  {fit('file', name_width)} {'length':>8}  {'emotion':<{_LABEL_WIDTH}}"
    lines = [Text(fit(heading, width), style=f"bold {GREY}")]
    for name, summary, rate in results:
        line = Text(f"  {fit_tail(name, name_width)} ")
        if summary is None:
            line.append(f"{'':>8}  ").append("not read", style=LOST)
        else:
            line.append(f"{clock(summary.samples / rate):>8}  ", style=FAINT)
            line.append(fit(summary.label, _LABEL_WIDTH) + " ", style=f"bold {colour.get(summary.label, GREY)}")
            if summary.probabilities:
                best = max(summary.probabilities)
                line.append(f"{best:4.0%} ", style=GREY)
                line.append_text(bar(best, min(10, width - line.cell_len), colour.get(summary.label, GREY)))
        lines.append(line)
    return Group(*lines)


def _axis_time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    return clock(seconds)


def _title(info: StreamInfo, summary: Summary, width: int) -> Text:
    length_s = summary.samples / info.sample_rate
    about = f"  {length_s:.2f} s" if length_s < 60 else f"  {clock(length_s)}"
    about += f" · {info.model}"
    name = printable(info.name)
    name_width = max(1, min(cell_len(name), width - cell_len(about)))
    title = Text(fit_tail(name, name_width), style="bold")
    return title.append(fit(about, min(cell_len(about), width - name_width)), style=FAINT)


def _stretch(span: Decision | Gap, rate: int, colour: dict[str, str], width: int) -> Text:
    end = span.start + span.length if isinstance(span, Gap) else span.end
    line = Text(f"  {span.start / rate:8.2f} – {end / rate:8.2f} s  ", style=GREY)
    if isinstance(span, Gap):
        line.append(f"{span.length} samples lost", style=LOST)
    else:
        hue = colour.get(span.label, GREY)
        line.append(fit(span.label, _LABEL_WIDTH), style=hue if span.label in UNCLAIMED else f"bold {hue}")
        if span.label != SILENCE:
            line.append(f" {span.confidence:4.0%} ", style=GREY)
            line.append_text(bar(span.confidence, max(0, min(30, width - line.cell_len)), hue))
    line.truncate(width)
    return line


def _transcript(info: StreamInfo, said: Sequence[Transcript], count: int, width: int) -> list[Text]:
    """Rows of what was said: the first lines, and how many more there were."""
    colour = colours(info.labels)
    rows = [row for line in said for row in listed_words(line, info.sample_rate, width, colour)]
    if count > len(said):
        rest = f"  … and {count - len(said)} more: --format srt, csv or jsonl writes all of them"
        rows.append(Text(fit(rest, width), style=FAINT))
    return rows


def _verdict(info: StreamInfo, summary: Summary, colour: dict[str, str], width: int) -> list[Text]:
    line = Text("  ")
    if summary.label == SILENCE:
        line.append("silence", style=f"bold {GREY}").append(": nobody speaks, so no emotion is claimed", style=GREY)
    elif summary.label == UNCERTAIN:
        line.append("uncertain", style=f"bold {GREY}")
        line.append(": no emotion stands out enough to be claimed", style=GREY)
    elif summary.label == TOO_SHORT:
        line.append("too short", style=f"bold {GREY}")
        line.append(": too little was said for an emotion to be claimed", style=GREY)
    else:
        line.append("overall ", style=GREY)
        line.append(summary.label, style=f"bold {colour.get(summary.label, GREY)}")
    line.truncate(width, overflow="ellipsis")
    lines = [line]
    bar_width = max(4, min(30, width - 32))
    if summary.probabilities:
        heading = f"  {'':{_LABEL_WIDTH}}  {'mean probability':<{bar_width + 4}} {'shown for':>9}"
        lines.append(Text(fit(heading, width), style=FAINT))
    for label, probability in zip(info.labels, summary.probabilities, strict=False):
        shown = summary.seconds.get(label, 0.0)
        row = Text("  ").append(fit(label, _LABEL_WIDTH), style=colour[label])
        row.append(f" {probability:4.0%} ", style=GREY).append_text(bar(probability, bar_width, colour[label]))
        row.append(f"{shown:8.2f} s" if shown else f"{'–':>8}  ", style=GREY if shown else FAINT)
        row.truncate(width)
        lines.append(row)
    unnamed = (SILENCE, UNCERTAIN, TOO_SHORT) if summary.probabilities else tuple(summary.seconds)
    others = [f"{label} {summary.seconds[label]:.2f} s" for label in unnamed if summary.seconds.get(label)]
    if summary.lost:
        others.append(f"lost {summary.lost / info.sample_rate:.2f} s")
    if others:
        lines.append(Text(fit("  " + " · ".join(others), width).rstrip(), style=FAINT))
    return lines
