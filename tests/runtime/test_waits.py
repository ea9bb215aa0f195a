"""Work is driven to its end, and the time of others is told from a stream's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from stream_ser.runtime import requests
from stream_ser.runtime.requests import Waits, finished


def test_only_what_others_took_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(requests.time, "perf_counter", lambda: now)
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


def sums():
    total = 0
    for question in ("first", "second", "third"):
        total += yield question
    return total


def test_every_question_is_answered_and_the_result_comes_back() -> None:
    heard: list[str] = []
    assert finished(sums(), lambda question: heard.append(question) or len(heard)) == 1 + 2 + 3
    assert heard == ["first", "second", "third"]


def test_work_that_waits_for_an_answer_is_gone_on_with() -> None:
    work = sums()
    assert work.send(None) == "first"
    assert work.send(10) == "second"
    heard: list[str] = []
    assert finished(work, lambda question: heard.append(question) or 100, "second") == 10 + 100 + 100
    assert heard == ["second", "third"]


def test_work_without_a_question_ends_at_once() -> None:
    def silent():
        return "done"
        yield

    assert finished(silent(), lambda question: pytest.fail("asked")) == "done"


@pytest.mark.parametrize("failure", [ValueError, StopIteration])
@pytest.mark.parametrize("asked", [None, "first"])
def test_a_failing_answer_is_not_swallowed(failure, asked) -> None:
    def fails(question):
        raise failure(question)

    work = sums()
    if asked:
        next(work)
    with pytest.raises(failure, match="first"):
        finished(work, fails, asked)
