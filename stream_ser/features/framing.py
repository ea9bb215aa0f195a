"""Overlapping windows over a stream that arrives in blocks of any size.

One class serves twice: over samples (windows of ``n_fft``) and over log-mel columns (the network's window). Its
ring buffer is allocated once. Positions are Python integers, so no counter overflows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import WindowConfig

Array = NDArray[np.float32]


class RingBuffer:
    """The newest ``capacity`` items of a stream, always readable as one contiguous view.

    Each item is written twice, ``capacity`` apart, so that whatever the write position, the newest items lie side
    by side: no copy and no wrap-around for the reader.
    """

    def __init__(self, capacity: int, item_shape: tuple[int, ...] = (), fill: float | Array = 0.0) -> None:
        self._buffer = np.empty((2 * capacity, *item_shape), dtype=np.float32)
        self._capacity = capacity
        self._fill = fill
        self.reset()

    def reset(self) -> None:
        """Forget everything; unread items are ``fill`` again."""
        self._buffer[:] = self._fill
        self._position = 0

    def write(self, items: Array) -> None:
        """Append ``(n, *item_shape)`` items, ``n`` at most the capacity."""
        count, capacity, position = len(items), self._capacity, self._position
        first = min(count, capacity - position)
        self._buffer[position : position + first] = items[:first]
        self._buffer[position + capacity : position + capacity + first] = items[:first]
        rest = count - first
        if rest:
            self._buffer[:rest] = items[first:]
            self._buffer[capacity : capacity + rest] = items[first:]
        self._position = (position + count) % capacity

    def latest(self, count: int) -> Array:
        """View of the newest ``count`` items, oldest first; valid until the next write."""
        end = self._position + self._capacity
        return self._buffer[end - count : end]

    def windows(self, count: int, size: int, hop: int, unused: int) -> Array:
        """Read-only view ``(count, size, *item_shape)`` of windows ``hop`` apart; valid until the next write.

        The last window ends ``unused`` items before the newest.
        """
        buffer = self._buffer
        first = self._position + self._capacity - unused - (count - 1) * hop - size
        step = buffer.strides[0]
        # Not numpy's sliding_window_view: it takes longer than the transform of what it shows.
        view: Array = np.ndarray(
            (count, size, *buffer.shape[1:]), np.float32, buffer, first * step, (hop * step, *buffer.strides)
        )
        view.flags.writeable = False
        return view


@dataclass(frozen=True, slots=True)
class Windows:
    """Consecutive windows.

    Attributes:
        end: position one past the last item of the first window.
        values: ``(windows, size, *item_shape)``, a read-only view that the next window overwrites.
    """

    end: int
    values: Array


class Framer:
    """Cuts a stream into windows of ``size`` items, ``hop`` apart, whatever the sizes of its blocks.

    The first window ends after ``first`` items; where that is less than ``size``, items before the stream's start
    read as ``fill``.

    Args:
        size: items in a window.
        hop: items from one window to the next.
        item_shape: shape of one item; ``()`` for samples.
        first: items before the first window; default ``size``.
        fill: what lies before the stream's start, broadcast to an item.
        at_once: most windows that are given out together.

    Example:
        >>> framer = Framer(size=4, hop=2)
        >>> [w.values.tolist() for w in framer.push(np.arange(6, dtype=np.float32))]
        [[[0.0, 1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0]]]
    """

    def __init__(
        self,
        size: int,
        hop: int,
        item_shape: tuple[int, ...] = (),
        *,
        first: int | None = None,
        fill: float | Array = 0.0,
        at_once: int = 64,
    ) -> None:
        first = size if first is None else first
        if min(size, hop, first, at_once) < 1:
            raise ValueError("size, hop, first and at_once must be at least 1")
        self.size = size
        self.hop = hop
        self.at_once = at_once
        self._first = first
        self._span = (at_once - 1) * hop
        self._ring = RingBuffer(size + self._span, item_shape, fill)
        self.reset()

    def reset(self, start: int = 0) -> None:
        """Back to the start of a stream, whose first item has the position ``start``."""
        self._ring.reset()
        self.total = self.last_end = start
        self._next_end = start + self._first

    @property
    def next_end(self) -> int:
        """Position one past the last item of the next window."""
        return self._next_end

    def push(self, items: Array) -> Iterator[Windows]:
        """Take ``(n, *item_shape)`` items and give out every window that they complete.

        The iterator must be exhausted: items are taken in as it advances.
        """
        taken = 0
        while taken < len(items):
            # Up to the end of the last window that one view of the ring can hold, or all there is.
            room = max(self._next_end - self.total, 0) + self._span
            step = min(len(items) - taken, room, self.size + self._span)
            self._ring.write(items[taken : taken + step])
            taken += step
            self.total += step
            if self.total < self._next_end:
                continue
            count = (self.total - self._next_end) // self.hop + 1
            end = self._next_end
            last = end + (count - 1) * self.hop
            unused = self.total - last
            self._next_end, self.last_end = last + self.hop, last
            yield Windows(end, self._ring.windows(count, self.size, self.hop, unused))

    def flush(self, again: bool = False) -> Windows | None:
        """The window that ends with the stream, unless that is empty or, but for ``again``, was given out already."""
        if self.total == self.last_end and not again:
            return None
        self.last_end = self.total
        return Windows(self.total, self._ring.latest(self.size)[None])


def fullest_window_ends(frames: int, window: WindowConfig) -> list[int]:
    """Where the windows end that say most about a whole clip of ``frames`` frames.

    These are the windows without padding, on the grid on which the runtime predicts, and the clip's last one; for a
    clip shorter than the window, the last one alone.
    """
    on_grid = range(window.minimum, frames + 1, window.hop)
    ends = [end for end in on_grid if end >= window.frames]
    if frames > 0 and (not ends or ends[-1] != frames):
        ends.append(frames)
    return ends
