"""The log of a run: nowhere, on standard error (``--verbose``), in a file (``--log-file``)."""

from __future__ import annotations

import contextlib
import logging
import platform
import sys
from collections.abc import Iterator
from typing import TextIO

from stream_ser.cli.run.files import Claims
from stream_ser.cli.run.outputs import SAID, Report
from stream_ser.cli.run.targets import Results
from stream_ser.errors import OutputError
from stream_ser.version import __version__

_FILE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_SCREEN_FORMAT = "stream-ser: %(message)s"


class _Quiet(logging.StreamHandler[TextIO]):
    """A handler that gives up at its first failure and says so once: a full disk stops no listening.

    Attributes:
        failed: whether it has given up.
    """

    def __init__(self, stream: TextIO, report: Report | None = None, name: str = "") -> None:
        super().__init__(stream)
        self.failed = False
        self._report = report
        self._where = name

    def emit(self, record: logging.LogRecord) -> None:
        if not self.failed:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.failed = True
        if self._report is not None:
            self._report(f"error: cannot write {self._where}: {error.strerror}; free some space: the log ends there")


@contextlib.contextmanager
def logging_to(results: Results, claims: Claims, report: Report, *, screen: bool = True) -> Iterator[None]:
    """Send the log of ``stream_ser`` where the options say, for as long as this lasts.

    Args:
        results: ``--verbose`` and ``--log-file``.
        claims: told of the log file.
        report: takes the line that says that the log cannot be written any more.
        screen: whether standard error may be written to; not while a live view is drawn on the same terminal.

    Raises:
        OutputError: the file cannot be written, or is an input or another output.
    """
    logger = logging.getLogger("stream_ser")
    before = logger.level, logger.propagate
    with contextlib.ExitStack() as stack:
        handlers: list[logging.Handler] = [logging.NullHandler()]
        if results.log_file is not None:
            claims.write(results.log_file, "--log-file")
            try:
                stream = results.log_file.open("w", encoding="utf-8", errors="backslashreplace")
            except OSError as error:
                raise OutputError(f"cannot write {results.log_file}: {error.strerror}; choose another place") from None
            # Every record is flushed, so that closing has nothing left to fail on unless writing failed before.
            stack.callback(_close, stream)
            in_file = _Quiet(stream, report, str(results.log_file))
            in_file.setFormatter(logging.Formatter(_FILE_FORMAT))
            in_file.setLevel(logging.DEBUG)
            handlers.append(in_file)
        if results.verbose and screen:
            on_screen = _Quiet(sys.stderr)
            on_screen.setFormatter(logging.Formatter(_SCREEN_FORMAT))
            on_screen.setLevel(logging.INFO)
            on_screen.addFilter(lambda record: record.name != SAID.name)
            handlers.append(on_screen)
        for handler in handlers:
            logger.addHandler(handler)
            stack.callback(logger.removeHandler, handler)
        logger.setLevel(min(handler.level for handler in handlers[1:]) if len(handlers) > 1 else logging.WARNING)
        logger.propagate = False
        logger.debug("stream-ser %s, Python %s, %s", __version__, platform.python_version(), platform.platform())
        try:
            yield
        finally:
            logger.setLevel(before[0])
            logger.propagate = before[1]


def _close(stream: TextIO) -> None:
    with contextlib.suppress(OSError):
        stream.close()
