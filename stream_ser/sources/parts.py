"""The streams that one source gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stream_ser.events import Block
from stream_ser.sources.base import Source


def names_of(sources: Sequence[Source]) -> list[list[str]]:
    """Names of all streams, by source; of two devices that are called the same the second gets a number.

    Example:
        >>> class Device:
        ...     name, parts = "USB", ("#1", "#2")
        >>> names_of([Device, Device])
        [['USB#1', 'USB#2'], ['USB (2)#1', 'USB (2)#2']]
    """
    seen: Counter[str] = Counter()
    names = []
    for source in sources:
        seen[source.name] += 1
        number = seen[source.name]
        name = source.name if number == 1 else f"{source.name} ({number})"
        names.append([name + part for part in source.parts])
    return names


def split(block: Block) -> list[Block]:
    """A block for each stream, ``(time,)``; the block itself where there is one."""
    if block.samples.ndim == 1:
        return [block]
    return [replace(block, samples=np.ascontiguousarray(samples)) for samples in block.samples.T]
