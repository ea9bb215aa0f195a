"""A capture with its timing and faults, kept so that it can be run again: JSON lines, and a WAV beside them.

The first line is the header: ``type`` (``session``), ``schema``, ``version``, ``source``, ``sample_rate`` in Hz,
``audio`` (name of the WAV, in the same folder), and ``model`` and ``vad`` as they were; where several channels were
heard also ``parts``, what tells their streams apart, which are the channels of the WAV (schema 2). A line a block
follows, in the order in which the recogniser got them: ``n`` samples and ``t``, seconds from the first one to their
capture; and where it is so, ``lost`` samples before them, ``behind`` (the network was not asked), ``overflows``
reported so far and ``notices``, pairs of kind and text. The last line, ``type`` ``end``, is missing where the program
was killed.

The WAV holds zeros for what was lost. Run again, a session gives the same events, except for what a clock measures.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray

from stream_ser.audio.decode import AudioFile
from stream_ser.audio.wav import MAX_RATE_HZ, MIN_RATE_HZ
from stream_ser.errors import AudioError, OutputError
from stream_ser.events import Block, NoticeKind
from stream_ser.sources.base import Closing, Source
from stream_ser.version import __version__

SCHEMA = 1
#: Of a session of several streams, which a program that knows the first alone would mix.
SCHEMA_PARTS = 2
_MAX_PARTS = 64
_LINE_LIMIT = 1 << 16
#: A loss of more than a year is no loss.
_MAX_LOST = 366 * 86_400 * MAX_RATE_HZ
#: Nor does a capture go on for a lifetime.
_MAX_AT_S = 1e9
_NONE = np.zeros(0, np.float32)
#: ``parts`` of a source of one stream.
ONE = ("",)


class SessionRecorder(Closing):
    """Writes the lines described in this module's docstring, each at once.

    Args:
        path: file to write.
        source: what is heard: its name, rate and overflows.
        audio: the WAV that is recorded at the same time, in the same folder.
        about: what else the header shall tell.
        force: overwrite an existing file.

    Raises:
        OutputError: the file exists, cannot be written, or does not lie beside the audio.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        source: Source,
        audio: str | os.PathLike[str],
        about: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> None:
        self.path = Path(path)
        self._source = source
        self._began_s: float | None = None
        self._overflows = 0
        self._failed = False
        if self.path.absolute().parent != Path(audio).absolute().parent:
            raise OutputError(f"{path} and {audio} are in two folders, expected one; a session lies beside its audio")
        try:
            # By lines: a program that is killed loses one at most.
            self._out: TextIO = self.path.open("w" if force else "x", encoding="utf-8", newline="\n", buffering=1)
        except FileExistsError:
            raise OutputError(f"{path} exists already; choose another name or overwrite it explicitly") from None
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another place") from error
        header: dict[str, Any] = {"type": "session", "schema": SCHEMA, "version": __version__, "source": source.name}
        header |= {"sample_rate": source.sample_rate, "audio": Path(audio).name}
        if (parts := source.parts) != ONE:
            header |= {"schema": SCHEMA_PARTS, "parts": parts}
        self._line(header | dict(about or {}))

    def write(self, block: Block) -> None:
        """Note a block.

        Raises:
            OutputError: the disk is full.
        """
        line: dict[str, Any] = {"n": len(block.samples)}
        if block.captured_at is not None:
            if self._began_s is None:
                self._began_s = block.captured_at
            line["t"] = round(block.captured_at - self._began_s, 4)
        if block.lost:
            line["lost"] = block.lost
        if block.behind:
            line["behind"] = True
        overflows = self._source.overflows
        if overflows != self._overflows:
            line["overflows"] = self._overflows = overflows
        if block.notices:
            line["notices"] = block.notices
        self._line(line)

    def close(self) -> None:
        """Write the last line and close the file.

        Raises:
            OutputError: the disk is full.
        """
        if self._out.closed:
            return
        try:
            if not self._failed:  # what has a hole is not complete, though there may be space again
                self._line({"type": "end"})
        finally:
            try:
                self._out.close()
            except OSError as error:
                raise self._full(error) from error

    def _line(self, content: Mapping[str, Any]) -> None:
        try:
            self._out.write(json.dumps(content) + "\n")
        except OSError as error:
            self._failed = True
            raise self._full(error) from error

    def _full(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self.path}: {error.strerror}; free some space")


