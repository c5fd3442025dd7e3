"""PeerCache: a KV cache that the nodes of a cluster hold together.

    with peercache.Node(discovery_addr="127.0.0.1:31998") as node:
        node.wait_ready(10)
        node.put(["key"], [b"value"])
        assert node.get("key") == b"value"
"""

from peercache._native import Registration, version
from peercache.errors import ClosedError, ConfigError, PeerCacheError, Status, TimedOutError
from peercache.node import Node, Setting

__version__ = version()

__all__ = [
    "ClosedError",
    "ConfigError",
    "Node",
    "PeerCacheError",
    "Registration",
    "Setting",
    "Status",
    "TimedOutError",
]
