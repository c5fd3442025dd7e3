"""What an instance says is there: leading runs, legal ends, promises that hold."""

from __future__ import annotations

from typing import Any, Callable, Iterable

import numpy as np
import pytest
from conftest import wait_until

from hicache import pools
from hicache.content import page_hashes
from hicache.controller import Controller
from hicache.versions import WITH_V2

Attach = Callable[..., Controller]
every_v2_version = pytest.mark.parametrize("version", WITH_V2, ids=lambda v: v.name, indirect=True)


@pytest.fixture
def store(attach: Attach) -> Controller:
    """KV with two pools named for their part in the examples below."""
    return attach(sides={"swa": pools.swa(), "mamba": pools.mamba()})


def put_some(store: Controller, name: str, keys: list[str], which: Iterable[int]) -> None:
    chosen = [keys[i] for i in which]
    if name == "kv":
        assert all(store.put(chosen, range(len(chosen))))
    else:
        assert all(store.put_side(name, chosen, range(len(chosen))))


def trailing(store: Controller, name: str, keys: list[str]) -> Any:
    return store.sglang.transfer(name, keys=list(keys), hit_policy="trailing_pages")


def ends(answer: Any) -> Any:
    return getattr(answer, "restorable_prefix_pages", None)


@pytest.mark.parametrize("present", [[], [1, 2], [0], [0, 1, 2], [0, 1, 3, 4, 5], range(6)])
def test_exists_counts_the_leading_run(store: Controller, present: list[int]) -> None:
    keys = page_hashes(6)
    put_some(store, "kv", keys, present)
    run = next((i for i in range(6) if i not in present), 6)
    assert store.exists(keys) == run
    assert store.exists([]) == 0


@every_v2_version
def test_without_transfers_the_kv_pages_decide(store: Controller) -> None:
    keys = page_hashes(5)
    put_some(store, "kv", keys, range(3))
    answer = store.exists_v2(keys)
    assert answer.kv_hit_pages == 3
    assert answer.extra_pool_hit_pages == {"kv": 3}
    assert ends(answer) in (None, [1, 2, 3])
    assert store.store.batch_exists_v2(keys).kv_hit_pages == 3
    assert store.store.batch_exists_v2(keys, None, None).kv_hit_pages == 3


@every_v2_version
def test_a_sidecar_is_looked_up_by_the_page_keys(store: Controller) -> None:
    keys = page_hashes(6)
    put_some(store, "kv", keys, range(5))
    put_some(store, "swa", keys, range(3))
    swa = store.sglang.transfer("swa")
    answer = store.exists_v2(keys, swa)
    assert answer.kv_hit_pages == 3
    assert answer.extra_pool_hit_pages == {"kv": 5, "swa": 3}
    assert ends(answer) in (None, [1, 2, 3])


@every_v2_version
def test_legal_ends_are_intersected_over_pools(store: Controller) -> None:
    """KV 8 pages, one pool legal at {1, 3}, the other at {1, 2}: one page, not two."""
    keys = page_hashes(8)
    put_some(store, "kv", keys, range(8))
    put_some(store, "mamba", keys, [0, 2])
    put_some(store, "swa", keys, [0, 1])
    mamba = trailing(store, "mamba", keys[-1:])
    swa = trailing(store, "swa", keys[-1:])
    answer = store.exists_v2(keys, mamba, swa)
    assert answer.kv_hit_pages == 1
    assert answer.extra_pool_hit_pages == {"kv": 8, "mamba": 3, "swa": 2}
    assert ends(answer) in (None, [1])


@every_v2_version
def test_states_exist_at_few_places_and_all_are_told(store: Controller) -> None:
    keys = page_hashes(7)
    put_some(store, "kv", keys, range(6))
    put_some(store, "mamba", keys, [1, 4, 6])
    answer = store.exists_v2(keys, trailing(store, "mamba", keys[-1:]))
    assert answer.kv_hit_pages == 5
    assert ends(answer) in (None, [2, 5])
    assert answer.extra_pool_hit_pages["mamba"] == 5


def test_a_trailing_window_needs_its_last_pages_only(store: Controller) -> None:
    keys = page_hashes(8)
    put_some(store, "kv", keys, range(8))
    put_some(store, "swa", keys, [0, 1, 4, 5, 6])
    answer = store.exists_v2(keys, trailing(store, "swa", keys[-3:]))
    assert ends(answer) == [1, 2, 7]
    assert answer.kv_hit_pages == 7


def test_a_trailing_window_without_keys_is_one_page(store: Controller) -> None:
    keys = page_hashes(4)
    put_some(store, "kv", keys, range(4))
    put_some(store, "swa", keys, [2])
    no_keys: list[Any] = [[], None]
    for nothing in no_keys:
        transfer = store.sglang.transfer("swa", keys=nothing, hit_policy="trailing_pages")
        assert ends(store.exists_v2(keys, transfer)) == [3]


