"""The time of others is told from a stream's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from stream_ser import waits
from stream_ser.waits import Waits


def test_only_what_others_took_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(waits.time, "perf_counter", lambda: now)
    clock = Waits()

    def work():
        first = yield from clock.ask("first")
        second = yield from clock.ask("second")
        return [first.said, second.said]

    asking = work()
    assert next(asking) == "first"
    now += 2.25
    assert asking.send(SimpleNamespace(said=1, seconds=0.25)) == "second"
    now += 1.5
    with pytest.raises(StopIteration) as end:
        asking.send(SimpleNamespace(said=2, seconds=0.5))
    assert end.value.value == [1, 2]
    assert clock.take() == pytest.approx(3.0)
    assert clock.take() == 0.0
