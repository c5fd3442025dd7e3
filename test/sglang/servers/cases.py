"""The launches that are proven: modes of SGLang, and the original's own line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from server import Launch

_DIRECT = ("--hicache-io-backend", "direct")
_WAIT = ("--hicache-storage-prefetch-policy", "wait_complete")


@dataclass(frozen=True)
class Case:
    """One line of the report."""

    name: str
    # SGLang's own arguments, beside those of the storage.
    arguments: tuple[str, ...]
    # What the extra config has beside names and discovery.
    extra: tuple[tuple[str, Any], ...] = (("interface_v1", 1),)

    def launch(self, discovery: str) -> Launch:
        extra = {
            "backend_name": "peercache",
            "module_path": "peercache.store",
            "class_name": "PeerCacheStore",
            "discovery_addr": discovery,
            # SGLang's own: our prompts are shorter than its 256 tokens.
            "prefetch_threshold": 16,
            "global_segment_size": "64mb",
            "protocol": "tcp",
            "disk_enabled": False,
            "metrics_enabled": False,
            **dict(self.extra),
        }
        return Launch(self.arguments, "dynamic", extra)

    def file_launch(self) -> Launch:
        """The same servers over SGLang's own file storage: tells a defect of
        the servers or of this driver from one of ours."""
        return Launch(self.arguments, "file", {"prefetch_threshold": 16})


# As the original's users have it: its keys and values, none of ours, and no
# "interface_v1", so that SGLang takes the generic path. Numbers and booleans are
# text here because its examples have them so, too.
_ORIGINAL = (
    ("mode", "p2p"),
    ("role", "auto"),
    ("device_name", ""),
    ("local_hostname", "127.0.0.1"),
    ("directory_replicas", "2"),
    ("vnodes", "160"),
    ("heartbeat_interval", "2.0"),
    ("member_ttl", "6.0"),
    ("max_channels_per_peer", "16"),
    ("gid_index", 3),
    ("ib_port", 1),
    ("disk_enabled", "false"),
    ("metrics_port", 0),
    ("metrics_dashboard", "yes"),
)

CASES = (
    Case(
        "page_first_direct",
        (*_DIRECT, *_WAIT, "--hicache-mem-layout", "page_first_direct"),
    ),
    Case("layer_first", (*_DIRECT, *_WAIT, "--hicache-mem-layout", "layer_first")),
    Case(
        "buffer_only",
        (
            *_DIRECT,
            *_WAIT,
            *("--hicache-mem-layout", "page_first_direct"),
            *("--hicache-host-memory-mode", "buffer_only"),
        ),
    ),
    Case("original", (*_DIRECT, *_WAIT, "--hicache-mem-layout", "page_first_direct"), _ORIGINAL),
)
