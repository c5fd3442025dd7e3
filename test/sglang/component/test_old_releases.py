"""Real factory, pools and controllers of older SGLangs, unpacked beside the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Backend
from table import Ledger
from workers import Caller, Twins, Worker, ask_all

RELEASES = ("0.5.6.post2", "0.5.12.post1")
PROMPT = 31
N_PAGES = 150  # Of 128 a call.

ROWS = [
    ("mha", "MHA", "layer_first"),  # The default of these releases.
    ("mha", "MHA", "page_first"),
    ("mha", "MHA", "page_first_direct"),
    ("mla", "MLA", "layer_first"),
    ("mla", "MLA", "page_first_direct"),
]


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    folder = Path(os.environ.get("PEERCACHE_SGLANG_OLD", "")) / request.param
    if not (folder / "sglang").is_dir():
        pytest.skip(f"SGLang {request.param} is not unpacked: ci/sglang.sh install")
    return str(folder)


@pytest.fixture(scope="module")
def old_pair(release: str, shared_folder: Path) -> Iterator[list[Caller]]:
    environment = {"SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR": str(shared_folder)}
    twins = Twins(environment, release)
    yield twins.callers
    twins.end()


@pytest.mark.parametrize("path", ["v1", "generic"])
@pytest.mark.parametrize("rig, name, layout", ROWS)
def test_an_older_release_finds_what_another_stored(
    old_pair: list[Caller], release: str, backend: Backend, ledger: Ledger,
    rig: str, name: str, layout: str, path: str,
) -> None:
    ask_all(old_pair, "make", rig, layout)
    ask_all(old_pair, "poison")
    version = Path(release).name
    model = f"{rig} {layout} {path} {version}"
    try:
        ask_all(old_pair, "attach", backend.name, backend.extra(path), model)
        assert old_pair[0].ask("write", PROMPT, N_PAGES) == N_PAGES
        answer = old_pair[1].ask("read", PROMPT, N_PAGES)
        assert answer["fetched"] == N_PAGES
        assert old_pair[1].ask("read", PROMPT + 1, 8)["fetched"] == 0
        assert ask_all(old_pair, "threads_alive") == [True, True]
    finally:
        ask_all(old_pair, "detach")
    assert ask_all(old_pair, "complaints") == [[], []]
    ledger.add(name, layout, path, "2", answer["bytes"], version)


def test_draft_pages_of_generic_calls_live_beside_v1_traffic(
    old_pair: list[Caller], backend: Backend
) -> None:
    ask_all(old_pair, "make", "mha", "page_first")
    ask_all(old_pair, "poison")
    try:
        ask_all(old_pair, "attach", backend.name, backend.extra(), "drafts")
        assert old_pair[0].ask("draft_by_generic_calls", True)
        assert old_pair[0].ask("write", PROMPT, 8) == 8
        assert old_pair[1].ask("draft_by_generic_calls", False)
        assert old_pair[1].ask("read", PROMPT, 8)["fetched"] == 8
    finally:
        ask_all(old_pair, "detach")
    assert ask_all(old_pair, "complaints") == [[], []]


def test_v2_calls_keep_the_contract_of_the_release(
    old_pair: list[Caller], release: str, backend: Backend, ledger: Ledger
) -> None:
    version = Path(release).name
    if version.startswith("0.5.6") or backend.name == "file":
        pytest.skip("no v2 calls")
    ask_all(old_pair, "make", "mha", "page_first")
    ask_all(old_pair, "poison")
    try:
        ask_all(old_pair, "attach", backend.name, backend.extra(), "v2")
        ask_all(old_pair, "add_sidecar")
        # The KV pages of the last two are not stored: they must not count.
        assert old_pair[0].ask("write_v2", PROMPT, 8) == [True] * 8
        assert old_pair[0].ask("write", PROMPT, 6) == 6
        kind, pages = old_pair[1].ask("query_v2", PROMPT, 8)
        assert (kind, pages) == ("sglang.srt.mem_cache.hicache_storage", 6)
        answer, n_bytes = old_pair[1].ask("read_v2", PROMPT, 8)
        assert answer == [True] * 8
    finally:
        ask_all(old_pair, "detach")
    assert ask_all(old_pair, "complaints") == [[], []]
    ledger.add("indexer (host to host)", "page_first", "v2 by hand", "2", n_bytes, version)


def test_pages_of_two_releases_never_mix_hash_epochs(
    old_pair: list[Caller], make_worker: Callable[..., Worker], backend: Backend
) -> None:
    """Older releases kept pages of LoRA requests under plain hashes."""
    if backend.name == "file":
        pytest.skip("the file backend's names hold no epoch")
    new = make_worker(seed=33)
    old_pair[0].ask("make", "mha", "page_first")
    new.ask("make", "mha", "page_first")
    old_pair[0].ask("attach", backend.name, backend.extra(), "epochs")
    new.ask("attach", backend.name, backend.extra(), "epochs")
    assert old_pair[0].ask("write", PROMPT, 8) == 8
    assert new.ask("read", PROMPT, 8)["hit"] == 0
    new.ask("detach")
    old_pair[0].ask("detach")
