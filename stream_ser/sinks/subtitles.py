"""SubRip (.srt) and WebVTT (.vtt): the emotion as subtitles, one cue a decision, nothing where nobody speaks.

Reference: W3C, WebVTT: The Web Video Text Tracks Format, 4 April 2019, sections 4.1 and 4.2. SubRip has no standard;
written is what players agree on: a number, ``HH:MM:SS,mmm --> HH:MM:SS,mmm``, text, an empty line.
"""

from __future__ import annotations

from typing import TextIO

from stream_ser.events import SILENCE, UNCERTAIN, Decision, Event, StreamInfo, Summary


class Srt:
    """Writes SubRip cues, each complete when its decision ends.

    Args:
        out: text stream, of one stream of events; stays open.
    """

    _comma = ","

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._info = StreamInfo("", "", (), 1)
        self._cues = 0

    def open(self, info: StreamInfo) -> None:
        """Nothing is written before the first cue."""
        self._info = info

    def write(self, event: Event) -> None:
        """Write a cue for a decision, unless it is silence."""
        if not isinstance(event, Decision) or event.label == SILENCE:
            return
        self._cues += 1
        start_ms, end_ms = (round(1000 * at / self._info.sample_rate) for at in (event.start, event.end))
        # A cue must end after it starts.
        times = " --> ".join(self._time(ms) for ms in (start_ms, max(end_ms, start_ms + 1)))
        sure = "" if event.label == UNCERTAIN else f" ({event.confidence:.0%})"
        self._out.write(f"{self._cues}\n{times}\n{escaped(event.label)}{sure}\n\n")

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


def escaped(text: str) -> str:
    """Text for a cue: one line, not empty, without tags or anything that looks like the arrow between times.

    Example:
        >>> escaped("calm & <happy> --> sad")
        'calm &amp; &lt;happy&gt; --&gt; sad'
    """
    line = " ".join("".join(c if c.isprintable() or "\ud800" <= c <= "\udfff" else " " for c in text).split())
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") or "–"
