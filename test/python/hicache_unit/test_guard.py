"""The breaker, the log with a limited rate, and neutral answers."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from peercache.hicache.guard import (
    Breaker,
    Journal,
    Paused,
    all_false,
    all_transfers_false,
    guarded,
)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_breaker_opens_after_three_timeouts_in_a_row() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    assert [breaker.note(True), breaker.note(True)] == [False, False]
    breaker.note(False)
    assert [breaker.note(True) for _ in range(3)] == [False, False, True]
    assert not breaker.allows()
    clock.now += 0.99
    assert not breaker.allows()
    clock.now += 0.02
    assert breaker.allows()


def test_after_the_pause_one_timeout_opens_it_again_and_one_answer_closes_it() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    for _ in range(3):
        breaker.note(True)
    clock.now += 1.1
    assert breaker.note(True)
    assert not breaker.allows()
    clock.now += 1.1
    breaker.note(False)
    assert not breaker.note(True)
    assert breaker.allows()


def test_a_problem_is_said_once_in_a_while_with_how_many_were_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    journal = Journal(interval=10, clock=clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            journal.problem("get", "a get failed", "why")
        clock.now += 10.1
        journal.problem("get", "a get failed", "why")
    assert [record.getMessage() for record in caplog.records] == [
        "a get failed: why",
        "a get failed: why (4 more since the last such line)",
    ]
    assert journal.counts() == {"get": 6}


class Guarded:
    def __init__(self, error: BaseException) -> None:
        self._journal = Journal()
        self._error = error

    @guarded(all_false)
    def call(self, keys: Any) -> Any:
        raise self._error


@pytest.mark.parametrize("error", [ValueError("x"), MemoryError(), GeneratorExit(), Paused()])
def test_whatever_is_raised_becomes_an_answer_of_the_right_length(error: BaseException) -> None:
    assert Guarded(error).call(["a", "b"]) == [False, False]
    assert Guarded(error).call(keys=["a"]) == [False]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_who_wants_to_end_the_process_is_not_stopped(error: BaseException) -> None:
    with pytest.raises(type(error)):
        Guarded(error).call(["a"])


def test_wrong_arguments_are_answered_as_well(caplog: pytest.LogCaptureFixture) -> None:
    assert Guarded(ValueError()).call(["a"], 1, 2, 3) == [False]  # type: ignore[call-arg]
    assert Guarded(ValueError()).call(None) == []
    assert len(caplog.records) == 2


def test_each_transfer_that_has_a_name_is_answered() -> None:
    transfers = [SimpleNamespace(name="a", keys=["x", "y"]), SimpleNamespace(name="b", keys=None)]
    assert all_transfers_false((transfers,), {}) == {"a": [False, False], "b": []}
    assert all_transfers_false((7,), {}) == {}
