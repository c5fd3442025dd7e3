"""A package `sglang` of one release, made up from the contract for a test.

It has what a storage backend can see: the base class, the dataclasses with the
fields of the release, the two places of StorageMetrics, the server's arguments,
and the factory with its checks. Nothing in it stores anything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

from hicache.versions import Version

# Gone from SGLang's JSON before a backend sees it.
REMOVED_KEYS = (
    "prefetch_threshold",
    "prefetch_timeout_base",
    "prefetch_timeout_per_ki_token",
    "hicache_storage_pass_prefix_keys",
    "tp_lcm_size",
)
FACTORY_KEYS = {
    "backend_name": "peercache",
    "module_path": "peercache.store",
    "class_name": "PeerCacheStore",
}
_CONFIG_DEFAULTS: dict[str, Any] = {
    "tp_rank": 0,
    "tp_size": 1,
    "pp_rank": 0,
    "pp_size": 1,
    "attn_cp_rank": 0,
    "attn_cp_size": 1,
    "dcp_rank": 0,
    "dcp_size": 1,
    "dp_rank": None,
    "logical_page_size": None,
    "tp_lcm_size": None,
    "should_split_heads": False,
    "enable_storage_metrics": False,
    "is_mla_model": False,
    "is_page_first_layout": False,
    "model_name": "tiny",
    "extra_config": None,
}
_METRICS = ("prefetch_pgs", "backup_pgs", "prefetch_bandwidth", "backup_bandwidth")


class _Storage(ABC):
    """The abstract part, the same in all releases; the rest answers None."""

    mem_pool_host: Any = None

    @abstractmethod
    def get(self, key: Any, target_location: Any = None, target_sizes: Any = None) -> Any: ...

    @abstractmethod
    def batch_get(self, keys: Any, target_locations: Any = None, target_sizes: Any = None) -> Any:
        ...

    @abstractmethod
    def set(
        self, key: Any, value: Any = None, target_location: Any = None, target_sizes: Any = None
    ) -> Any: ...

    @abstractmethod
    def batch_set(
        self, keys: Any, values: Any = None, target_locations: Any = None, target_sizes: Any = None
    ) -> Any: ...

    @abstractmethod
    def exists(self, key: Any) -> Any: ...

    def register_mem_pool_host(self, mem_pool_host: Any) -> None:
        self.mem_pool_host = mem_pool_host

    def batch_exists(self, keys: Any, extra_info: Any = None) -> Any:
        return None

    def batch_get_v1(self, keys: Any, host_indices: Any, extra_info: Any = None) -> Any:
        return None

    def batch_set_v1(self, keys: Any, host_indices: Any, extra_info: Any = None) -> Any:
        return None

    def clear(self) -> None:
        return None

    def get_stats(self) -> Any:
        return None


class _StorageV2(_Storage):
    """From 0.5.12 on."""

    def register_mem_host_pool_v2(self, host_pool: Any, host_pool_name: Any) -> None:
        return None

    def batch_exists_v2(self, keys: Any, pool_transfers: Any = None, extra_info: Any = None) -> Any:
        return None

    def batch_get_v2(self, transfers: Any, extra_info: Any = None) -> Any:
        return None

    def batch_set_v2(self, transfers: Any, extra_info: Any = None) -> Any:
        return None


class _StorageLast(_StorageV2):
    """From 0.5.23 on."""

    def on_host_pools_registered(self) -> None:
        return None


def _base_class(version: Version) -> type:
    parent: type = _Storage
    if version.has_v2:
        parent = _StorageLast if version.tells_registered else _StorageV2
    return type("HiCacheStorage", (parent,), {"__module__": "sglang"})


def _dataclass(name: str, names: tuple[str, ...], defaults: dict[str, Any]) -> type:
    """In the release's order of fields; those in front have no default."""
    fields: list[Any] = []
    for field in names:
        if isinstance(defaults.get(field), dict):
            fields.append((field, Any, dataclasses.field(default_factory=dict)))
        else:
            fields.append((field, Any, dataclasses.field(default=defaults.get(field))))
    return dataclasses.make_dataclass(name, fields)


def _words(name: str, words: tuple[str, ...]) -> Any:
    return Enum(name, {word.upper(): word for word in words}, type=str)


def _storage_module(version: Version) -> dict[str, Any]:
    extra = {"prefix_keys": None, "extra_info": None}
    names: dict[str, Any] = {
        "HiCacheStorage": _base_class(version),
        "HiCacheStorageConfig": _dataclass(
            "HiCacheStorageConfig", version.config_fields, _CONFIG_DEFAULTS
        ),
        "HiCacheStorageExtraInfo": _dataclass("HiCacheStorageExtraInfo", tuple(extra), extra),
    }
    if version.name == "0.5.23":
        names["HiCacheStorageConfig"].is_storage_writer = property(lambda config: True)
    if version.has_v2:
        policy = _words("PoolHitPolicy", version.hit_policies)
        names |= {
            "PoolName": _words("PoolName", version.pool_names),
            "PoolHitPolicy": policy,
            "PoolTransfer": _dataclass(
                "PoolTransfer", version.transfer_fields, {"hit_policy": policy("all_pages")}
            ),
            "PoolTransferResult": _dataclass(
                "PoolTransferResult",
                version.result_fields,
                {"kv_hit_pages": 0, "extra_pool_hit_pages": {}},
            ),
        }
    if version.name >= "0.5.16":
        names["STORAGE_BATCH_SIZE"] = 128
    return names


