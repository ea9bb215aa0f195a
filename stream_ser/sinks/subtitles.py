"""SubRip (.srt) and WebVTT (.vtt): the emotion as subtitles, one cue a decision, nothing where nobody speaks.

From a model that transcribes, the cues are what was said, each led by its emotion: ``[happy] ...``. A cue has two rows
of text at most, as subtitles have, and stays on the screen for a moment behind its last word.

Reference: W3C, WebVTT: The Web Video Text Tracks Format, 4 April 2019, sections 4.1 and 4.2. SubRip has no standard;
written is what players agree on: a number, ``HH:MM:SS,mmm --> HH:MM:SS,mmm``, text, an empty line.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from stream_ser.events import SILENCE, UNCLAIMED, Decision, Event, StreamInfo, Summary, Transcript, Word

#: Characters of a cue: two rows of what television takes.
MAX_CHARACTERS = 2 * 42
#: A cue stays at least so long, unless the next one begins: less cannot be read.
SHORTEST_S = 1.0


class Srt:
    """Writes SubRip cues, each complete when its decision ends.

    Args:
        out: text stream, of one stream of events; stays open.
    """

    _comma = ","

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._info = StreamInfo("", "", (), 1)
        self._cues = self._shown = 0

    def open(self, info: StreamInfo) -> None:
        """Nothing is written before the first cue."""
        self._info = info

    def write(self, event: Event) -> None:
        """Write a cue for a decision, unless it is silence; or the cues of a finished line of words."""
        if isinstance(event, Transcript):
            if event.final:
                self._said(event)
        elif isinstance(event, Decision) and event.label != SILENCE and not self._info.transcribes:
            sure = "" if event.label in UNCLAIMED else f" ({event.confidence:.0%})"
            self._cue(event.start, event.end, f"{escaped(event.label)}{sure}")

    def _said(self, line: Transcript) -> None:
        parts = list(cues(line.words))
        tag = f"[{escaped(line.label)}] " if line.label else ""
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            end = max(part[-1].end, part[0].start + round(SHORTEST_S * self._info.sample_rate))
            if following is not None:
                end = min(end, following[0].start)
            text = " ".join(word.text for word in part)
            self._cue(part[0].start, end, tag + escaped(text))

    def _cue(self, start: int, end: int, text: str) -> None:
        self._cues += 1
        # A cue begins where the one before ends, at the earliest, and ends after it starts.
        start_ms, end_ms = (round(1000 * at / self._info.sample_rate) for at in (max(start, self._shown), end))
        self._shown = max(end, self._shown) if self._info.transcribes else 0
        times = " --> ".join(self._time(ms) for ms in (start_ms, max(end_ms, start_ms + 1)))
        self._out.write(f"{self._cues}\n{times}\n{text}\n\n")

    def close(self, summary: Summary | None) -> None:
        """Hand on what is buffered."""
        self._out.flush()

    def _time(self, milliseconds: int) -> str:
        seconds, ms = divmod(milliseconds, 1000)
        minutes, second = divmod(seconds, 60)
        hours, minute = divmod(minutes, 60)
        return f"{hours:02}:{minute:02}:{second:02}{self._comma}{ms:03}"


class Vtt(Srt):
    """Writes WebVTT, which has a header and a full stop in its times.

    Args:
        out: text stream, of one stream of events; stays open.
    """

    _comma = "."
    _begun = False

    def write(self, event: Event) -> None:
        """Write the header before the first event, then a cue for a decision, unless it is silence."""
        self._begin()
        super().write(event)

    def close(self, summary: Summary | None) -> None:
        """Hand on what is buffered; a stream without cues leaves the header."""
        if summary is not None:
            self._begin()
        super().close(summary)

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._out.write(f"WEBVTT\n\nNOTE {escaped(self._info.name)} ({escaped(self._info.model)})\n\n")


def cues(words: tuple[Word, ...]) -> Iterator[tuple[Word, ...]]:
    """Words by cue: as many as :data:`MAX_CHARACTERS` hold, one at least."""
    first, length = 0, 0
    for place, word in enumerate(words):
        if place > first and length + 1 + len(word.text) > MAX_CHARACTERS:
            yield words[first:place]
            first, length = place, 0
        length += len(word.text) + (place > first)
    if words:
        yield words[first:]


def escaped(text: str) -> str:
    """Text for a cue: one line, not empty, without tags or anything that looks like the arrow between times.

    Example:
        >>> escaped("calm & <happy> --> sad")
        'calm &amp; &lt;happy&gt; --&gt; sad'
    """
    line = " ".join("".join(c if c.isprintable() or "\ud800" <= c <= "\udfff" else " " for c in text).split())
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") or "–"
