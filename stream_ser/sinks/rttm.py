"""RTTM, the format of speaker diarization: which emotion, from when, for how long.

One line a decision, ten fields: ``SPEAKER file 1 onset duration <NA> emotion emotion confidence <NA>``. The emotion is
the speaker type (field 7) and the speaker's name (field 8) too, for most tools that score diarization read the name
alone. Silence has no line. A word that was said is a ``LEXEME`` line, with the word in field 6 and the emotion of its
line of words as the speaker. A loss of audio is a ``NOSCORE`` line: nobody knows what was said there.

Reference: NIST, The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan, appendix A.
"""

from __future__ import annotations

from typing import TextIO

from stream_ser.events import SILENCE, Decision, Event, Gap, StreamInfo, Summary, Transcript

_ABSENT = "<NA>"


class Rttm:
    """Writes RTTM; several streams may follow each other, the file field tells them apart.

    Args:
        out: text stream; stays open.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._info = StreamInfo("", "", (), 1)

    def open(self, info: StreamInfo) -> None:
        """Nothing is written before the first decision."""
        self._info = info

    def write(self, event: Event) -> None:
        """Write a line for a decision or a gap, and for each word of a line of words."""
        if isinstance(event, Gap):
            self._line("NOSCORE", event.start, event.length, _ABSENT, _ABSENT, _ABSENT, _ABSENT)
        elif isinstance(event, Decision) and event.label != SILENCE:
            label = word(event.label)
            self._line(
                "SPEAKER", event.start, event.end - event.start, _ABSENT, label, label, f"{event.confidence:.4f}"
            )
        elif isinstance(event, Transcript) and event.final:
            for said in event.words:
                self._line(
                    "LEXEME",
                    said.start,
                    said.end - said.start,
                    word(said.text),
                    "lex",
                    word(event.label),
                    f"{said.confidence:.4f}",
                )

    def close(self, summary: Summary | None) -> None:
        """Hand on what is buffered."""
        self._out.flush()

    def _line(self, kind: str, start: int, length: int, text: str, subtype: str, speaker: str, confidence: str) -> None:
        rate = self._info.sample_rate
        place = f"{word(self._info.name)} 1 {start / rate:.4f} {length / rate:.4f}"
        self._out.write(f"{kind} {place} {text} {subtype} {speaker} {confidence} {_ABSENT}\n")


def word(text: str) -> str:
    """Text as one field: what would end it, or the line, is percent-encoded.

    Example:
        >>> word("my talk 50%.wav")
        'my%20talk%2050%25.wav'
    """
    escaped = "".join(
        c if c != "%" and not c.isspace() and (c.isprintable() or "\ud800" <= c <= "\udfff") else _percent(c)
        for c in text
    )
    return escaped or _ABSENT


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8"))
