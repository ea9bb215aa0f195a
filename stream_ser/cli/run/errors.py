"""The system's errors as lines for a user."""

from __future__ import annotations

import errno
import os
import sys

_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "change its permissions or choose another path"),
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ENOSPC: "free some space",
}
#: Of a path in a message.
_LONGEST_NAME = 200


def os_error_message(error: OSError) -> str:
    """What the system said of a file, as a line for a user; the error carries the file's name."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else str(error.filename)
    if len(name) > _LONGEST_NAME:
        name = name[:_LONGEST_NAME] + "..."
    return f"{name}: {error.strerror}; {_REMEDIES.get(error.errno or 0, 'check the path')}"


def abandon_stdout() -> None:
    """Nobody reads on: let the interpreter's own flush at exit go nowhere instead of failing again."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
