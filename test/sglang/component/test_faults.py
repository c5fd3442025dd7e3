"""Nodes that are killed, stopped and restarted while all of SGLang's threads call."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Backend
from table import Ledger
from workers import Worker, ask_all

NAMES = {"mha": "MHA", "mha_mamba": "MHA + Mamba"}
N_PAGES = 8
PROMPTS = range(40, 48)
RUN_S = 4.0
# exists 0.5 s, two calls of at most 2 s, and room for two busy cores.
LONGEST_S = 8.0

Make = Callable[..., Worker]


@pytest.fixture(autouse=True)
def only_a_cluster_has_faults(backend: Backend) -> None:
    if backend.name == "file":
        pytest.skip("the file backend has no nodes")


def started(make_worker: Make, backend: Backend, seed: int, rig: str) -> Worker:
    worker = make_worker(seed=seed)
    worker.ask("make", rig, "page_first")
    worker.ask("poison")
    worker.ask("attach", backend.name, backend.extra(), f"faults {rig}")
    return worker


def set_to_work(user: Worker, prompts: list[int], seconds: float, folder: Path) -> None:
    """Returns when it is at work, so that the fault comes in the middle of it."""
    sign = folder / "at work"
    user.send("busy", prompts, N_PAGES, seconds, str(sign))
    end = time.monotonic() + LONGEST_S
    while not sign.exists():
        assert time.monotonic() < end, "it does not begin"
        time.sleep(0.01)


def check(user: Worker, ledger: Ledger, rig: str, what: str) -> dict[str, float]:
    """The end of a run with a fault."""
    report: dict[str, float] = user.answer(RUN_S + 60)
    assert report["longest_s"] < LONGEST_S, report
    assert report["rounds"] > 0
    assert user.ask("threads_alive")
    assert user.ask("complaints") == []
    ledger.add(NAMES[rig], "page_first", f"v1, {what}", "3", int(report["bytes"]))
    return report


@pytest.mark.parametrize("rig", ["mha", "mha_mamba"])
def test_a_killed_holder_costs_its_pages_and_nothing_else(
    make_worker: Make, backend: Backend, ledger: Ledger, tmp_path: Path, rig: str
) -> None:
    user, holder, other = (started(make_worker, backend, seed, rig) for seed in (11, 12, 13))
    for prompt in PROMPTS:
        holder.ask("write", prompt, 0, N_PAGES)
    other.ask("write", PROMPTS[-1] + 1, 0, N_PAGES)
    set_to_work(user, list(PROMPTS) + [PROMPTS[-1] + 1], RUN_S, tmp_path)
    holder.kill()
    report = check(user, ledger, rig, "holder killed")
    assert report["bytes"] > 0
    assert user.ask("read_until", PROMPTS[-1] + 1, N_PAGES, N_PAGES, 10)["fetched"] == N_PAGES
    ask_all([user, other], "detach")


def test_a_stopped_holder_delays_nobody_for_long(
    make_worker: Make, backend: Backend, ledger: Ledger, tmp_path: Path
) -> None:
    user, holder = (started(make_worker, backend, seed, "mha") for seed in (14, 15))
    for prompt in PROMPTS:
        holder.ask("write", prompt, 0, N_PAGES)
    set_to_work(user, list(PROMPTS), RUN_S, tmp_path)
    holder.stop()
    try:
        check(user, ledger, "mha", "holder stopped")
        assert user.ask("detach") < 10
    finally:
        holder.go_on()
    holder.ask("detach")


def test_a_restarted_node_is_used_again(
    make_worker: Make, backend: Backend, ledger: Ledger, tmp_path: Path
) -> None:
    user, holder = (started(make_worker, backend, seed, "mha") for seed in (16, 17))
    for prompt in PROMPTS:
        holder.ask("write", prompt, 0, N_PAGES)
    set_to_work(user, list(PROMPTS), RUN_S * 1.5, tmp_path)
    holder.kill()
    again = started(make_worker, backend, 18, "mha")
    again.ask("write", 99, 0, N_PAGES)
    check(user, ledger, "mha", "node restarted")
    assert user.ask("read_until", 99, N_PAGES, N_PAGES, 10)["fetched"] == N_PAGES
    ask_all([user, again], "detach")


def test_ranks_stay_in_step_when_a_node_dies(
    make_ranks: Callable[..., list[Worker]], make_worker: Make, backend: Backend, ledger: Ledger
) -> None:
    writers, readers = make_ranks(2, 21), make_ranks(2, 22)
    everybody = writers + readers
    ask_all(everybody, "make", "mha", "page_first")
    ask_all(everybody, "poison")
    ask_all(everybody, "attach", backend.name, backend.extra(), "step")
    for prompt in PROMPTS:
        assert ask_all(writers, "write", prompt, 0, N_PAGES) == [N_PAGES, N_PAGES]
    n_bytes = 0
    for at, prompt in enumerate(PROMPTS):
        if at == 2:
            writers[0].kill()
        answers = ask_all(readers, "read", prompt, N_PAGES)
        assert answers[0]["fetched"] == answers[1]["fetched"], answers
        assert at >= 2 or answers[0]["fetched"] == N_PAGES
        n_bytes += sum(answer["bytes"] for answer in answers)
    assert ask_all(readers, "threads_alive") == [True, True]
    assert ask_all(readers, "complaints") == [[], []]
    ledger.add("MHA", "page_first", "v1, node killed", "2 x TP 2", n_bytes)
    ask_all(readers, "detach")
