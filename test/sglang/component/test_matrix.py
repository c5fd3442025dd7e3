"""Every pool and layout, over every path, from one process to another."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conftest import Backend
from table import Ledger
from workers import Worker, ask_all

PROMPT = 7
N_PAGES = 8
FIRST_NODE = 6  # Where states of hybrid models exist: after 6 and after 8 pages.

PAGE_FIRST = ("page_first", "page_first_direct")
ALL_LAYOUTS = (*PAGE_FIRST, "layer_first", "page_head")

# What is driven: rig, its name in the table, layouts, whether shorter prefixes are legal.
ROWS = [
    ("mha", "MHA", ALL_LAYOUTS, True),
    ("mha_fp8", "MHA fp8", ALL_LAYOUTS, True),
    ("mha_uneven", "MHA, K and V differ", PAGE_FIRST, True),
    ("mha_packed", "MHA + packed draft layer", ALL_LAYOUTS, True),
    ("mla", "MLA", ALL_LAYOUTS[:3], True),
    ("mha_draft", "MHA + draft", ALL_LAYOUTS, True),
    ("mha_k_only", "MHA + K-only indexer", ALL_LAYOUTS[:3], True),
    ("mha_swa", "MHA + SWA", ALL_LAYOUTS, False),
    ("mha_mamba", "MHA + Mamba", PAGE_FIRST, False),
    ("mla_mamba", "MLA + Mamba", PAGE_FIRST, False),
    ("dsa", "MLA + DSA indexer", ALL_LAYOUTS[:3], True),
    ("v4", "logical + V4 paged, SWA, state", ALL_LAYOUTS[:3], False),
]
# SGLang itself has no flat pages for these.
NO_GENERIC = ("mha_uneven",)
PLAIN = ("mha", "mha_fp8", "mha_uneven", "mla")

CASES = [
    pytest.param(rig, name, layout, path, shorter, id=f"{rig}-{layout}-{path}")
    for rig, name, layouts, shorter in ROWS
    for layout in layouts
    for path in ("v1", "generic")
    if not (path == "generic" and rig in NO_GENERIC)
]


@pytest.fixture(scope="module")
def pair(make_worker: Callable[..., Worker]) -> list[Worker]:
    return [make_worker(seed=1), make_worker(seed=2)]


@pytest.mark.parametrize("rig, name, layout, path, shorter", CASES)
def test_what_one_instance_stores_another_finds_byte_for_byte(
    pair: list[Worker], backend: Backend, ledger: Ledger,
    rig: str, name: str, layout: str, path: str, shorter: bool,
) -> None:
    writer, reader = pair
    model = f"{rig} {layout} {path}"
    ask_all(pair, "make", rig, layout)
    ask_all(pair, "poison")
    try:
        writer.ask("attach", backend.name, backend.extra(path), model)
        assert writer.ask("write", PROMPT, 0, FIRST_NODE) == FIRST_NODE
        assert writer.ask("write", PROMPT, FIRST_NODE, N_PAGES) == N_PAGES - FIRST_NODE
        # At once after its attach, without a moment of being blind.
        reader.ask("attach", backend.name, backend.extra(path), model)
        whole = reader.ask("read", PROMPT, N_PAGES)
        assert (whole["hit"], whole["fetched"]) == (N_PAGES, N_PAGES)
        part = reader.ask("read", PROMPT, N_PAGES - 1)
        assert part["fetched"] >= (N_PAGES - 1 if shorter else FIRST_NODE)
        assert reader.ask("read", PROMPT + 1, N_PAGES)["hit"] == 0
        assert ask_all(pair, "threads_alive") == [True, True]
        assert ask_all(pair, "idle_queues") == [True, True]
    finally:
        ask_all(pair, "detach")
    assert ask_all(pair, "complaints") == [[], []]
    way = path if rig in PLAIN else f"{path} + v2"
    ledger.add(name, layout, way, "2", whole["bytes"] + part["bytes"])


@pytest.mark.parametrize("layout", ["page_first", "layer_first"])
def test_more_pages_than_one_batch_takes_come_whole(
    pair: list[Worker], backend: Backend, ledger: Ledger, layout: str
) -> None:
    n_pages = 190  # Of 128 a call.
    ask_all(pair, "make", "mha", layout)
    ask_all(pair, "poison")
    try:
        ask_all(pair, "attach", backend.name, backend.extra(), f"long {layout}")
        assert pair[0].ask("write", PROMPT, 0, n_pages) == n_pages
        answer = pair[1].ask("read", PROMPT, n_pages)
        assert (answer["hit"], answer["fetched"]) == (n_pages, n_pages)
    finally:
        ask_all(pair, "detach")
    ledger.add("MHA", layout, "v1, 190 pages", "2", answer["bytes"])


@pytest.mark.parametrize("wrote, read", [("v1", "generic"), ("generic", "v1")])
@pytest.mark.parametrize("rig, layout", [("mha", "page_first"), ("mla", "layer_first")])
def test_v1_and_generic_servers_share_their_pages(
    pair: list[Worker], backend: Backend, ledger: Ledger,
    rig: str, layout: str, wrote: str, read: str,
) -> None:
    ask_all(pair, "make", rig, layout)
    ask_all(pair, "poison")
    try:
        pair[0].ask("attach", backend.name, backend.extra(wrote), f"{wrote} {rig}")
        assert pair[0].ask("write", PROMPT, 0, N_PAGES) == N_PAGES
        pair[1].ask("attach", backend.name, backend.extra(read), f"{wrote} {rig}")
        answer = pair[1].ask("read", PROMPT, N_PAGES)
        assert answer["fetched"] == N_PAGES
    finally:
        ask_all(pair, "detach")
    ledger.add(rig.upper(), layout, f"{wrote} to {read}", "2", answer["bytes"])


OTHERS = [
    ("another model", "mha", "page_first", "other"),
    ("another layout", "mha", "page_first_direct", "model"),
    ("another dtype", "mha_fp8", "page_first", "model"),
    ("more layers", "mha_packed", "page_first", "model"),
    ("another kind", "mla", "page_first", "model"),
]


@pytest.mark.parametrize("what, rig, layout, model", OTHERS, ids=[o[0] for o in OTHERS])
def test_instances_that_differ_never_meet(
    pair: list[Worker], backend: Backend, what: str, rig: str, layout: str, model: str
) -> None:
    if backend.name == "file":
        pytest.skip("the file backend's names hold the model only")
    pair[0].ask("make", "mha", "page_first")
    pair[1].ask("make", rig, layout)
    try:
        pair[0].ask("attach", backend.name, backend.extra(), "model")
        pair[1].ask("attach", backend.name, backend.extra(), model)
        assert pair[0].ask("write", PROMPT, 0, N_PAGES) == N_PAGES
        assert pair[1].ask("read", PROMPT, N_PAGES)["hit"] == 0
    finally:
        ask_all(pair, "detach")
