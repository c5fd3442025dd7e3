"""The driver's own rules, with cases that start nothing: what runs when, and what is
forgiven."""

from __future__ import annotations

from typing import Optional

import pytest
import run
import tiny_model
from cases import CASES
from processes import LateError, StepError
from server import Answer
from steps import MISS_S, USUAL_S, cached, in_time

# What a case does, in order; `restart` and `start` start servers.
STEPS = [
    *("start", "step_share", "step_meaning", "step_extend", "step_flush"),
    *("step_bystander_dies", "step_b_dies", "restart", "step_again", "step_clear"),
    *("step_holder_dies", "end"),
]


class Stage:
    """What the made-up cases have done, and where they fail."""

    def __init__(self) -> None:
        # Name of the case's logs, and step.
        self.seen: list[tuple[str, str]] = []
        self.faults: dict[str, tuple[str, Exception]] = {}


class Proof:
    """In place of steps.Proof."""

    stage: Stage

    def __init__(self, name: str, setup: object, launch: object, discovery: Optional[str]) -> None:
        self.name = name
        self.notes: list[str] = []

    def __getattr__(self, step: str) -> object:
        if step not in STEPS:
            raise AttributeError(step)

        def do() -> None:
            self._do(step)

        do.__name__ = step
        return do

    def _do(self, step: str) -> None:
        self.stage.seen.append((self.name, step))
        failing, error = self.stage.faults.get(self.name, ("", None))
        if step == failing and error is not None:
            raise error

    def tails(self) -> str:
        return ""

    def kill_all(self) -> None:
        pass


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    Proof.stage = Stage()
    monkeypatch.setattr(run, "Proof", Proof)
    monkeypatch.setattr(tiny_model, "write", lambda folder: None)
    return Proof.stage


@pytest.fixture
def driver(tmp_path: object) -> list[str]:
    return ["--logs", str(tmp_path)]


def test_the_cases_run_one_after_another(stage: Stage, driver: list[str]) -> None:
    assert run.main(driver) == 0
    assert stage.seen == [(case.name, step) for case in CASES for step in STEPS]


def test_no_case_starts_when_the_time_is_over(
    stage: Stage, driver: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "TOTAL_S", 0.0)
    assert run.main(driver) == 1
    assert not stage.seen


@pytest.mark.parametrize("step", ["start", "step_bystander_dies", "restart", "step_clear"])
def test_what_was_late_runs_once_more(
    stage: Stage, driver: list[str], step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.faults["original"] = (step, LateError("an answer took 8.1 s"))
    stage.faults["layer_first"] = (step, LateError("an answer took 8.2 s"))
    assert run.main(driver) == 0
    assert [seen for seen in stage.seen if "second" in seen[0]] == [
        *(("layer_first-second", step) for step in STEPS),
        *(("original-second", step) for step in STEPS),
    ]
    assert capsys.readouterr().out.count("\nRERUN ") == 2


def test_what_is_late_twice_has_failed(stage: Stage, driver: list[str]) -> None:
    stage.faults["original"] = ("step_share", LateError("late"))
    stage.faults["original-second"] = ("step_clear", LateError("late"))
    assert run.main(driver) == 1


@pytest.mark.parametrize("error", [StepError("wrong text"), ValueError("a bug"), OSError("reset")])
def test_what_was_wrong_is_not_forgiven(stage: Stage, driver: list[str], error: Exception) -> None:
    stage.faults["original"] = ("step_share", error)
    assert run.main(driver) == 1
    assert not [seen for seen in stage.seen if "second" in seen[0]]


def _answer(storage: int, seconds: float, device: int = 0) -> Answer:
    return Answer((), (), device + storage, device, 0, storage, None, seconds)


def test_only_a_miss_that_waited_is_late() -> None:
    cached("right", _answer(192, 9.0), storage=192)
    with pytest.raises(LateError):
        cached("the store gave up", _answer(0, MISS_S), storage=192)
    for answer in (
        _answer(0, MISS_S - 0.1),  # It did not wait: it found nothing.
        _answer(176, 9.0),  # Less than is there.
        _answer(192, 9.0, device=16),
        _answer(0, 9.0, device=16),
    ):
        with pytest.raises(StepError) as found:
            cached("wrong", answer, storage=192)
        assert not isinstance(found.value, LateError)


def test_an_answer_in_the_usual_time_is_not_late() -> None:
    in_time("an answer", USUAL_S)
    with pytest.raises(LateError):
        in_time("an answer", USUAL_S + 0.1)
