"""Attach, detach and reset in one process: nothing stays, and it works the next time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from conftest import Backend
from workers import Worker, ask_all

PROMPT = 23
N_PAGES = 4
ROUNDS = 4


@pytest.fixture(scope="module")
def workers(make_worker: Callable[..., Worker]) -> list[Worker]:
    return [make_worker(seed=7), make_worker(seed=8)]


@pytest.fixture
def pair(workers: list[Worker]) -> Iterator[list[Worker]]:
    """Two instances that are not attached."""
    ask_all(workers, "make", "mha", "page_first")
    ask_all(workers, "poison")
    yield workers
    ask_all(workers, "detach")
    ask_all(workers, "complaints")


def test_attach_detach_attach_leaves_nothing_behind(pair: list[Worker], backend: Backend) -> None:
    kept = []
    for round_ in range(ROUNDS):
        ask_all(pair, "attach", backend.name, backend.extra(), "life")
        prompt = PROMPT + round_
        assert pair[0].ask("write", prompt, 0, N_PAGES) == N_PAGES
        assert pair[1].ask("read", prompt, N_PAGES)["fetched"] == N_PAGES
        seconds = ask_all(pair, "detach")
        # Closing takes 5 s at most, beside the joins of SGLang's own threads.
        assert max(seconds) < 10
        kept.append(ask_all(pair, "belongings"))
    # The first round may load things that stay.
    for one in range(2):
        assert kept[-1][one]["threads"] <= kept[0][one]["threads"], kept
        assert kept[-1][one]["descriptors"] <= kept[0][one]["descriptors"], kept
    assert ask_all(pair, "complaints") == [[], []]


def test_the_one_that_serves_discovery_may_come_back(
    pair: list[Worker], backend: Backend
) -> None:
    if backend.name == "file":
        pytest.skip("the file backend has no discovery")
    ask_all(pair, "attach", backend.name, backend.extra(), "return")
    assert pair[1].ask("write", PROMPT, 0, N_PAGES) == N_PAGES
    pair[0].ask("detach")
    pair[0].ask("attach", backend.name, backend.extra(), "return")
    # It begins as a cluster of its own until the others find it.
    assert pair[0].ask("read_until", PROMPT, N_PAGES, N_PAGES, 5)["fetched"] == N_PAGES
    ask_all(pair, "detach")
    assert ask_all(pair, "complaints") == [[], []]


def test_pages_are_found_after_a_reset(pair: list[Worker], backend: Backend) -> None:
    ask_all(pair, "attach", backend.name, backend.extra(), "reset")
    assert pair[0].ask("write", PROMPT, 0, N_PAGES) == N_PAGES
    ask_all(pair, "reset")
    assert ask_all(pair, "threads_alive") == [True, True]
    assert pair[1].ask("read", PROMPT, N_PAGES)["fetched"] == N_PAGES
    ask_all(pair, "detach")


def test_attach_returns_at_once_without_a_cluster(pair: list[Worker], backend: Backend) -> None:
    if backend.name == "file":
        pytest.skip("the file backend has no cluster")
    # The first host of the seeds never answers.
    extra = backend.extra(discovery_addr="127.0.0.2:9,127.0.0.3:9")
    assert pair[0].ask("attach", backend.name, extra, "alone") < 1
    assert pair[0].ask("read", PROMPT, N_PAGES)["hit"] == 0
    pair[0].ask("detach")


def test_metrics_are_what_sglang_asserts(pair: list[Worker], backend: Backend) -> None:
    if backend.name == "file":
        pytest.skip("the file backend counts nothing")
    ask_all(pair, "attach", backend.name, backend.extra(), "numbers", metrics=True)
    assert pair[0].ask("write", PROMPT, 0, N_PAGES) == N_PAGES
    assert pair[1].ask("read", PROMPT, N_PAGES)["fetched"] == N_PAGES
    assert pair[0].ask("stats")["backup_pgs"] == [N_PAGES]
    assert pair[1].ask("stats")["prefetch_pgs"] == [N_PAGES]
    assert pair[1].ask("stats")["prefetch_pgs"] == []
    ask_all(pair, "detach")
