"""Every kind of host pool: its pieces, its buffers, what cannot be stored."""

from __future__ import annotations

import logging
from typing import Callable

import pytest

from hicache import pools
from hicache.content import page_hashes
from hicache.controller import Controller
from hicache.tensors import TensorDouble, empty_tensor

Attach = Callable[..., Controller]
SLOTS, OTHER_SLOTS = [7, 0, 3, 4, 19], [11, 2, 8, 23, 5]


@pytest.mark.parametrize("kind", pools.KV_POOLS)
def test_pages_of_every_kv_pool_come_back(attach: Attach, kind: str) -> None:
    """Between two instances: what one writes the other reads."""
    writer, reader = (attach(pools.KV_POOLS[kind]()) for _ in range(2))
    keys = page_hashes(5)
    assert writer.put(keys, SLOTS) == [True] * 5
    assert reader.exists(keys) == 5
    assert reader.fetch(keys, OTHER_SLOTS) == 5
    assert reader.kv.is_poisoned(reader.kv.others(OTHER_SLOTS))
    assert writer.kv.is_poisoned(writer.kv.others(SLOTS))


@pytest.mark.parametrize("kind", pools.SIDE_POOLS)
def test_pages_of_every_side_pool_come_back(attach: Attach, kind: str) -> None:
    writer, reader = (attach(sides={kind: pools.SIDE_POOLS[kind]()}) for _ in range(2))
    keys = page_hashes(5)
    assert writer.put_side(kind, keys, SLOTS) == [True] * 5
    assert reader.get_side(kind, keys, OTHER_SLOTS) == [True] * 5
    side = reader.pools[kind]
    side.check(OTHER_SLOTS, keys)
    assert side.is_poisoned(side.others(OTHER_SLOTS))


def test_probing_leaves_the_pool_as_it_was(attach: Attach) -> None:
    for make in (*pools.KV_POOLS.values(), pools.mxfp8):
        kv = make()
        attach(kv).close()
        assert kv.is_poisoned(range(kv.page_num))


def test_a_logical_anchor_answers_all_true(attach: Attach) -> None:
    store = attach(pools.anchor(), {"deepseek_v4_c4": pools.v4_state()})
    keys = page_hashes(4)
    assert store.set(keys, range(4)) == [True] * 4
    assert store.get(keys, range(4)) == [True] * 4
    store.put_side("deepseek_v4_c4", keys[:3], range(3))
    v4 = store.sglang.transfer("deepseek_v4_c4")
    assert store.exists_v2(keys, v4).kv_hit_pages == 3


def test_a_pool_that_cannot_be_stored_misses_and_says_so_once(
    attach: Attach, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        store = attach(pools.mxfp8(), {"swa": pools.swa()})
        keys = page_hashes(3)
        for _ in range(5):
            assert store.set(keys, range(3)) == [False] * 3
            assert store.get(keys, range(3)) == [False] * 3
            assert store.exists(keys) == 0
    assert store.put_side("swa", keys, range(3)) == [True] * 3
    about = [r for r in caplog.records if r.name.startswith("peercache")]
    assert 1 <= len(about) <= 3, [r.getMessage() for r in about]


@pytest.mark.parametrize("form", ["tensor", "tuple", "list", "with an empty one", "none"])
def test_buffers_come_in_every_form(attach: Attach, form: str) -> None:
    kv = pools.mha()
    whole = TensorDouble(kv.buffers[0], kv.dtype)
    kv.kv_buffer = {
        "tensor": whole,
        "tuple": (whole, whole),
        "list": [whole],
        "with an empty one": [empty_tensor(kv.dtype), whole],
        "none": None,
    }[form]
    store = attach(kv)
    keys = page_hashes(2)
    assert all(store.put(keys, [0, 1])) and store.fetch(keys, [2, 3]) == 2


def test_registration_may_repeat_and_come_late(attach: Attach) -> None:
    store = attach()
    keys = page_hashes(3)
    store.put(keys, range(3))
    store.register("kv", store.kv)
    store.register("swa", pools.swa())
    store.register("swa", store.pools["swa"])
    store.store.register_mem_pool_host(store.kv)
    assert store.fetch(keys, range(3, 6)) == 3
    assert store.put_side("swa", keys, range(3)) == [True] * 3
    assert store.get_side("swa", keys, range(3, 6)) == [True] * 3


def test_pools_that_share_their_memory_stay_apart(attach: Attach) -> None:
    kv, twin = pools.mha(), pools.mha("draft")
    twin.buffers, twin.kv_buffer = kv.buffers, kv.kv_buffer
    store = attach(kv, {"draft": twin})
    keys = page_hashes(3)
    assert all(store.put(keys, range(3)))
    assert all(store.put_side("draft", keys, range(3)))
    assert store.fetch(keys, range(3, 6)) == 3
    assert all(store.get_side("draft", keys, range(6, 9)))
    twin.check(range(6, 9), keys)


def test_a_pool_that_changes_its_pieces_misses(attach: Attach) -> None:
    """Sizes are checked against the probe on every call."""
    store = attach(pools.scattered())
    keys = page_hashes(2)
    store.put(keys, [0, 1])
    store.kv.pieces = [
        pools.Piece(p.buffer, p.offset, p.stride, p.size // 2) for p in store.kv.pieces
    ]
    assert store.get(keys, [4, 5]) == [False, False]
    assert store.set(page_hashes(2, "new"), [0, 1]) == [False, False]
    assert store.kv.is_poisoned([4, 5])


def test_calls_before_any_registration_are_neutral(attach: Attach) -> None:
    store = attach()
    fresh = store.sglang.create_backend(
        {"backend_name": "peercache", "module_path": "peercache.store"}
        | {"class_name": "PeerCacheStore", "metrics_enabled": "false", "disk_enabled": "false"}
    )
    store.store, first = fresh, store.store
    try:
        keys = page_hashes(2)
        assert store.set(keys, [0, 1]) == [False, False]
        assert store.get(keys, [0, 1]) == [False, False]
        assert store.exists(keys) == 0
        assert store.get_v2(store.transfer("kv", keys, [0, 1]))["kv"] == [False, False]
    finally:
        fresh.close()
        store.store = first
