"""Several streams from one capture, and several captures at the same time.

A source of several streams says in ``parts`` what tells them apart, ``("#1", "#2")``, and gives blocks
``(time, stream)``: the channels of a device, or what a separator makes of one. They share a clock, so what is lost, and
what becomes known of the capture, is so for each of them. :func:`split` takes such a block apart;
:class:`MergedSources` iterates several sources in the order in which their blocks come.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Sequence

from stream_ser.events import Block
from stream_ser.sources.base import Closing, Source

#: How often a wait looks up, so that Ctrl-C works where waits cannot be interrupted (Windows).
_POLL_S = 0.25


class MergedSources(Closing):
    """Sources that deliver at the same time, iterated by one consumer as ``(index of the source, block)``.

    Each of several is iterated by a thread of its own, which goes on once its block is done with: so none waits for
    another that is silent or lost, none comes first all the time, and what the consumer is too slow for waits, or is
    lost, where the source keeps its books. A source alone is iterated by the consumer's thread.

    Args:
        sources: opened.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = list(sources)

    def __iter__(self) -> Generator[tuple[int, Block], None, None]:
        """Blocks until all sources have ended, or the iterator is closed, which closes them.

        Raises:
            Exception: what one of the sources raises, once what came before is through; the others are closed.
        """
        if len(self._sources) == 1:
            yield from ((0, block) for block in self._sources[0])
            return
        ready: queue.SimpleQueue[tuple[int, Block | Exception | None]] = queue.SimpleQueue()
        done = [threading.Semaphore(0) for _ in self._sources]
        over = threading.Event()

        def follow(index: int) -> None:
            try:
                for block in self._sources[index]:
                    ready.put((index, block))
                    done[index].acquire()
                    if over.is_set():
                        return
            except Exception as error:  # noqa: BLE001 - raised where they are iterated
                ready.put((index, error))
            else:
                ready.put((index, None))

        threads = [
            threading.Thread(target=follow, args=(index,), name=f"stream-ser source {index + 1}", daemon=True)
            for index in range(len(self._sources))
        ]
        for thread in threads:
            thread.start()
        try:
            running = len(threads)
            while running:
                try:
                    index, came = ready.get(timeout=_POLL_S)
                except queue.Empty:
                    continue
                if isinstance(came, Exception):
                    raise came
                if came is None:
                    running -= 1
                    continue
                yield index, came
                done[index].release()
        finally:
            over.set()
            self.close()
            for one in done:
                one.release()
            for thread in threads:
                thread.join()

    def close(self) -> None:
        """Make the iteration end, once what was captured is through; any thread may call this."""
        for source in self._sources:
            source.close()
