"""Both backends, made by SGLang's own factory, and two instances of each.

The two of ours are nodes of one cluster on 127.0.0.1; the two of SGLang's share a folder.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from host_memory import HostMemory, Model
from ranks import be_rank
from sglang.srt.mem_cache.hicache_storage import (
    HiCacheStorageConfig,
    PoolHitPolicy,
    PoolName,
    PoolTransfer,
)
from sglang.srt.mem_cache.storage import StorageBackendFactory

VISIBLE_S = 10.0


def pool_name(name: str) -> Any:
    return PoolName(name)


def transfer(name: str, keys: Any, indices: Any, trailing: int = 0) -> Any:
    policy = PoolHitPolicy.TRAILING_PAGES if trailing else PoolHitPolicy.ALL_PAGES
    return PoolTransfer(name=pool_name(name), keys=keys, host_indices=indices, hit_policy=policy)


def _config(model: Model, extra: dict[str, Any]) -> Any:
    return HiCacheStorageConfig(
        tp_rank=0, tp_size=1, pp_rank=0, pp_size=1, attn_cp_rank=0, attn_cp_size=1,
        is_mla_model=model.replicated, enable_storage_metrics=True,
        is_page_first_layout=model.layout == "page_first", model_name=model.name,
        extra_config=extra,
    )


def _attach(kind: str, config: Any, memory: HostMemory) -> Any:
    """As a controller does it."""
    backend = StorageBackendFactory.create_backend(kind, config, memory.pools["kv"])
    backend.register_mem_pool_host(memory.pools["kv"])
    for name, pool in memory.pools.items():
        backend.register_mem_host_pool_v2(pool, pool_name(name))
    backend.on_host_pools_registered()
    return backend


class Instance:
    """The backends of one SGLang instance, ours and the oracle, each with its host pools."""

    def __init__(self, model: Model, port: int, folder: Path) -> None:
        self._model, self._port, self._folder = model, port, folder
        self.our_memory, self.file_memory = HostMemory(model), HostMemory(model)
        self.ours: Any = None
        self.file: Any = None
        self.attach()

    def attach(self) -> None:
        extra = {
            "backend_name": "peercache",
            "module_path": "peercache.store",
            "class_name": "PeerCacheStore",
            "discovery_addr": f"127.0.0.1:{self._port}",
            # Never full: the oracle does not evict.
            "global_segment_size": "64mb",
            "region_size": "16mb",
            "disk_enabled": False,
            "metrics_enabled": False,
            "heartbeat_interval": 0.1,
            "member_ttl": 2,
            "protocol": "tcp",
            "log_level": "error",
        }
        if self._model.interface_v1:
            extra["interface_v1"] = 1
        self.ours = _attach("dynamic", _config(self._model, extra), self.our_memory)
        self.attach_file()

    def attach_file(self) -> None:
        stored = {"file_storage_path": str(self._folder), "enable_metadata_cache": False}
        self.file = _attach("file", _config(self._model, stored), self.file_memory)

    def detach(self) -> None:
        self.ours.close()

    def timeouts(self) -> int:
        """Calls of ours that did not end in time, so far."""
        return sum(n for kind, n in self.ours.counters().items() if "timed out" in kind)

    def has(self, pool: str, key: str) -> bool:
        """Whether ours can deliver this, on the path that it was stored on."""
        if pool == "generic":
            return bool(self.ours.exists(key))
        if pool == "kv":
            return bool(self.ours.batch_exists([key]) == 1)
        slots = self.our_memory.indices(pool, [0])
        wanted = transfer(pool, [key], slots)
        there = self.ours.batch_get_v2([wanted])[wanted.name] == [True]
        self.our_memory.poison(pool, [0])
        self.file_memory.poison(pool, [0])
        return there


class Pair:
    """Two instances, and who stored what first."""

    def __init__(self, model: Model, port: int, folder: Path) -> None:
        be_rank(0, 1)
        self.model = model
        self.folder = folder
        self.instances = [Instance(model, port, folder) for _ in range(2)]
        self.holder: dict[tuple[str, str], int] = {}
        self.content = 0  # No two fills are alike, not even in different sequences.
        self._wait_until_they_meet()

    def next_content(self) -> int:
        self.content += 1
        return self.content

    def close(self) -> None:
        for instance in self.instances:
            instance.detach()

    def clear(self) -> None:
        """As SGLang does it: on every instance."""
        for instance in self.instances:
            instance.ours.clear()
            instance.file.clear()
        self.holder.clear()

    def begin(self) -> None:
        """As if nothing had ever been stored, also after a sequence that failed."""
        self.clear()
        for instance in self.instances:
            instance.our_memory.reset()
            instance.file_memory.reset()

    def stored(self, pool: str, keys: Any, who: int) -> None:
        """The first one to store a key holds it; who comes later does not write."""
        for key in keys:
            self.holder.setdefault((pool, key), who)

    def forget(self, who: int) -> None:
        """Files of what only this instance holds in our case."""
        for (pool, key), holder in list(self.holder.items()):
            if holder == who:
                component = None if pool == "generic" else pool_name(pool)
                name = self.instances[who].file._get_component_key(key, component)
                os.remove(self.folder / f"{name}.bin")
                del self.holder[pool, key]

    def reattach(self, who: int) -> None:
        self.instances[who].detach()
        self.forget(who)
        self.instances[who].attach()
        self._wait_until_they_meet()
        self._wait_until_all_is_visible()

    def _wait_until_they_meet(self) -> None:
        self.content += 1
        for who, instance in enumerate(self.instances):
            key = f"meet-{self.content}-{who}"
            instance.our_memory.fill("kv", 0, self.next_content())
            assert instance.ours.set(key, instance.our_memory.page("kv", 0)), "not stored"
            instance.our_memory.poison("kv", [0])
            _until(lambda key=key: all(i.ours.exists(key) for i in self.instances), "the other")

    def _wait_until_all_is_visible(self) -> None:
        def missing() -> list[Any]:
            return [
                (pool, key, who)
                for pool, key in self.holder
                for who, instance in enumerate(self.instances)
                if not instance.has(pool, key)
            ]

        _until(lambda: not missing(), "what the other holds", missing)


def _until(good: Any, what: str, tell: Any = None) -> None:
    deadline = time.monotonic() + VISIBLE_S
    while not good():
        if time.monotonic() > deadline:
            more = f": {tell()}" if tell else ""
            raise AssertionError(f"waited {VISIBLE_S} s for {what}{more}")
