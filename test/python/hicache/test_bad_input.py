"""What a future SGLang may send: neutral answers, a line in the log, no exception."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, Callable

import pytest

from hicache import pools
from hicache.content import page_hashes
from hicache.controller import Controller, bools
from hicache.tensors import IndicesDouble, token_indices

Attach = Callable[..., Controller]
KEYS = page_hashes(4)
# Settings for a store that is made without a config.
SMALL = {"GLOBAL_SEGMENT_SIZE": "4mb", "DISK_ENABLED": "false", "METRICS_ENABLED": "false"}


@pytest.fixture
def store(attach: Attach) -> Controller:
    store = attach(sides={"swa": pools.swa()})
    assert all(store.put(KEYS, range(4)))
    assert all(store.put_side("swa", KEYS, range(4)))
    return store


class Hostile:
    """Raises whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"nothing here is called {name}")

    def __len__(self) -> int:
        raise RuntimeError("no length")


def kind(bad: Any) -> str:
    return type(bad).__name__


BAD_INDICES = {
    "none": None,
    "empty": IndicesDouble([]),
    "one token short": IndicesDouble(range(15)),
    "one token": IndicesDouble([0]),
    "a page short": token_indices([0, 1, 2], 4),
    "outside of the pool": token_indices([0, 1, 2, 10_000_000], 4),
    "negative": IndicesDouble([-4 + i for i in range(16)]),
    "text": "0123456789abcdef",
    "an object": object(),
    "a hostile object": Hostile(),
}


@pytest.mark.parametrize("verb", ["batch_get_v1", "batch_set_v1"])
@pytest.mark.parametrize("bad", BAD_INDICES)
def test_bad_indices_are_misses(store: Controller, verb: str, bad: str) -> None:
    """Shorter ones may move what they name; nothing beyond is True."""
    store.kv.poison(range(8, 24))
    answer = bools(getattr(store.store, verb)(page_hashes(4, "new"), BAD_INDICES[bad]), 4)
    if bad != "a page short":
        assert answer == [False] * 4
    assert answer[3] is False
    assert store.kv.is_poisoned(range(8, 24))
    assert store.fetch(KEYS, range(8, 12)) == 4


def test_longer_indices_move_the_common_length(store: Controller) -> None:
    """Old releases leave more tokens than keys after a shortened hit."""
    swa = store.pools["swa"]
    swa.poison(range(8, 14))
    answer = store.get_v2(store.transfer("swa", KEYS, range(8, 14)))["swa"]
    swa.check([8 + i for i in range(sum(answer))], KEYS)
    assert swa.is_poisoned([12, 13])


def test_shorter_keys_of_a_trailing_pool_are_served(store: Controller) -> None:
    swa = store.pools["swa"]
    swa.poison([9])
    transfer = store.transfer("swa", KEYS[3:], [9], hit_policy="trailing_pages")
    assert store.get_v2(transfer) == {"swa": [True]}
    swa.check([9], KEYS[3:])


BAD_TRANSFERS: dict[str, dict[str, Any]] = {
    "no indices": {"keys": KEYS, "host_indices": None},
    "indivisible": {"keys": KEYS, "host_indices": IndicesDouble(range(13))},
    "a hostile object": {"keys": KEYS, "host_indices": Hostile()},
    "empty": {"keys": [], "host_indices": IndicesDouble([])},
    "nothing": {"keys": None, "host_indices": None},
}


@pytest.mark.parametrize("verb", ["get_v2", "set_v2"])
@pytest.mark.parametrize("bad", BAD_TRANSFERS)
def test_a_bad_transfer_costs_only_itself(store: Controller, verb: str, bad: str) -> None:
    wrong = store.sglang.transfer("swa", **BAD_TRANSFERS[bad])
    good = store.transfer("kv", KEYS, range(8, 12))
    if verb == "set_v2":
        store.kv.fill(range(8, 12), KEYS)
    answer = getattr(store, verb)(wrong, good)
    n = len(BAD_TRANSFERS[bad]["keys"] or [])
    assert answer["kv"] == [True] * 4 and answer["swa"] == [False] * n
    store.kv.check(range(8, 12), KEYS)


def test_an_unknown_pool_misses_and_the_others_do_not(store: Controller) -> None:
    unknown = store.sglang.transfer("no pool", keys=KEYS, host_indices=token_indices([0], 4))
    good = store.transfer("swa", KEYS, range(8, 12))
    answer = store.get_v2(unknown, good)
    assert answer == {"no pool": [False] * 4, "swa": [True] * 4}


def test_a_transfer_without_the_fields_we_know_is_survived(store: Controller) -> None:
    renamed = SimpleNamespace(pool="swa", page_keys=KEYS, slots=[0])
    nameless = SimpleNamespace(keys=KEYS, host_indices=token_indices([0, 1, 2, 3], 4))
    for transfers in ([renamed], [nameless], [None], [3], None, 7, Hostile()):
        for verb in ("batch_get_v2", "batch_set_v2"):
            answer = getattr(store.store, verb)(transfers)
            assert type(answer) is dict
            assert not any(any(hits) for hits in answer.values())


