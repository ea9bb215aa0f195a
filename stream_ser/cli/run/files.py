"""Files that a run writes: opened with care, named apart, never at an input's cost."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from stream_ser.errors import OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Claims:
    """The files of one run: none that is read is written, and none is written twice.

    Args:
        inputs: files that are read.
    """

    def __init__(self, inputs: Iterable[Path] = ()) -> None:
        self._inputs = list(inputs)
        self._outputs: list[tuple[Path, str]] = []

    def check(self, path: Path, option: str = "--output") -> None:
        """Whether a file may be written.

        Raises:
            OutputError: it is an input.
        """
        for other in self._inputs:
            if _same(path, other):
                raise OutputError(f"{option} {path} is one of the inputs; choose another name")

    def write(self, path: Path, option: str = "--output") -> None:
        """Note a file that is about to be created.

        Args:
            path: of the file.
            option: that asked for it.

        Raises:
            OutputError: it is an input, or another output.
        """
        self.check(path, option)
        if path.exists() and not path.is_file():
            return  # a device or a pipe takes any number of outputs
        for other, earlier in self._outputs:
            if _same(path, other):
                both = f"{earlier} and {option}" if earlier != option else f"two {option}"
                raise OutputError(f"{both} are both {path}; choose two names")
        self._outputs.append((path, option))


def _same(path: Path, other: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return path.samefile(other)
    return os.path.normcase(os.path.realpath(path)) == os.path.normcase(os.path.realpath(other))


class _LateFile(io.FileIO):
    """A file opened for writing at once, but emptied at the first write only; unwritten and new, it is removed."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0)
        self._path, self._is_new, self._written = path, True, False
        try:
            descriptor = os.open(path, flags | os.O_EXCL, 0o666)
        except FileExistsError:
            self._is_new = False
            descriptor = os.open(path, flags, 0o666)
        super().__init__(descriptor, "wb")

    def write(self, data: ReadableBuffer) -> int:
        """Write, after emptying the file if this is the first time."""
        if not self._written:
            self._written = True
            if stat.S_ISREG(os.fstat(self.fileno()).st_mode):
                self.truncate(0)
        return super().write(data)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            super().close()
            if self._is_new and not self._written:
                self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def results_to(output: Path | None, claims: Claims | None = None, option: str = "--output") -> Iterator[TextIO]:
    """Standard output, or the file that was asked for.

    The file is replaced at the first write: a run that comes to nothing leaves what it held, and no empty file.

    Args:
        output: None for standard output.
        claims: told of the file.
        option: that asked for it.

    Raises:
        OutputError: the file cannot be written, or is one of the inputs or another output.
    """
    if output is None:
        yield sys.stdout
        return
    (claims or Claims()).write(output, option)
    try:
        raw = _LateFile(output)
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror}; choose another place") from None
    with io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", newline="") as stream:
        yield stream


#: "a.wav#2" is the second channel of "a.wav", or its second voice; "a.wav#2#1" the first voice in that channel.
_PART = re.compile(r"(?P<file>.+?)(?P<part>(#\d+)*)", re.DOTALL)


def apart() -> Callable[[str], str]:
    """Stems of files, one a stream, of which none comes twice.

    Example:
        >>> stem = apart()
        >>> [stem(name) for name in ("calls/a.wav", "old/a.wav#2#1", "old/a.wav", "-")]
        ['a', 'a#2#1', 'a-2', 'stdin']
    """
    given: set[str] = set()

    def stem_for(name: str) -> str:
        match = _PART.fullmatch(name)
        file, part = (match["file"], match["part"]) if match else (name, "")
        # The name of a device may hold a dot that begins no suffix: "USB 2.0 Camera".
        stem = Path(file).name if " " in Path(file).suffix else Path(file).stem
        stem = ("stdin" if file == "-" else stem) + part
        chosen, count = stem, 1
        while chosen.casefold() in given:
            count += 1
            chosen = f"{stem}-{count}"
        given.add(chosen.casefold())
        return chosen

    return stem_for


def one_each(path: Path) -> Callable[[str], Path]:
    """Names of files, one a stream: ``out.png`` becomes ``out-NAME.png``; see :func:`apart`.

    Example:
        >>> name = one_each(Path("out.png"))
        >>> str(name("calls/a.wav")), str(name("old/a.wav")), str(name("-"))
        ('out-a.png', 'out-a-2.png', 'out-stdin.png')
    """
    stem_for = apart()
    return lambda name: path.with_name(f"{path.stem}-{stem_for(name)}{path.suffix}")
