"""Two tensor-parallel ranks over gloo, also of instances of another TP size, and SGLang's
own failure injector."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from conftest import Backend
from table import Ledger
from workers import Worker, ask_all

PROMPT = 11
N_PAGES = 8
FIRST_NODE = 6

ROWS = [
    ("mha", "MHA", "page_first"),
    ("mha", "MHA", "layer_first"),
    ("mla", "MLA", "page_first_direct"),
    ("mha_swa", "MHA + SWA", "page_first_direct"),
    ("mha_mamba", "MHA + Mamba", "page_first"),
    ("mla_mamba", "MLA + Mamba", "page_first_direct"),
    ("dsa", "MLA + DSA indexer", "page_first_direct"),
    ("v4", "logical + V4 paged, SWA, state", "page_first"),
]

Ranks = tuple[list[Worker], list[Worker]]


@pytest.fixture(scope="module")
def ranks(make_ranks: Callable[..., list[Worker]]) -> Ranks:
    """Two instances of two ranks."""
    return make_ranks(2, 1), make_ranks(2, 2)


def same(answers: list[dict[str, int]]) -> dict[str, int]:
    """The ranks' answers, which have to agree on pages."""
    for answer in answers[1:]:
        assert (answer["hit"], answer["fetched"]) == (answers[0]["hit"], answers[0]["fetched"])
    return answers[0] | {"bytes": sum(answer["bytes"] for answer in answers)}


@pytest.mark.parametrize("path", ["v1", "generic"])
@pytest.mark.parametrize("rig, name, layout", ROWS)
def test_each_rank_gets_its_own_bytes(
    ranks: Ranks, backend: Backend, ledger: Ledger, rig: str, name: str, layout: str, path: str
) -> None:
    writers, readers = ranks
    model = f"{rig} {layout} {path} on two"
    everybody = writers + readers
    ask_all(everybody, "make", rig, layout)
    ask_all(everybody, "poison")
    try:
        ask_all(everybody, "attach", backend.name, backend.extra(path), model)
        first = ask_all(writers, "write", PROMPT, 0, FIRST_NODE)
        # Ranks beside the first store no pages that are the same on all.
        assert first[0] == FIRST_NODE
        ask_all(writers, "write", PROMPT, FIRST_NODE, N_PAGES)
        answer = same(ask_all(readers, "read", PROMPT, N_PAGES))
        assert (answer["hit"], answer["fetched"]) == (N_PAGES, N_PAGES)
        assert all(ask_all(everybody, "threads_alive"))
    finally:
        ask_all(everybody, "detach")
    assert ask_all(everybody, "complaints") == [[]] * 4
    way = path if rig in ("mha", "mla") else f"{path} + v2"
    ledger.add(name, layout, way, "2 x TP 2", answer["bytes"])


SPLITS = [(1, 2), (2, 1), (2, 2), (1, 1)]


@pytest.mark.parametrize("wrote, read", SPLITS, ids=[f"tp{w}-to-tp{r}" for w, r in SPLITS])
def test_instances_of_any_tp_size_share_split_heads(
    ranks: Ranks, make_worker: Callable[..., Worker], backend: Backend, ledger: Ledger,
    wrote: int, read: int,
) -> None:
    if backend.name == "file":
        pytest.skip("the file backend does not split heads")
    singles = [make_worker(seed=3), make_worker(seed=4)]
    writers = ranks[0] if wrote == 2 else singles[:1]
    readers = ranks[1] if read == 2 else singles[1:]
    extra = backend.extra(tp_lcm_size=4)
    everybody = writers + readers
    ask_all(everybody, "make", "mha_split", "page_head")
    ask_all(everybody, "poison")
    try:
        ask_all(everybody, "attach", backend.name, extra, "split")
        assert ask_all(writers, "write", PROMPT, 0, N_PAGES) == [N_PAGES] * wrote
        answer = same(ask_all(readers, "read", PROMPT, N_PAGES))
        assert answer["fetched"] == N_PAGES
    finally:
        ask_all(everybody, "detach")
        for single in singles:
            single.end()
    ledger.add("MHA split heads", "page_head", "v1", f"TP {wrote} to TP {read}", answer["bytes"])


@pytest.fixture
def faulty_ranks(make_ranks: Callable[..., list[Worker]]) -> Iterator[Ranks]:
    """The readers' ranks fail and are late at random, each in its own way."""
    injector = {
        "SGLANG_TEST_HICACHE_BACKEND_RANDOM_DELAY": "0.01",
        "SGLANG_TEST_HICACHE_BACKEND_RANDOM_FAILURE": "0.2",
    }
    yield make_ranks(2, 5), make_ranks(2, 6, environment=injector)


INJECTED = [
    ("mha", "MHA", "page_first", "v1"),
    ("mha", "MHA", "page_first", "generic"),
    ("mha_mamba", "MHA + Mamba", "page_first", "v1"),
    ("dsa", "MLA + DSA indexer", "page_first", "v1"),
]


@pytest.mark.parametrize("rig, name, layout, path", INJECTED)
def test_ranks_agree_on_the_prefix_while_sglang_injects_failures(
    faulty_ranks: Ranks, backend: Backend, ledger: Ledger,
    rig: str, name: str, layout: str, path: str,
) -> None:
    writers, readers = faulty_ranks
    everybody, n_rounds = writers + readers, 12
    ask_all(everybody, "make", rig, layout)
    ask_all(everybody, "poison")
    n_bytes, lengths = 0, set()
    try:
        ask_all(everybody, "attach", backend.name, backend.extra(path), f"{rig} {path} faulty")
        for prompt in range(n_rounds):
            ask_all(writers, "write", prompt, 0, FIRST_NODE)
            ask_all(writers, "write", prompt, FIRST_NODE, N_PAGES)
            answer = same(ask_all(readers, "read", prompt, N_PAGES))
            # States exist after 6 and after 8 pages only.
            assert rig != "mha_mamba" or answer["fetched"] in (0, FIRST_NODE, N_PAGES)
            n_bytes += answer["bytes"]
            lengths.add(answer["fetched"])
            ask_all(readers, "write", 1000 + prompt, 0, N_PAGES)
        assert lengths != {0}, "nothing ever came: this shows nothing"
        assert all(ask_all(everybody, "threads_alive"))
    finally:
        ask_all(everybody, "detach")
    assert ask_all(everybody, "complaints") == [[]] * 4
    ledger.add(name, layout, f"{path}, injector", "2 x TP 2", n_bytes)