def _metrics_class() -> type:
    fields: list[Any] = [
        (name, Any, dataclasses.field(default_factory=list)) for name in _METRICS
    ]
    return dataclasses.make_dataclass("StorageMetrics", fields)


def _fill_modules(version: Version, server_args: SimpleNamespace) -> dict[str, dict[str, Any]]:
    """Names per module below sglang.srt."""
    getter = "get_server_args"
    if version.server_args_module == "server_args":
        getter = "get_global_server_args"
    utils = {"storage_namespace_seed": lambda *_: None} if version.has_hash_seed else {}
    return {
        "mem_cache.hicache_storage": _storage_module(version),
        "mem_cache.utils": utils,
        version.metrics_module: {"StorageMetrics": _metrics_class()},
        version.server_args_module: {getter: lambda: server_args},
    }


class FakeSGLang:
    """The installed fake: its types, and the factory."""

    def __init__(self, version: Version) -> None:
        self.version = version
        self.server_args = SimpleNamespace(kv_cache_dtype="auto")
        self.modules: dict[str, ModuleType] = {}
        for path, names in _fill_modules(version, self.server_args).items():
            self._add("sglang.srt." + path, names)
        self.types = self.modules["sglang.srt.mem_cache.hicache_storage"]
        metrics = self.modules["sglang.srt." + version.metrics_module]
        self.StorageMetrics: Any = metrics.StorageMetrics

    def _add(self, path: str, names: dict[str, Any]) -> None:
        parts = path.split(".")
        for i in range(1, len(parts) + 1):
            name = ".".join(parts[:i])
            if name in self.modules:
                continue
            module = self.modules[name] = ModuleType(name)
            if i < len(parts):
                module.__path__ = []
            if i > 1:
                setattr(self.modules[".".join(parts[: i - 1])], parts[i - 1], module)
        vars(self.modules[path]).update(names)

    def config(self, **values: Any) -> Any:
        """A HiCacheStorageConfig; fields that the release lacks are left out."""
        cls = self.types.HiCacheStorageConfig
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def transfer(self, name: str, **values: Any) -> Any:
        """A PoolTransfer; the name is a member of PoolName where there is one."""
        if name in self.version.pool_names:
            name = self.types.PoolName(name)
        if "hit_policy" in values:
            values["hit_policy"] = self.types.PoolHitPolicy(values["hit_policy"])
        return self.types.PoolTransfer(name=name, **values)

    def create_backend(self, json_config: dict[str, Any], **config: Any) -> Any:
        """What the factory does for `dynamic`, on the user's JSON as a dict."""
        extra = {key: json_config[key] for key in json_config if key not in REMOVED_KEYS}
        module = importlib.import_module(extra["module_path"])
        cls = getattr(module, extra["class_name"])
        if not issubclass(cls, self.types.HiCacheStorage):
            raise TypeError(f"{cls} is not a HiCacheStorage")
        if "tp_lcm_size" in json_config:
            config.setdefault("tp_lcm_size", json_config["tp_lcm_size"])
        return cls(self.config(extra_config=extra, **config), {})


def _is_ours(name: str) -> bool:
    """Modules that hold names of the `sglang` they were imported under."""
    return name == "peercache.store" or name.split(".")[:2] == ["peercache", "hicache"]


def _forget_ours() -> None:
    for name in [name for name in sys.modules if _is_ours(name)]:
        parent, _, child = name.rpartition(".")
        module = sys.modules.pop(name)
        if vars(sys.modules.get(parent, module)).get(child) is module:
            delattr(sys.modules[parent], child)


def _forget_sglang() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "sglang"]:
        del sys.modules[name]


# A fake, and PeerCacheStore's modules as imported under it: to import them anew for
# every test would take a third of the whole time.
_kept: dict[str, tuple[FakeSGLang, dict[str, ModuleType]]] = {}


@contextlib.contextmanager
def installed(version: Version, fresh: bool = False) -> Iterator[FakeSGLang]:
    """`import sglang` finds this release, and PeerCacheStore is of this release too.

    fresh: for a test that changes the fake's types.
    """
    fake = FakeSGLang(version)
    ours: dict[str, ModuleType] = {}
    if version.name in _kept and not fresh:
        fake, ours = _kept[version.name]
    fake.server_args.kv_cache_dtype = "auto"
    _forget_ours()
    _forget_sglang()
    sys.modules.update(fake.modules)
    sys.modules.update(ours)
    try:
        yield fake
    finally:
        if not fresh:
            _kept[version.name] = (fake, {n: m for n, m in sys.modules.items() if _is_ours(n)})
        _forget_ours()
        _forget_sglang()
