"""SGLang's types by name, or stand-ins that look like them.

Only the base class is taken as SGLang has it: its factory accepts no other.
Every further name is looked up on its own, because each came with another
release, and dataclasses are filled by keyword with the fields they have.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

log = logging.getLogger("peercache.store")

STORAGE_MODULE = "sglang.srt.mem_cache.hicache_storage"
METRICS_MODULES = (
    "sglang.srt.observability.metrics_collector",
    "sglang.srt.metrics.collector",  # before 0.5.12
)


class _StandIn:
    """Base class where SGLang is not installed."""


@dataclasses.dataclass
class PoolTransferResult:
    """How many pages a query found; SGLang's type of this name has at least these."""

    kv_hit_pages: int
    extra_pool_hit_pages: dict[Any, int] = dataclasses.field(default_factory=dict)
    restorable_prefix_pages: Optional[list[int]] = None


def _find_base() -> type:
    try:
        module = importlib.import_module(STORAGE_MODULE)
        base = module.HiCacheStorage
    except Exception as error:
        # Without SGLang this is how it should be; with it, its factory will
        # refuse the class, and this line says why.
        if "sglang" in sys.modules:
            log.warning("%s offers no HiCacheStorage: %r", STORAGE_MODULE, error)
        return _StandIn
    return base if isinstance(base, type) else _StandIn


if TYPE_CHECKING:
    HiCacheStorage = _StandIn
else:
    HiCacheStorage = _find_base()


def base_has(method: str) -> bool:
    """Whether the release's base class knows a method."""
    return hasattr(HiCacheStorage, method)


def optional_name(modules: Sequence[str], name: str) -> Optional[Any]:
    """`name` of the first module that has it; None without SGLang or without it."""
    if HiCacheStorage is _StandIn:
        return None
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except Exception:
            continue
    return None


def build(kind: Any, values: Mapping[str, Any]) -> Any:
    """A dataclass from those of the values for which it has a field."""
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in names})


def query_result(kv_pages: int, hits: dict[Any, int], ends: list[int]) -> Any:
    """A PoolTransferResult.

    kv_pages: the longest legal prefix. hits: pages seen per pool. ends: every
    legal prefix, ascending.
    """
    kind = _result_type()
    return build(
        kind,
        {
            "kv_hit_pages": kv_pages,
            "extra_pool_hit_pages": hits,
            "restorable_prefix_pages": ends,
        },
    )


def _result_type() -> Any:
    # Looked up in each call, which is a dict access: the module is loaded.
    module = sys.modules.get(STORAGE_MODULE)
    kind = getattr(module, "PoolTransferResult", None)
    return kind if dataclasses.is_dataclass(kind) else PoolTransferResult


def metrics_type() -> Optional[Any]:
    """SGLang's StorageMetrics, from where this release has it."""
    return optional_name(METRICS_MODULES, "StorageMetrics")


def plain(name: Any) -> str:
    """A pool name or policy as text: the value of an enum's member."""
    return str(getattr(name, "value", name))