class Replay(Closing):
    """A recorded session as a source: the same blocks with the same marks, at once or at the pace they came.

    Args:
        path: of the session; its audio lies beside it.
        realtime: at the pace they came.

    Attributes:
        name: of the device that was heard.
        parts: what tells its streams apart; ``("",)`` for one.
        sample_rate: Hz.
        about: the header.
        overflows: that the device had reported by the last block.
        warning: filled at the end: what was missing from the session.

    Raises:
        AudioError: it cannot be read, or is no session.
    """

    def __init__(self, path: str | os.PathLike[str], realtime: bool = False) -> None:
        self.path = Path(path)
        self.realtime = realtime
        self.overflows = 0
        self.warning: str | None = None
        self._closed = threading.Event()
        self._number = 0
        try:
            self._lines = self.path.open(encoding="utf-8", errors="replace")
        except OSError as error:
            raise AudioError(f"{path}: cannot be read ({error.strerror}); give a session of --record-session") from None
        try:
            self.about = self._header()
            self.name: str = self.about["source"]
            self.sample_rate: int = self.about["sample_rate"]
            self.parts: tuple[str, ...] = tuple(self.about.get("parts", ONE))
            audio = self.path.parent / self.about["audio"]
            self._audio = [AudioFile(audio, self.sample_rate)]
        except BaseException:
            self._lines.close()
            raise
        first = self._audio[0]
        if first.source_rate != self.sample_rate or (self.parts != ONE and first.channels != len(self.parts)):
            self.__exit__(None, None, None)
            raise AudioError(
                f"{audio}: {first.source_rate} Hz and {first.channels} channels, but {path} was recorded at "
                f"{self.sample_rate} Hz with {len(self.parts)}; find the audio that belongs to it"
            )
        if self.parts != ONE:
            first.close()
            self._audio = [AudioFile(audio, self.sample_rate, channel=k) for k in range(len(self.parts))]

    def _header(self) -> dict[str, Any]:
        header = self._next() or {}
        if header.get("type") != "session":
            raise AudioError(f"{self.path}: no session, expected a file that listen --record-session wrote")
        schema = header.get("schema")
        if schema not in (SCHEMA, SCHEMA_PARTS):
            raise AudioError(
                f"{self.path}: a session of schema {schema!r}, expected {SCHEMA} or {SCHEMA_PARTS}; use the stream-ser "
                f"that recorded it ({header.get('version')})"
            )
        rate, audio, source = header.get("sample_rate"), header.get("audio"), header.get("source")
        if not _is_count(rate, MAX_RATE_HZ) or rate < MIN_RATE_HZ or not isinstance(source, str):
            raise self._damaged()
        # Of the same folder: a session that somebody sent opens nothing else.
        if not isinstance(audio, str) or audio in ("", ".", "..") or "\0" in audio or Path(audio).name != audio:
            raise self._damaged()
        if schema == SCHEMA:
            header.pop("parts", None)
        elif not _are_parts(header.get("parts")):
            raise self._damaged()
        return header

    def __iter__(self) -> Iterator[Block]:
        """The blocks, once.

        Raises:
            AudioError: a line is damaged.
        """
        channels = [_Samples(audio) for audio in self._audio]
        began_s = time.monotonic()
        while not self._closed.is_set():
            line = self._next()
            if line is None or line.get("type") == "end":
                self.warning = f"{self.path}: broken off, as when a program is killed" if line is None else None
                return
            count, lost, at_s, behind, notices = self._checked(line)
            heard = [samples.take(count) if samples.skip(lost) else None for samples in channels]
            taken = [samples for samples in heard if samples is not None]
            if len(taken) < len(heard):
                self.warning = f"{self.path}: its audio {self._audio[0].name} ends early, at line {self._number}"
                return
            block = taken[0] if self.parts == ONE else np.stack(taken, axis=1)
            captured_at = None
            if self.realtime and at_s is not None:
                captured_at = began_s + at_s
                self._closed.wait(min(max(0.0, captured_at - time.monotonic()), threading.TIMEOUT_MAX))
            yield Block(block, captured_at, lost, 0, behind, notices)

    def _checked(self, line: dict[str, Any]) -> tuple[int, int, float | None, bool, tuple[tuple[NoticeKind, str], ...]]:
        """What a block's line says, if it may say so."""
        count, lost, at_s = line.get("n"), line.get("lost", 0), line.get("t")
        overflows, behind, notices = line.get("overflows", self.overflows), line.get("behind", False), []
        told = line.get("notices", [])
        if not isinstance(told, list):
            raise self._damaged()
        for notice in told:
            if not (isinstance(notice, list) and len(notice) == 2 and notice[0] in get_args(NoticeKind)):
                raise self._damaged()
            notices.append((notice[0], str(notice[1])))
        timed = at_s is None or (isinstance(at_s, (int, float)) and abs(at_s) < _MAX_AT_S)
        if not (_is_count(count, 10 * self.sample_rate) and _is_count(lost, _MAX_LOST) and timed):
            raise self._damaged()
        if not _is_count(overflows, 2**63) or not isinstance(behind, bool):
            raise self._damaged()
        self.overflows = overflows
        return count, lost, at_s, behind, tuple(notices)

    def _next(self) -> dict[str, Any] | None:
        """The next line; None at the end, also where the last one was cut off."""
        self._number += 1
        text = self._lines.readline(_LINE_LIMIT)
        if not text:
            return None
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            if not text.endswith("\n") and len(text) < _LINE_LIMIT and self._number > 1:
                return None
            raise self._damaged() from None
        if not isinstance(line, dict):
            raise self._damaged()
        return line

    def _damaged(self) -> AudioError:
        return AudioError(f"{self.path}: line {self._number} is damaged, expected a session of --record-session")

    def close(self) -> None:
        """End the iteration; any thread may call this. The files are released with the context."""
        self._closed.set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._lines.close()
        for audio in self._audio:
            audio.close()


class _Samples:
    """The samples of a file in pieces of any size."""

    def __init__(self, audio: AudioFile) -> None:
        self._blocks = audio.blocks()
        self._rest = _NONE

    def skip(self, count: int) -> bool:
        """Pass over samples; false where there are fewer."""
        while count > 0:
            if not len(self._rest) and not self._more():
                return False
            passed = min(count, len(self._rest))
            self._rest = self._rest[passed:]
            count -= passed
        return True

    def take(self, count: int) -> NDArray[np.float32] | None:
        """The next samples; None where there are fewer."""
        while len(self._rest) < count:
            if not self._more():
                return None
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def _more(self) -> bool:
        block = next(self._blocks, None)
        if block is None:
            return False
        self._rest = np.concatenate([self._rest, block]) if len(self._rest) else block
        return True


def _are_parts(value: object) -> bool:
    """Whether these can be the names of channels: some, each a short text."""
    return (
        isinstance(value, list)
        and 1 <= len(value) <= _MAX_PARTS
        and all(isinstance(part, str) and 1 <= len(part) <= _MAX_PARTS for part in value)
    )


def _is_count(value: object, most: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most
