"""Every entry point, on every release that we name."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import pytest

from hicache import pools
from hicache.content import content, page_hash, page_hashes
from hicache.controller import Controller
from hicache.fake_sglang import FakeSGLang
from hicache.tensors import UINT8, TensorDouble
from hicache.versions import BY_NAME, VERSIONS, WITH_V2

Attach = Callable[..., Controller]
# Settings for a store that is made without a config.
SMALL = {"GLOBAL_SEGMENT_SIZE": "4mb", "DISK_ENABLED": "false", "METRICS_ENABLED": "false"}
every_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name, indirect=True)
every_v2_version = pytest.mark.parametrize("version", WITH_V2, ids=lambda v: v.name, indirect=True)
with_drafts = pytest.mark.parametrize(
    "version", [BY_NAME["0.5.12"], BY_NAME["0.5.16"]], ids=lambda v: v.name, indirect=True
)


def tensor(key: str, size: int) -> TensorDouble:
    return TensorDouble(content("tensor", key, 0, size).copy(), UINT8)


def blank(size: int) -> TensorDouble:
    return TensorDouble(np.full(size, 0xEE, np.uint8), UINT8)


@every_version
def test_v1_pages_come_back_byte_by_byte(attach: Attach) -> None:
    store = attach()
    keys = page_hashes(6)
    assert store.exists(keys) == 0
    assert store.put(keys, [3, 1, 4, 0, 5, 9]) == [True] * 6
    assert store.exists(keys) == 6
    assert store.fetch(keys, [12, 20, 11, 2, 17, 6]) == 6
    assert store.kv.is_poisoned(store.kv.others([3, 1, 4, 0, 5, 9, 12, 20, 11, 2, 17, 6]))


@every_version
def test_the_generic_path_moves_the_same_pages(attach: Attach) -> None:
    store = attach(v1=False)
    keys = page_hashes(4)
    store.kv.fill(range(4), keys)
    assert store.set_pages(keys, range(4)) is True
    assert store.exists(keys) == 4
    store.kv.poison(range(4, 8))
    assert store.get_pages(keys, range(4, 8)) == 4
    store.kv.check(range(4, 8), keys)


@every_version
def test_single_values_come_back(attach: Attach) -> None:
    store = attach().store
    value, target = tensor("a", 384), blank(384)
    assert store.exists("a") is False
    assert store.get("a", target) is None
    assert store.set("a", value) is True
    assert store.exists("a") is True
    assert store.get("a", target) is target
    assert np.array_equal(target.memory, value.memory)


@every_version
def test_a_generic_get_answers_none_for_each_missing_key(attach: Attach) -> None:
    store = attach()
    values = [tensor(key, 96) for key in "ac"]
    assert store.set_generic(["a", "c"], values) is True
    targets = [blank(96) for _ in "abc"]
    assert store.get_generic(["a", "b", "c"], targets) == [True, False, True]
    assert bytes(targets[2].memory) == bytes(values[1].memory)


@every_version
def test_clear_drops_what_was_stored(attach: Attach) -> None:
    store = attach()
    keys = page_hashes(5)
    assert all(store.put(keys, range(5)))
    assert store.store.clear() is None
    assert store.exists(keys) == 0
    assert store.fetch(keys, range(5)) == 0
    assert all(store.put(keys, range(5))) and store.exists(keys) == 5


@every_version
def test_close_may_come_twice_and_calls_after_it_are_neutral(attach: Attach) -> None:
    store = attach()
    keys = page_hashes(3)
    store.put(keys, range(3))
    store.close()
    store.close()
    assert store.exists(keys) == 0
    assert store.get(keys, range(3)) == [False] * 3
    assert store.set(keys, range(3)) == [False] * 3
    assert store.set_generic(keys, [tensor(key, 64) for key in keys]) is False
    assert store.get_generic(keys, [blank(64) for _ in keys]) == [False] * 3
    assert store.store.clear() is None
    store.stats()


@every_v2_version
def test_v2_calls_after_close_are_neutral(attach: Attach) -> None:
    store = attach(sides={"swa": pools.swa()})
    keys = page_hashes(3)
    store.close()
    assert store.put_side("swa", keys, range(3)) == [False] * 3
    assert store.get_side("swa", keys, range(3)) == [False] * 3
    swa = store.sglang.transfer("swa")
    assert store.exists_v2(keys, swa).kv_hit_pages == 0


@every_v2_version
def test_a_side_pool_keeps_its_own_pages(attach: Attach) -> None:
    store = attach(sides={"swa": pools.swa(), "mamba": pools.mamba()})
    keys = page_hashes(4)
    assert store.put_side("swa", keys, range(4)) == [True] * 4
    assert store.put_side("mamba", keys[3:], [7]) == [True]
    assert all(store.put(keys, range(4)))
    store.pools["swa"].poison(range(4, 8))
    store.pools["mamba"].poison([2])
    answer = store.get_v2(
        store.transfer("swa", keys, range(4, 8)), store.transfer("mamba", keys[3:], [2])
    )
    assert answer == {"swa": [True] * 4, "mamba": [True]}
    store.pools["swa"].check(range(4, 8), keys)
    store.pools["mamba"].check([2], keys[3:])
    assert store.fetch(keys, range(8, 12)) == 4


@every_v2_version
def test_a_pool_group_is_unwrapped(attach: Attach) -> None:
    store = attach(as_group=True)
    keys = page_hashes(2)
    assert store.put(keys, [0, 1]) == [True, True]
    assert store.fetch(keys, [5, 6]) == 2


@with_drafts
@pytest.mark.parametrize("kind", ["mha", "anchor"])
@pytest.mark.parametrize("v1", [True, False])
def test_draft_keys_exist_where_a_get_finds_them(attach: Attach, kind: str, v1: bool) -> None:
    """Whatever the KV pool is: that one holds no data says nothing of drafts."""
    store = attach(getattr(pools, kind)(), v1=v1)
    drafts = [store.version.draft_key.format(key) for key in page_hashes(3)]
    assert store.exists(drafts) == 0
    assert store.store.exists(drafts[0]) is False
    assert store.set_generic(drafts[:2], [tensor(key, 192) for key in drafts[:2]]) is True
    assert store.exists(drafts) == 2
    assert store.store.exists(drafts[0]) is True


@with_drafts
def test_draft_keys_of_the_generic_path_mix_with_v1_pages(attach: Attach) -> None:
    store = attach()
    keys = page_hashes(3)
    drafts = [store.version.draft_key.format(key) for key in keys]
    values = [tensor(key, 192) for key in drafts]
    assert all(store.put(keys, range(3)))
    assert store.set_generic(drafts, values) is True
    targets = [blank(192) for _ in drafts]
    assert store.get_generic(drafts, targets) == [True] * 3
    assert all(np.array_equal(t.memory, v.memory) for t, v in zip(targets, values))
    assert store.fetch(keys, range(3, 6)) == 3
    assert store.exists(keys) == 3


def test_borrowed_values_may_change_after_the_call(attach: Attach) -> None:
    store = attach()
    keys = page_hashes(4)
    store.put(keys, range(4))
    value = tensor("a", 256)
    before = value.memory.copy()
    store.set_generic(["a"], [value])
    store.kv.poison(range(4))
    value.memory[:] = 0
    target = blank(256)
    assert store.get_generic(["a"], [target]) == [True]
    assert np.array_equal(target.memory, before)
    assert store.fetch(keys, range(4)) == 4


@pytest.mark.parametrize("kind", ["bytearray", "memoryview", "numpy"])
def test_other_kinds_of_values_and_targets_work(attach: Attach, kind: str) -> None:
    kinds: dict[str, Callable[[bytes], Any]] = {
        "bytearray": bytearray,
        "memoryview": lambda data: memoryview(bytearray(data)),
        "numpy": lambda data: np.frombuffer(bytearray(data), np.uint8),
    }
    store = attach().store
    value, target = kinds[kind](b"x" * 100), kinds[kind](bytes(100))
    assert store.set("a", value) is True
    assert store.get("a", target) is target
    assert bytes(target) == b"x" * 100


def test_get_without_a_target_gives_the_value(attach: Attach) -> None:
    store = attach().store
    store.set("a", b"value")
    assert bytes(store.get("a")) == b"value"
    assert store.get("b") is None


def test_a_target_of_another_length_is_a_miss(attach: Attach) -> None:
    store = attach()
    store.set_generic(["a"], [tensor("a", 128)])
    for size in (64, 127, 129, 256):
        target = blank(size)
        assert store.get_generic(["a"], [target]) == [False]


def test_what_is_present_is_answered_true_again(attach: Attach) -> None:
    store = attach()
    keys = page_hashes(4)
    for _ in range(3):
        assert store.put(keys, range(4)) == [True] * 4


def test_a_set_of_another_length_is_stored_beside(attach: Attach) -> None:
    store = attach()
    assert store.set_generic(["a"], [tensor("short", 64)]) is True
    assert store.set_generic(["a"], [tensor("long", 640)]) is True
    target = blank(640)
    assert store.get_generic(["a"], [target]) == [True]
    assert np.array_equal(target.memory, tensor("long", 640).memory)


def test_a_full_pool_evicts_and_still_says_true(attach: Attach) -> None:
    kv = pools.mha(layers=8, heads=8, dim=64, page_size=16)
    store = attach(kv, extra={"global_segment_size": "8mb", "region_size": "4mb"})
    n = 3 * (8 << 20) // kv.page_bytes
    for i in range(0, n, 4):
        keys = page_hashes(n)[i : i + 4]
        assert store.put(keys, range(len(keys))) == [True] * len(keys)
    assert store.fetch(page_hashes(n)[-1:], [7]) == 1


def test_pages_nobody_asked_about_are_got_without_exists(attach: Attach) -> None:
    writer, reader = attach(), attach()
    keys = page_hashes(8)
    assert all(writer.put(keys, range(8)))
    assert reader.fetch(keys, range(8, 16)) == 8


def test_a_get_stops_at_the_first_missing_page(attach: Attach) -> None:
    store = attach()
    keys = page_hashes(6)
    store.put(keys[:2] + keys[3:], range(5))
    store.kv.poison(range(12))
    assert store.get(keys, range(6, 12)) == [True, True, False, False, False, False]
    store.kv.check([6, 7], keys)
    assert store.exists(keys) == 2


def test_indices_may_be_numpy_arrays(attach: Attach) -> None:
    store = attach()
    keys = page_hashes(3)
    store.kv.fill(range(3), keys)
    indices = np.arange(3 * store.kv.page_size, dtype=np.int64)
    assert store.store.batch_set_v1(keys, indices) == [True] * 3
    store.kv.poison(range(3))
    assert store.store.batch_get_v1(keys, indices, None) == [True] * 3
    store.kv.check(range(3), keys)


def test_keys_are_opaque(attach: Attach) -> None:
    store = attach()
    keys = ["d:" + page_hash(0), page_hash(0) + ".draft", "ключ", " ", "a" * 700, "0xZZ"]
    assert store.put(keys, range(6)) == [True] * 6
    assert store.fetch(keys, range(6, 12)) == 6


def test_the_injectors_wrapper_reaches_close(attach: Attach) -> None:
    """It knows the methods of the base class only, and looks for close without asking."""
    store = attach()
    assert callable(getattr(store.store, "close", None))
    base = store.sglang.types.HiCacheStorage
    assert isinstance(store.store, base)
    for name in (name for name in dir(base) if not name.startswith("_")):
        if callable(getattr(base, name)):
            assert callable(getattr(store.store, name)), name


@every_version
def test_both_constructor_arguments_are_optional(
    sglang: FakeSGLang, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peercache.store import PeerCacheStore

    for name, value in SMALL.items():
        monkeypatch.setenv(f"PEERCACHE_{name}", value)
    assert issubclass(PeerCacheStore, sglang.types.HiCacheStorage)
    assert not getattr(PeerCacheStore, "__abstractmethods__", None)
    arguments: list[tuple[Any, ...]] = [
        (),
        (sglang.config(),),
        (None, None),
        (sglang.config(extra_config={}), "x"),
    ]
    for args in arguments:
        store = PeerCacheStore(*args)
        assert store.batch_exists(["a"]) == 0
        store.close()
