"""Several sources at once, and the streams of one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from stream_ser.errors import DeviceError
from stream_ser.events import Block
from stream_ser.sources.merge import MergedSources
from stream_ser.sources.parts import names_of, split


class Feed:
    """A source that gives numbered blocks when it is let, and remembers how far its consumer has come."""

    sample_rate = 16_000
    parts = ("",)

    def __init__(self, count: int, name: str = "feed", failure: Exception | None = None, silent: bool = False) -> None:
        self.name, self.count, self.failure, self.silent = name, count, failure, silent
        self.given = 0
        self.closed = threading.Event()
        self.thread = ""

    def __iter__(self) -> Iterator[Block]:
        self.thread = threading.current_thread().name
        for number in range(self.count):
            if self.closed.is_set():
                return
            self.given += 1
            yield Block(np.full(2, number, np.float32))
        if self.failure is not None:
            raise self.failure
        if self.silent:
            self.closed.wait(30.0)

    def close(self) -> None:
        self.closed.set()


def numbers(came: list[tuple[int, Block]], source: int) -> list[int]:
    return [int(block.samples[0]) for index, block in came if index == source]


def test_each_source_keeps_its_order_and_none_is_left_out() -> None:
    came = list(MergedSources([Feed(50), Feed(80), Feed(1)]))
    assert [numbers(came, index) for index in range(3)] == [list(range(50)), list(range(80)), [0]]


def test_a_source_alone_needs_no_thread() -> None:
    feed = Feed(3)
    assert numbers(list(MergedSources([feed])), 0) == [0, 1, 2]
    assert feed.thread == threading.current_thread().name


def test_a_silent_source_stops_no_other_and_closing_ends_both() -> None:
    together = MergedSources([Feed(0, silent=True), Feed(5, silent=True)])
    came = []
    for index, block in together:
        came.append((index, block))
        if len(came) == 5:
            together.close()
    assert numbers(came, 1) == list(range(5))


def test_what_the_consumer_is_too_slow_for_stays_where_the_books_are_kept() -> None:
    feeds = [Feed(10_000), Feed(10_000)]
    blocks = iter(MergedSources(feeds))
    for count in range(1, 31):
        next(blocks)
        assert sum(feed.given for feed in feeds) <= count + 2 * len(feeds)
    blocks.close()
    assert all(feed.closed.is_set() for feed in feeds)


def test_a_failure_is_raised_and_the_others_are_closed() -> None:
    other = Feed(3, silent=True)
    before = threading.active_count()
    with pytest.raises(DeviceError, match="was lost"):
        list(MergedSources([other, Feed(2, failure=DeviceError("USB was lost"))]))
    assert other.closed.is_set()
    deadline_s = time.monotonic() + 10.0
    while threading.active_count() > before and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_a_wide_block_is_one_for_each_stream_with_all_that_it_says() -> None:
    told = (("overflow", "x"),)
    block = Block(np.arange(6, dtype=np.float32).reshape(3, 2), 5.0, 7, 0, True, told)  # type: ignore[arg-type]
    first, second = split(block)
    assert first.samples.tolist() == [0, 2, 4]
    assert second.samples.tolist() == [1, 3, 5]
    assert {(b.captured_at, b.lost, b.behind, b.notices) for b in (first, second)} == {(5.0, 7, True, told)}
    assert all(b.samples.flags.c_contiguous for b in (first, second))
    empty = split(Block(np.zeros((0, 2), np.float32), notices=told))  # type: ignore[arg-type]
    assert [(b.samples.shape, b.notices) for b in empty] == [((0,), told)] * 2
    mono = Block(np.zeros(3, np.float32))
    assert split(mono) == [mono]


def test_names_tell_streams_apart() -> None:
    both = [Feed(1, "USB"), Feed(1, "USB"), Feed(1, "line")]
    both[2].parts = ("#1", "#3")  # type: ignore[attr-defined]
    assert names_of(both) == [["USB"], ["USB (2)"], ["line#1", "line#3"]]
