import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ser.config import WindowConfig
from stream_ser.features.framing import Framer, RingBuffer, fullest_window_ends


def collect(framer: Framer, items: np.ndarray, sizes: list[int]) -> list[tuple[int, list]]:
    found, position, turn = [], 0, 0
    while position < len(items):
        block = items[position : position + sizes[turn % len(sizes)]]
        for windows in framer.push(block):
            found += [(windows.end + i * framer.hop, w.tolist()) for i, w in enumerate(windows.values)]
        position, turn = position + len(block), turn + 1
    return found


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(1, 12),
    hop=st.integers(1, 12),
    first=st.integers(1, 15),
    at_once=st.integers(1, 5),
    length=st.integers(0, 80),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
)
def test_windows_are_those_of_the_whole(size, hop, first, at_once, length, sizes) -> None:
    items = np.arange(1, length + 1, dtype=np.float32)
    framer = Framer(size, hop, first=first, fill=-1.0, at_once=at_once)
    padded = np.concatenate([np.full(size, -1.0), items])
    expected = [(end, padded[end : end + size].tolist()) for end in range(first, length + 1, hop)]
    assert collect(framer, items, sizes) == expected
    last = framer.flush()
    if length and (not expected or expected[-1][0] != length):
        assert last is not None
        assert last.end == length
        assert last.values[0].tolist() == padded[length : length + size].tolist()
    else:
        assert last is None
    framer.reset()
    assert collect(framer, items, sizes) == expected


def test_items_may_be_columns() -> None:
    framer = Framer(3, 2, (2,), first=1, fill=np.array([7.0, 8.0], np.float32), at_once=1)
    windows = list(framer.push(np.arange(6, dtype=np.float32).reshape(3, 2)))
    assert windows[-1].end == 3
    framer.reset()
    first = next(iter(framer.push(np.zeros((1, 2), np.float32))))
    assert first.values[0].tolist() == [[7, 8], [7, 8], [0, 0]]


def test_the_ring_reads_contiguously_across_its_end() -> None:
    ring = RingBuffer(5)
    for start in range(0, 21, 3):
        ring.write(np.arange(start, start + 3, dtype=np.float32))
        assert ring.latest(3).tolist() == [start, start + 1, start + 2]
        assert ring.latest(5).flags.c_contiguous
    assert ring.latest(5).tolist() == [16, 17, 18, 19, 20]


def test_nothing_is_allocated_for_the_stream() -> None:
    framer = Framer(4, 2)
    before = framer._ring._buffer
    list(framer.push(np.zeros(100_000, np.float32)))
    assert framer._ring._buffer is before
    assert framer.total == 100_000


def test_positions_pass_32_bits() -> None:
    framer = Framer(4, 2)
    jump = 2**33
    framer.total = framer._last_end = jump
    framer._next_end = jump + 4
    assert [w.end for w in framer.push(np.zeros(4, np.float32))] == [jump + 4]


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Framer(0, 1)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [(0, []), (30, [30]), (300, [300]), (301, [300, 301]), (350, [300, 325, 350]), (360, [300, 325, 350, 360])],
)
def test_fullest_windows(frames: int, expected: list[int]) -> None:
    assert fullest_window_ends(frames, WindowConfig()) == expected
