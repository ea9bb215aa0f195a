"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write next to ``path``, then rename: a kill at any moment leaves the old file or the new one."""
    temporary = path.with_name(path.name + ".part")
    write(temporary)
    os.replace(temporary, path)