BAD_KEYS: dict[str, Any] = {
    "none": None,
    "a number": 7,
    "a list of none": [None, None],
    "a list of numbers": [1, 2],
    "a hostile object": Hostile(),
    "a surrogate": ["\udc80", KEYS[0]],
}


@pytest.mark.parametrize("bad", BAD_KEYS)
def test_bad_keys_get_neutral_answers(store: Controller, bad: str) -> None:
    keys = BAD_KEYS[bad]
    n = len(keys) if isinstance(keys, list) else 0
    indices = token_indices(list(range(8, 8 + n)), 4)
    assert store.store.batch_exists(keys) == 0
    assert bools(store.store.batch_get_v1(keys, indices), n) == [False] * n
    answer = bools(store.store.batch_set_v1(keys, indices), n)
    assert answer == [False] * n or bad == "a surrogate"
    assert store.store.batch_exists_v2(keys, []).kv_hit_pages == 0
    assert store.store.batch_get(keys, [None] * n) == [None] * n
    assert store.store.batch_set(keys, [None] * n) is False
    assert store.fetch(KEYS, range(8, 12)) == 4


@pytest.mark.parametrize("bad", [None, 3, "text", Hostile(), [object()], [None]], ids=kind)
def test_bad_values_and_targets_get_neutral_answers(store: Controller, bad: Any) -> None:
    api = store.store
    assert api.set("a", bad if not isinstance(bad, (str, int)) else object()) is False
    assert api.batch_set(["a"], bad) is False
    if bad is not None:
        assert api.batch_get(KEYS[:1], bad) == [None]
    assert api.batch_set(["a", "b"], [b"one"]) is False
    assert api.batch_get(KEYS[:2], [bytearray(9)]) == [None, None]
    assert api.set(None, b"x") is False
    assert api.get(None, bytearray(3)) is None
    assert api.exists(None) is False


def test_a_target_that_cannot_be_written_is_a_miss(store: Controller) -> None:
    store.store.set("a", b"value")
    assert store.store.get("a", b"12345") is None


def test_arguments_of_the_future_are_ignored(
    store: Controller, caplog: pytest.LogCaptureFixture
) -> None:
    api = store.store
    indices = token_indices([8, 9, 10, 11], 4)
    swa = store.sglang.transfer("swa")
    for _ in range(3):
        assert api.batch_exists(KEYS, None, priority=3) == 4
        assert api.batch_exists(KEYS, None, "one more") == 4
        assert api.batch_get_v1(KEYS, indices, None, stream=object()) == [True] * 4
        assert api.batch_set_v1(KEYS, indices, extra_info=None, ttl=3) == [True] * 4
        assert api.batch_exists_v2(KEYS, [swa], None, deadline=1.0).kv_hit_pages == 4
        api.register_mem_pool_host(store.kv, numa_node=0)
        api.register_mem_host_pool_v2(store.kv, "kv", device="cuda:0")
        api.on_host_pools_registered("all of them")
    about = [r for r in caplog.records if "argument" in r.getMessage()]
    assert len(about) <= 9, [r.getMessage() for r in about]


def test_extra_info_may_be_anything(store: Controller) -> None:
    info = store.sglang.types.HiCacheStorageExtraInfo
    strange = [(None,), info((None,)), info(KEYS), info(7), object(), {"hint": 1}, Hostile()]
    for value in strange:
        assert store.store.batch_exists(KEYS, value) == 4
        assert store.get_v2(store.transfer("swa", KEYS, range(4)))["swa"] == [True] * 4


@pytest.mark.parametrize("bad", [None, 3, Hostile(), SimpleNamespace()], ids=kind)
def test_a_bad_pool_is_unsupported(store: Controller, bad: Any) -> None:
    store.store.register_mem_host_pool_v2(bad, "strange")
    store.pools["strange"] = pools.swa()
    assert store.get_side("strange", KEYS, range(4)) == [False] * 4
    assert store.put_side("strange", KEYS, range(4)) == [False] * 4
    store.store.register_mem_host_pool_v2(pools.swa(), None)
    assert store.fetch(KEYS, range(8, 12)) == 4


def test_a_pool_that_fails_in_a_call_costs_that_call(store: Controller) -> None:
    def fails(slot: int, j: int) -> Any:
        raise MemoryError("the pool is gone")

    scattered = pools.scattered()
    store.register("a pool of the year 2030", scattered)
    keys = page_hashes(3, "other")
    assert all(store.put_side("a pool of the year 2030", keys, range(3)))
    scattered.view = fails  # type: ignore[method-assign]
    assert store.get_side("a pool of the year 2030", keys, range(3)) == [False] * 3
    assert store.fetch(KEYS, range(8, 12)) == 4


def test_repeated_violations_do_not_fill_the_log(
    store: Controller, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(200):
            store.store.batch_get_v1(KEYS, Hostile())
    ours = [r for r in caplog.records if r.name.startswith("peercache")]
    assert 1 <= len(ours) <= 5, len(ours)


def test_a_config_without_anything_is_survived(
    store: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SMALL.items():
        monkeypatch.setenv(f"PEERCACHE_{name}", value)
    cls = type(store.store)
    for config in (None, 7, SimpleNamespace(), SimpleNamespace(extra_config=None)):
        other = cls(config, {})
        assert other.batch_exists(KEYS) == 0
        other.close()
