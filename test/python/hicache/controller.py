"""Attaches a store and calls it as SGLang's controllers do; strict about answers.

An answer that SGLang would misread is an error here: a list of another length,
a value that is no bool, a transfer that is missing, a count out of range, a call
that takes too long.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

import numpy as np
from conftest import wait_until

import peercache
from hicache.fake_sglang import FACTORY_KEYS, FakeSGLang
from hicache.pools import PoolDouble, group_of
from hicache.tensors import TensorDouble, token_indices

# Seconds: what the contract allows (0.5, 2, 5), and more for a machine whose two
# cores have ten threads to run.
AT_ONCE_S = 3.0
EXISTS_S = 3.0
TRANSFER_S = 6.0
CLOSE_S = 8.0
BATCH = 128


@contextlib.contextmanager
def within(seconds: float, what: str) -> Iterator[None]:
    """The body takes no longer than so."""
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    assert took <= seconds, f"{what} took {took:.2f} s of {seconds} s"


def bools(answer: Any, n: int) -> list[bool]:
    assert type(answer) is list, f"no list: {answer!r}"
    assert len(answer) == n, f"{len(answer)} answers for {n} keys"
    assert all(type(value) is bool for value in answer), f"not bools only: {answer[:8]}"
    return answer


def is_leading_run(answer: list[bool]) -> bool:
    return answer == sorted(answer, reverse=True)


class Controller:
    """One attached store with its host pools.

    `pools` maps names to pool doubles; "kv" is the KV pool. Page slots are pages
    of the host pool, not tokens.
    """

    def __init__(
        self,
        sglang: FakeSGLang,
        pools: Mapping[str, PoolDouble],
        extra: Mapping[str, Any],
        *,
        v1: bool = True,
        as_group: bool = False,
        **config: Any,
    ) -> None:
        self.sglang = sglang
        self.version = sglang.version
        self.pools = dict(pools)
        self.v1 = v1
        self.kv = self.pools["kv"]
        user = {**FACTORY_KEYS, **extra}
        if v1:
            user.setdefault("interface_v1", 1)
        config.setdefault("is_page_first_layout", self.kv.layout == "page_first")
        with within(AT_ONCE_S, "the constructor"):
            self.store: Any = sglang.create_backend(user, **config)
        with within(AT_ONCE_S, "registration"):
            self._register(as_group)

    def _register(self, as_group: bool) -> None:
        self.store.register_mem_pool_host(group_of(self.kv) if as_group else self.kv)
        if self.version.has_v2:
            for name, pool in self.pools.items():
                self.register(name, pool)
        if self.version.tells_registered:
            self.store.on_host_pools_registered()

    def register(self, name: str, pool: PoolDouble) -> None:
        self.pools[name] = pool
        member = self.sglang.transfer(name).name
        self.store.register_mem_host_pool_v2(pool, member)

    def wait_for_pool(self) -> None:
        """Until all of the node's memory is there. What is put before evicts what
        was put first as soon as the part that is there is full."""
        node: peercache.Node = self.store._node
        wait_until(lambda: not node.stats()["info"]["pool"]["registering"], "the whole pool")

    def close(self) -> None:
        with within(CLOSE_S, "close"):
            self.store.close()

    def _info(self) -> Any:
        prefix = (None,) if self.version.none_prefix_tuple else None
        return self.sglang.types.HiCacheStorageExtraInfo(prefix_keys=prefix)

    def _v2_info(self) -> dict[str, Any]:
        return {"extra_info": self._info()} if self.version.passes_extra_info_to_v2 else {}

    # v1: the KV pool by indices.

    def exists(self, keys: Sequence[str]) -> int:
        with within(EXISTS_S, "batch_exists"):
            answer = self.store.batch_exists(list(keys), self._info())
        assert type(answer) is int and 0 <= answer <= len(keys), repr(answer)
        return answer

    def set(self, keys: Sequence[str], slots: Sequence[int]) -> list[bool]:
        indices = token_indices(list(slots), self.kv.page_size)
        with within(TRANSFER_S, "batch_set_v1"):
            answer = self.store.batch_set_v1(list(keys), indices, self._info())
        return bools(answer, len(keys))

    def get(self, keys: Sequence[str], slots: Sequence[int]) -> list[bool]:
        indices = token_indices(list(slots), self.kv.page_size)
        with within(TRANSFER_S, "batch_get_v1"):
            answer = bools(self.store.batch_get_v1(list(keys), indices, self._info()), len(keys))
        assert is_leading_run(answer), f"not monotone: {answer}"
        return answer

    # Generic: flat pages in tensors.

    def set_generic(self, keys: Sequence[str], values: Sequence[Any]) -> bool:
        with within(TRANSFER_S, "batch_set"):
            answer = self.store.batch_set(list(keys), list(values))
        assert type(answer) is bool
        return answer

    def get_generic(self, keys: Sequence[str], targets: Sequence[Any]) -> list[bool]:
        with within(TRANSFER_S, "batch_get"):
            answer = self.store.batch_get(list(keys), list(targets))
        assert type(answer) is list and len(answer) == len(keys)
        for value, target in zip(answer, targets):
            assert value is None or value is target
        return [value is not None for value in answer]

    def set_pages(self, keys: Sequence[str], slots: Sequence[int]) -> bool:
        """The KV pool on the generic path."""
        size = self.kv.page_size
        return self.set_generic(keys, [self.kv.get_data_page(s * size) for s in slots])

    def get_pages(self, keys: Sequence[str], slots: Sequence[int]) -> int:
        """Generic; pages up to the first miss go to the pool. How many those were."""
        targets = [flat_target(self.kv) for _ in slots]
        hits = self.get_generic(keys, targets)
        n = (hits + [False]).index(False)
        for slot, target in zip(slots[:n], targets):
            self.kv.set_from_flat_data_page(slot * self.kv.page_size, target)
        return n

    # v2: any pool.

    def transfer(
        self, name: str, keys: Optional[Sequence[str]], slots: Sequence[int], **more: Any
    ) -> Any:
        indices = token_indices(list(slots), self.pools[name].page_size)
        listed = None if keys is None else list(keys)
        return self.sglang.transfer(name, keys=listed, host_indices=indices, **more)

    def _v2(self, verb: str, transfers: Sequence[Any]) -> dict[Any, list[bool]]:
        with within(TRANSFER_S, verb):
            answer = getattr(self.store, verb)(list(transfers), **self._v2_info())
        assert type(answer) is dict
        for t in transfers:
            assert t.name in answer, f"{t.name} is not answered"
            bools(answer[t.name], len(t.keys) if t.keys is not None else 0)
        assert len(answer) == len(transfers), f"names nobody asked for: {answer.keys()}"
        return answer

    def set_v2(self, *transfers: Any) -> dict[Any, list[bool]]:
        return self._v2("batch_set_v2", transfers)

    def get_v2(self, *transfers: Any) -> dict[Any, list[bool]]:
        answer = self._v2("batch_get_v2", transfers)
        for name, hits in answer.items():
            assert is_leading_run(hits), f"{name} is not monotone: {hits}"
        return answer

    def put_side(self, name: str, keys: Sequence[str], slots: Sequence[int]) -> list[bool]:
        """Fill and store pages of one side pool."""
        self.pools[name].fill(slots, keys)
        return self.set_v2(self.transfer(name, keys, slots))[name]

    def get_side(self, name: str, keys: Sequence[str], slots: Sequence[int]) -> list[bool]:
        return self.get_v2(self.transfer(name, keys, slots))[name]

    def exists_v2(self, keys: Sequence[str], *transfers: Any) -> Any:
        with within(EXISTS_S, "batch_exists_v2"):
            answer = self.store.batch_exists_v2(list(keys), list(transfers), **self._v2_info())
        assert type(answer) is self.sglang.types.PoolTransferResult
        assert type(answer.kv_hit_pages) is int and 0 <= answer.kv_hit_pages <= len(keys)
        counts = answer.extra_pool_hit_pages
        assert type(counts) is dict and all(type(n) is int for n in counts.values())
        if self.version.has_restorable:
            ends = answer.restorable_prefix_pages
            assert type(ends) is list and ends == sorted(set(ends))
            assert answer.kv_hit_pages == max(ends, default=0)
        return answer

    # Whole steps.

    def put(self, keys: Sequence[str], slots: Sequence[int]) -> list[bool]:
        """Fill and store KV pages."""
        self.kv.fill(slots, keys)
        return self.set(keys, slots)

    def fetch(self, keys: Sequence[str], slots: Sequence[int]) -> int:
        """Get KV pages into poisoned slots, check every byte; how many came."""
        self.kv.poison(slots)
        hits = self.get(keys, slots)
        n = sum(hits)
        self.kv.check(slots[:n], keys)
        return n

    def stats(self) -> Any:
        with within(AT_ONCE_S, "get_stats"):
            return self.store.get_stats()


def flat_target(pool: PoolDouble) -> TensorDouble:
    return TensorDouble(np.full(pool.page_bytes, 0xEE, np.uint8), pool.dtype)
