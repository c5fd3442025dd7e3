"""PeerCache: a KV cache that the nodes of a cluster hold together.

    with peercache.Node(discovery_addr="127.0.0.1:31998") as node:
        node.wait_ready(10)
        node.put(["key"], [b"value"])
        assert node.get("key") == b"value"
"""

from typing import TYPE_CHECKING, Any

from peercache._native import PageTable, Registration, version
from peercache.errors import ClosedError, ConfigError, PeerCacheError, Status, TimedOutError
from peercache.hicache.config import PeerCacheConfig
from peercache.node import Node, Setting

if TYPE_CHECKING:
    from peercache.store import PeerCacheStore

__version__ = version()

__all__ = [
    "ClosedError",
    "ConfigError",
    "Node",
    "PageTable",
    "PeerCacheConfig",
    "PeerCacheError",
    "PeerCacheStore",
    "Registration",
    "Setting",
    "Status",
    "TimedOutError",
]


def __getattr__(name: str) -> Any:
    # On demand: it imports SGLang where that is installed, which takes seconds.
    if name == "PeerCacheStore":
        from peercache.store import PeerCacheStore

        return PeerCacheStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
