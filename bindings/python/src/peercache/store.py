"""PeerCache as the storage behind SGLang's HiCache.

    --hicache-storage-backend dynamic
    --hicache-storage-backend-extra-config '{"backend_name": "peercache",
        "module_path": "peercache.store", "class_name": "PeerCacheStore",
        "interface_v1": 1, "discovery_addr": "127.0.0.1:31998"}'

SGLang makes one PeerCacheStore in each scheduler process and calls it from four
threads. Whatever goes wrong is a miss: no method raises but the constructor.
"""

from __future__ import annotations

import json
import logging
import threading
from typing import Any, Optional

from peercache.errors import ConfigError, Status
from peercache.hicache import metrics, namespace, pools, prefix, types
from peercache.hicache.buffers import Buffers
from peercache.hicache.config import (
    OP_TIMEOUT_MAX_S,
    PeerCacheConfig,
    claim_node_id,
    node_settings,
    start_node,
)
from peercache.hicache.generic import Generic, is_draft
from peercache.hicache.guard import (
    Journal,
    all_false,
    all_none,
    all_transfers_false,
    guarded,
    no_pages,
    no_text,
    nothing,
    refused,
)
from peercache.hicache.instance import extra_of, instance_of
from peercache.hicache.numbers import Numbers
from peercache.hicache.pools import HostPool
from peercache.hicache.queries import Side, misses_of
from peercache.hicache.traffic import Group, Traffic, seconds
from peercache.hicache.transfers import Transfers

__all__ = ["PeerCacheConfig", "PeerCacheStore"]

log = logging.getLogger("peercache.store")

_REGISTER_END_S = 2.0  # Of the 5 s of close.
_CLEAR_TIMEOUT_S = 2.0