def test_block_groups_never_gate_and_are_not_told(store: Controller) -> None:
    keys = page_hashes(4)
    put_some(store, "kv", keys, range(4))
    blocks = store.sglang.transfer("swa", keys=keys, hit_policy="block_groups")
    answer = store.exists_v2(keys, blocks)
    assert answer.kv_hit_pages == 4
    assert answer.extra_pool_hit_pages == {"kv": 4}


def test_an_unknown_policy_counts_as_all_pages(store: Controller) -> None:
    keys = page_hashes(4)
    put_some(store, "kv", keys, range(4))
    put_some(store, "swa", keys, [0, 1, 3])
    swa = store.sglang.transfer("swa")
    swa.hit_policy = "every_other_tuesday"
    assert store.exists_v2(keys, swa).kv_hit_pages == 2


def test_a_pool_that_nobody_registered_gates(store: Controller) -> None:
    keys = page_hashes(4)
    put_some(store, "kv", keys, range(4))
    answer = store.exists_v2(keys, store.sglang.transfer("a pool of the year 2030"))
    assert answer.kv_hit_pages == 0 and ends(answer) == []


def test_no_kv_page_means_no_hit_whatever_the_others_hold(store: Controller) -> None:
    keys = page_hashes(4)
    put_some(store, "swa", keys, range(4))
    answer = store.exists_v2(keys, store.sglang.transfer("swa"))
    assert answer.kv_hit_pages == 0 and ends(answer) == []
    assert answer.extra_pool_hit_pages["kv"] == 0


def test_a_logical_anchor_leaves_the_answer_to_the_others(attach: Attach) -> None:
    store = attach(pools.anchor(), {"swa": pools.swa()})
    keys = page_hashes(5)
    put_some(store, "swa", keys, range(2))
    assert store.exists_v2(keys, store.sglang.transfer("swa")).kv_hit_pages == 2


def test_a_positive_answer_is_kept_by_the_get_that_follows(attach: Attach) -> None:
    """Other pages push into the full pool between the two."""
    kv = pools.mha(layers=8, heads=8, dim=64, page_size=16, n_pages=32)
    store = attach(kv, extra={"global_segment_size": "8mb", "region_size": "4mb"})
    keys = page_hashes(8)
    assert all(store.put(keys, range(8)))
    for i in range(16):
        assert store.exists(keys) == 8
        assert all(store.put(page_hashes(4, f"other {i}"), range(8, 12)))
    assert store.fetch(keys, range(16, 24)) == 8


def test_more_keys_than_one_batch_takes(store: Controller) -> None:
    n = 70_000
    keys = [f"{i:064x}" for i in range(n)]
    put_some(store, "kv", keys, range(20))
    put_some(store, "swa", keys, range(18))
    assert store.exists(keys) == 20
    answer = store.exists_v2(keys, store.sglang.transfer("swa"))
    assert answer.kv_hit_pages == 18


def tiny_pages(store: Controller, n: int) -> pools.PoolDouble:
    """A pool of n pages of 8 bytes, numbered; page size 1, as states have."""
    tiny = pools.PoolDouble("tiny", "page_first", 1, [pools.Piece(0, 0, 8, 8)], n_pages=n)
    tiny.buffers[0][:] = np.arange(n, dtype=np.uint64).view(np.uint8)
    store.register("tiny", tiny)
    return tiny


def test_more_pages_than_one_batch_takes(attach: Attach) -> None:
    """States come in one v2 call, however many they are."""
    n = 66_000
    store = attach(extra={"global_segment_size": "256mb", "op_timeout": 4})
    tiny = tiny_pages(store, n)
    values = tiny.buffers[0].copy()
    keys = [f"{i:064x}" for i in range(n)]
    whole = store.transfer("tiny", keys, range(n))
    # Again where a busy machine was too slow for one deadline.
    wait_until(lambda: all(store.set_v2(whole)["tiny"]), "all pages to be stored")
    tiny.buffers[0][:] = 0xEE
    wait_until(lambda: all(store.get_v2(whole)["tiny"]), "all pages")
    assert np.array_equal(tiny.buffers[0], values)


def test_tiny_pages_that_do_not_fill_the_pool_are_all_stored(attach: Attach) -> None:
    """320 KB in a pool of 64 MiB: there is room, and a full pool would evict."""
    n = 40_000
    store = attach(extra={"global_segment_size": "64mb", "op_timeout": 4})
    tiny_pages(store, n)
    keys = [f"{i:064x}" for i in range(n)]
    refused = store.set_v2(store.transfer("tiny", keys, range(n)))["tiny"].count(False)
    assert refused == 0