def _no_query(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    return types.query_result(0, {}, [])


class PeerCacheStore(types.HiCacheStorage):
    """A node of a PeerCache cluster with the entry points of a HiCache backend.

    PeerCacheStore(config) takes SGLang's HiCacheStorageConfig; without one it is a
    node with the settings of the environment. It does not wait for other nodes.

    Raises ConfigError with every reason if the extra configuration is wrong,
    PeerCacheError if the node cannot start. Keys are page hashes, 64 hex digits;
    host_indices are token slots, page_size per key, int64 on the host.
    """

    def __init__(self, config: Any = None, kwargs: Any = None, *_more: Any) -> None:
        self._journal = Journal()
        self._instance = instance_of(config)
        try:
            extra = extra_of(config)
        except ValueError as error:
            raise ConfigError(str(error), Status.INVALID) from error
        settings = node_settings(extra, self._instance)
        # As SGLang reads it, which takes any text for true: it chooses the calls.
        self._interface_v1 = bool(extra.get("interface_v1", 0))
        self._lock = threading.Lock()
        self._pools: dict[str, HostPool] = {}  # Replaced as a whole, never changed.
        self._closed = False
        self._attached = False
        self.mem_pool_host: Any = None
        self._numbers = Numbers(types.metrics_type() if self._instance.metrics else None)
        self._claim = claim_node_id(settings)
        try:
            self._node = start_node(settings)
            self._start()
        except BaseException:
            self._give_up()
            raise
        self._warn_of(extra)

    def _give_up(self) -> None:
        node = getattr(self, "_node", None)
        if node is not None:
            node.close()
        if self._claim is not None:
            self._claim.close()

    def _start(self) -> None:
        self._info = json.loads(self._node.info_text())
        # In effect: it may come from the environment.
        self._prefix = str(self._setting("prefix") or "")
        self._traffic = Traffic(self._node, self._op_timeout(), self._journal)
        self._buffers = Buffers(self._node, self._journal)
        self._transfers = Transfers(self._traffic, self._numbers, self._journal)
        self._generic = Generic(self._node, self._traffic, self._numbers)
        self._generic.set_namespaces(*self._generic_namespaces(None))

    def _op_timeout(self) -> float:
        found = seconds(self._setting("op_timeout"))
        return OP_TIMEOUT_MAX_S if found is None else min(found, OP_TIMEOUT_MAX_S)

    def _setting(self, name: str) -> Any:
        """A setting in effect."""
        found = self._info.get("settings", {}).get(name)
        return found.get("value") if isinstance(found, dict) else found

    def _warn_of(self, extra: dict[str, Any]) -> None:
        if not self._interface_v1:
            log.warning(
                'extra config has no "interface_v1": 1: pages take the generic path, with one '
                "more copy each"
            )
        if self._instance.model is None:
            log.warning(
                "SGLang tells no model name (--served-model-name): other models of this "
                "cluster are kept apart only by the setting prefix"
            )
        if not self._setting("discovery_addr"):
            log.warning("no discovery_addr: this node stays alone, nothing is shared")

    # ---- Host pools ----------------------------------------------------

    @guarded(nothing)
    def register_mem_pool_host(self, mem_pool_host: Any, *_more: Any, **_named: Any) -> None:
        """The KV host pool, or a group of pools that has it as its anchor."""
        if not self._closed:
            self.mem_pool_host = mem_pool_host
        self._register("kv", mem_pool_host)
        if not types.base_has("on_host_pools_registered"):
            self._say_attached()

    @guarded(nothing)
    def register_mem_host_pool_v2(self, host_pool: Any, host_pool_name: Any, *_more: Any) -> None:
        """Any host pool, at any time, also again."""
        self._register(types.plain(host_pool_name), host_pool)

    @guarded(nothing)
    def on_host_pools_registered(self, *_more: Any, **_named: Any) -> None:
        """All pools are known: say how they are stored."""
        self._say_attached()

    def _register(self, name: str, wrapped: Any) -> None:
        pool = pools.unwrap(wrapped)
        known = self._pools.get(name)
        if pool is None or (known is not None and known.is_of(pool)):
            return
        found = pools.host_pool(name, pool, self._instance, self._prefix)
        with self._lock:
            if self._closed:
                return
            self._pools = {**self._pools, name: found}
        if name == "kv":
            self._generic.set_namespaces(*self._generic_namespaces(found))
        self._warn_of_heads(found)
        if self._attached:
            log.info("peercache: late pool %s", found.describe())
        self._buffers.add(pool)

    def _generic_namespaces(self, kv: Optional[HostPool]) -> tuple[bytes, bytes, bool]:
        """Of pages and of other keys in generic calls, and whether pages are empty.

        Nobody says whether the ranks share the other ones, so that each has its own.
        """
        fields = namespace.common_fields(self._instance, self._prefix)
        fields.update(namespace.rank_field(self._instance, sharded=True))
        if kv is None:
            opaque = namespace.digest({**fields, "pool": "generic"})
            return opaque, opaque, False
        fields.update(namespace.pool_fields("generic", kv.pool, (), kv.page_size))
        return kv.whole, namespace.digest(fields), kv.how == pools.LOGICAL

    def _warn_of_heads(self, pool: HostPool) -> None:
        if self._instance.replicated and self._instance.tp.size > 1 and pool.sharded:
            if namespace.has_heads(pool.pool):
                self._journal.once(
                    "heads",
                    f"pool {pool.name} differs by rank in a model whose KV does not: SGLang "
                    "writes it on rank 0 only, the other ranks will miss",
                )

    def _say_attached(self) -> None:
        self._attached = True
        log.info(
            "peercache attached: %s; node %s, mode %s, protocol %s, %s; %s pages; pool of %s; %s",
            self._instance.label,
            self._info.get("node", {}).get("id"),
            self._setting("mode"),
            self._setting("protocol"),
            self._info.get("fabric"),
            "zero-copy" if self._interface_v1 else "generic",
            self._setting("global_segment_size"),
            "; ".join(pool.describe() for pool in self._pools.values()) or "no pools",
        )

    # ---- Queries -------------------------------------------------------

    @guarded(no_pages)
    def batch_exists(self, keys: Any, extra_info: Any = None, *_more: Any, **_named: Any) -> int:
        """How many of the first keys a get can deliver now, without a gap."""
        if not keys:
            return 0
        groups = self._kv_queries(keys)
        if groups is None:
            return len(keys)
        return prefix.leading_run(misses_of(self._traffic.exists(groups), len(keys)))

    @guarded(_no_query)
    def batch_exists_v2(
        self,
        keys: Any,
        pool_transfers: Any = None,
        extra_info: Any = None,
        *_more: Any,
        **_named: Any,
    ) -> Any:
        """A PoolTransferResult with the prefixes that all pools can restore."""
        if not keys:
            return types.query_result(0, {"kv": 0}, [])
        kv_groups = self._kv_queries(keys)
        sides = [Side(self._pools, transfer, keys) for transfer in pool_transfers or ()]
        groups = [*(kv_groups or ()), *(group for side in sides for group in side.groups)]
        answers = iter(self._traffic.exists(groups) if groups else ())
        kv_misses = [next(answers) for _ in kv_groups or ()]
        kv_pages = len(keys)
        if kv_groups is not None:
            kv_pages = prefix.leading_run(misses_of(kv_misses, len(keys)))
        found = [side.found([next(answers) for _ in side.groups]) for side in sides]
        legal = prefix.legal_ends(kv_pages, found)
        return types.query_result(legal.longest, legal.hits, legal.ends)

    def _kv_queries(self, keys: Any) -> Optional[list[Group]]:
        """What to ask for these pages of the KV pool; None: it holds no data."""
        kv = self._pools.get("kv")
        if kv is None or is_draft(keys[0]):
            return self._generic.queries(keys)
        if kv.how == pools.LOGICAL:
            return None
        if kv.how == pools.NONE:
            return []
        return kv.queries(keys) if self._interface_v1 else self._generic.queries(keys)

    # ---- Pages by token index ------------------------------------------

    @guarded(all_false)
    def batch_get_v1(
        self, keys: Any, host_indices: Any, extra_info: Any = None, *_more: Any, **_named: Any
    ) -> list[bool]:
        """Read pages into the KV pool. True for the pages before the first miss."""
        return self._transfers.get(self._pools.get("kv"), keys, host_indices)

    @guarded(all_false)
    def batch_set_v1(
        self, keys: Any, host_indices: Any, extra_info: Any = None, *_more: Any, **_named: Any
    ) -> list[bool]:
        """Store pages of the KV pool. True for what is stored, now or before."""
        return self._transfers.set(self._pools.get("kv"), keys, host_indices)

    @guarded(all_transfers_false)
    def batch_get_v2(
        self, transfers: Any, extra_info: Any = None, *_more: Any, **_named: Any
    ) -> dict[Any, list[bool]]:
        """Read pages of several pools; for each transfer as batch_get_v1."""
        return self._transfers.get_all(self._pools, transfers)

    @guarded(all_transfers_false)
    def batch_set_v2(
        self, transfers: Any, extra_info: Any = None, *_more: Any, **_named: Any
    ) -> dict[Any, list[bool]]:
        """Store pages of several pools. What all ranks hold alike is stored by rank 0."""
        rank = self._instance.tp.rank
        return self._transfers.set_all(self._pools, transfers, by_others=rank > 0)

    # ---- Values by tensor ----------------------------------------------

    @guarded(all_none)
    def batch_get(
        self, keys: Any, target_locations: Any = None, target_sizes: Any = None, *_more: Any
    ) -> list[Any]:
        """The filled target, or None, for each key; without targets the bytes."""
        return self._generic.get(keys, target_locations, target_sizes)

    @guarded(refused)
    def batch_set(
        self,
        keys: Any,
        values: Any = None,
        target_locations: Any = None,
        target_sizes: Any = None,
        *_more: Any,
    ) -> bool:
        """Whether all values are stored."""
        values = target_locations if values is None else values
        return self._generic.set(keys, values, target_sizes)

    @guarded(nothing)
    def get(
        self, key: Any, target_location: Any = None, target_sizes: Any = None, *_more: Any
    ) -> Any:
        """The filled target or None; without a target the bytes."""
        targets = None if target_location is None else [target_location]
        return self._generic.get([key], targets, _one(target_sizes))[0]

    @guarded(refused)
    def set(
        self,
        key: Any,
        value: Any = None,
        target_location: Any = None,
        target_sizes: Any = None,
        *_more: Any,
    ) -> bool:
        """Whether the value is stored."""
        value = target_location if value is None else value
        return self._generic.set([key], [value], _one(target_sizes))

    @guarded(refused)
    def exists(self, key: Any, *_more: Any) -> bool:
        """Whether a get of the key would deliver, on whichever path."""
        groups = self._kv_queries([key])
        if groups is None:
            return True
        groups = [*groups, *self._generic.queries([key])]
        *shards, whole = self._traffic.exists(groups)
        return not any(whole) or (bool(shards) and not any(map(any, shards)))

    # ---- Life ----------------------------------------------------------

    @guarded(nothing)
    def clear(self, *_more: Any) -> None:
        """Drop what this node published; other holders keep theirs."""
        clear = getattr(self._node, "clear", None)
        if clear is None:
            self._journal.once("clear", "clear: this version of the library cannot drop values")
            return
        clear(timeout=_CLEAR_TIMEOUT_S)

    @guarded(nothing)
    def get_stats(self) -> Any:
        """A new StorageMetrics with all calls since the last time, or None."""
        return self._numbers.take()

    @guarded(no_text)
    def metrics_text(self) -> str:
        """Metrics of the node and of this adapter as text of Prometheus.

        Every series has the labels node, role, model, tp_rank and pp_rank, and
        dp_rank and attn_cp_rank where there are such. "" once the store is closed.
        """
        node = self._info.get("node", {})
        labels = metrics.labels_of(
            self._instance, str(node.get("id", "")), str(node.get("role", ""))
        )
        own = metrics.adapter_text(self._journal.counts(), self._numbers.totals(), labels)
        return metrics.labelled(self._node.metrics_text(), labels) + own

    def counters(self) -> dict[str, int]:
        """What went wrong so far, counted by kind."""
        return self._journal.counts()

    @guarded(nothing)
    def close(self) -> None:
        """Leave the cluster and give everything back; calls answer misses from now on."""
        with self._lock:
            self._closed = True
            self._pools = {}
        self.mem_pool_host = None
        try:
            self._traffic.close()
            self._buffers.close(_REGISTER_END_S)
        finally:
            self._give_up()


def _one(size: Any) -> Any:
    """The size of a single value, as a list."""
    return size if size is None or isinstance(size, (list, tuple)) else [size]
