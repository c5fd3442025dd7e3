"""The user's extra configuration: which settings the node gets.

SGLang hands the JSON of --hicache-storage-backend-extra-config over as it is:
with keys of its own, with keys of releases to come, with numbers as text. What
the library knows goes to the node, which checks it; SGLang's keys are dropped;
anything else is a warning that names the nearest key, never an error.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from peercache.errors import ConfigError, Status
from peercache.hicache.claim import Claim
from peercache.hicache.instance import Instance
from peercache.node import Node

log = logging.getLogger("peercache.store")

# Names and defaults of docs/configuration.md.
DEFAULTS: dict[str, str] = {
    "discovery_addr": "",
    "cluster_name": "peercache",
    "digest_salt": "",
    "prefix": "",
    "node_id": "auto",
    "mode": "p2p",
    "role": "auto",
    "write_policy": "local",
    "data_replicas": "1",
    "vnodes": "160",
    "directory_replicas": "2",
    "directory_read_cache_ttl": "0",
    "heartbeat_interval": "2",
    "member_ttl": "6",
    "max_masters": "3",
    "settle": "10",
    "protocol_strict": "false",
    "local_hostname": "auto",
    "rdma_bind_host": "auto",
    "rdma_port": "0",
    "control_bind_host": "auto",
    "control_port": "0",
    "meta_bind_host": "auto",
    "metrics_enabled": "true",
    "metrics_dashboard": "true",
    "metrics_bind_host": "127.0.0.1",
    "metrics_port": "31997",
    "cluster_key_file": "",
    "tls_cert": "",
    "tls_key": "",
    "tls_ca": "",
    "tls_name": "peercache",
    "allow_insecure": "false",
    "encrypt": "true",
    "protocol": "rdma",
    "read_mode": "auto",
    "verify": "generation",
    "device_name": "",
    "device_names": "",
    "ucx_tcp": "",
    "ib_port": "1",
    "gid_index": "3",
    "max_channels_per_peer": "16",
    "op_timeout": "2",
    "connect_timeout": "1",
    "hedge": "3ms",
    "spin": "50us",
    "copy_threads": "1",
    "max_inflight": "1024",
    "location_cache": "65536",
    "directory_records": "16777216",
    "global_segment_size": "4GiB",
    "region_size": "1GiB",
    "eviction_policy": "s3fifo",
    "evict_high": "20",
    "evict_low": "10",
    "lock_memory": "false",
    "huge_pages": "true",
    "numa_node": "auto",
    "engine_cpus": "auto",
    "disk_enabled": "true",
    "disk_path": "/data/peercache/",
    "disk_size": "100GiB",
    "disk_queue": "256MiB",
    "disk_threads": "4",
    "disk_policy": "put",
    "disk_fsync": "seal",
    "log_level": "info",
    "interface_v1": "false",
    "slot_max_page_bytes": "256KiB",
    "slot_ways": "4",
    "slot_num_buckets": "0",
}

# Read by SGLang, or by tools around it.
SGLANG_KEYS = frozenset(
    (
        "backend_name",
        "module_path",
        "class_name",
        "interface_v1",
        "allocator",
        "prefetch_threshold",
        "prefetch_timeout_base",
        "prefetch_timeout_per_ki_token",
        "prefetch_timeout_max",
        "hicache_storage_pass_prefix_keys",
        "tp_lcm_size",
    )
)

# One thread of SGLang waits for each call: no operation may take longer.
OP_TIMEOUT_MAX_S = 5.0

# Ranks beside rank 0 of a replicated model own no KV pages, but they own the
# states of hybrid pools: this part of an equal share is left to them.
_SMALL_SHARE = 8
_SMALL_SHARE_MIN = 64 << 20
_DISK_SIZE_MIN = 4 << 20  # What the library allows.
_PAGE = 4096

_SIZE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmgtp]?)(i?b)?\s*", re.IGNORECASE)


def parse_size(value: object) -> Optional[int]:
    """Bytes of 4096, "16mb" or "1.5GiB" (powers of 1024); None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    match = _SIZE.fullmatch(str(value))
    if match is None:
        return None
    power = " kmgtp".index(match[2].lower() or " ")
    return int(float(match[1]) * 1024**power) if "." in match[1] else int(match[1]) << 10 * power


def unknown_text(key: str) -> str:
    """What to say of a key that nobody knows, with the nearest one that is known."""
    known = [*DEFAULTS, *SGLANG_KEYS]
    near = difflib.get_close_matches(key, known, 1)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    return f'unknown setting "{key}"{hint}'


def bad_types(settings: Mapping[str, Any]) -> Iterator[str]:
    """A reason for each value that JSON can hold and a setting cannot."""
    for name, value in settings.items():
        texts = isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value)
        if not texts and not isinstance(value, (bool, int, float, str, os.PathLike)):
            yield (
                f"{name} = {value!r} is not allowed: text, a number, true or false, "
                "or a list of texts"
            )


def known_settings(extra: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a node in the extra configuration; null leaves the default.

    Warns of keys that neither we nor SGLang know.
    """
    settings: dict[str, Any] = {}
    for key, value in extra.items():
        if key in DEFAULTS and key != "interface_v1":
            settings.update({} if value is None else {key: value})
        elif key not in SGLANG_KEYS:
            log.warning("extra config: %s; ignored", unknown_text(key))
    return settings


def share_of_pool(host_bytes: int, instance: Instance) -> int:
    """Bytes of the pool of this process, of those that are meant for its host.

    The ranks share equally, unless all of them hold the same pages: then rank 0,
    which is the only one that writes them, has the host's share.
    """
    n_ranks = instance.tp.size
    if n_ranks == 1 or (instance.replicated and instance.tp.rank == 0):
        return host_bytes
    share = host_bytes // n_ranks
    if instance.replicated:
        share = min(share, max(share // _SMALL_SHARE, _SMALL_SHARE_MIN))
    return max(share // _PAGE * _PAGE, _PAGE)


def _given(settings: Mapping[str, Any], name: str) -> Any:
    """A setting as the node will see it: argument, environment, default."""
    return settings.get(name, os.environ.get("PEERCACHE_" + name.upper(), DEFAULTS[name]))


def own_node_id(node_id: str, instance: Instance) -> str:
    """A node id that the user chose, made different for each rank of a server.

    All ranks get the same configuration. "auto" stays: the library then gives
    every process of a host the lowest number that is free.
    """
    places = (("tp", instance.tp), ("pp", instance.pp), ("cp", instance.cp), ("dcp", instance.dcp))
    parts = [f"{name}{place.rank}" for name, place in places if place.size > 1]
    if instance.dp_rank is not None:
        parts.append(f"dp{instance.dp_rank}")
    return "-".join([node_id, *parts])


def node_settings(extra: Mapping[str, Any], instance: Instance) -> dict[str, Any]:
    """Arguments of Node for this process. Whether they are right, start_node tells."""
    settings = known_settings(extra)
    host_bytes = parse_size(_given(settings, "global_segment_size"))
    if host_bytes:
        settings["global_segment_size"] = share_of_pool(host_bytes, instance)
    disk_bytes = parse_size(_given(settings, "disk_size"))
    if disk_bytes:
        settings["disk_size"] = max(share_of_pool(disk_bytes, instance), _DISK_SIZE_MIN)
    node_id = str(_given(settings, "node_id")).strip()
    settings.pop("node_id", None)
    if node_id.lower() != "auto":
        settings["node_id"] = own_node_id(node_id, instance)
    return settings


def claim_node_id(settings: dict[str, Any]) -> Optional[Claim]:
    """Make a chosen node id unique on this host; the claim lives as long as the node."""
    if "node_id" not in settings:
        return None
    claim = Claim(str(_given(settings, "cluster_name")), settings["node_id"])
    settings["node_id"] = claim.name
    return claim


def start_node(settings: Mapping[str, Any]) -> Node:
    """A node with these settings.

    Raises ConfigError with every reason at once, of wrong types as of values out
    of range; PeerCacheError if the node cannot start.
    """
    reasons = list(bad_types(settings))
    if not reasons:
        return Node(**settings)
    bad = {reason.split(" ", 1)[0] for reason in reasons}
    try:
        Node(**{name: value for name, value in settings.items() if name not in bad}).close()
    except ConfigError as error:
        reasons += str(error).splitlines()
    raise ConfigError("\n".join(reasons), Status.INVALID)


class PeerCacheConfig:
    """Settings of a node under their names, as attributes.

    PeerCacheConfig(discovery_addr="10.0.0.1:31998", mode="p2p", allow_insecure=True)

    Raises ConfigError for unknown names and values of a wrong type; the node
    checks the ranges. What is not given has its default, as text.
    """

    def __init__(self, **settings: Any) -> None:
        reasons = [unknown_text(name) for name in settings if name not in DEFAULTS]
        given = {name: value for name, value in settings.items() if value is not None}
        reasons += bad_types({n: v for n, v in given.items() if n in DEFAULTS})
        if reasons:
            raise ConfigError("\n".join(reasons), Status.INVALID)
        self._given = given

    @classmethod
    def from_extra_config(cls, extra: Optional[Mapping[str, Any]]) -> PeerCacheConfig:
        """From SGLang's extra configuration: foreign keys are dropped, with a warning."""
        return cls(**known_settings(extra or {}))

    def settings(self) -> dict[str, Any]:
        """What was given: keyword arguments for Node."""
        return dict(self._given)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in DEFAULTS:
            raise AttributeError(name)
        return self._given.get(name, DEFAULTS[name])

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._given.items())
        return f"PeerCacheConfig({given})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PeerCacheConfig) and self._given == other._given

    def __hash__(self) -> int:
        return hash(repr(sorted(self._given.items())))

    def _word(self, name: str) -> str:
        return str(getattr(self, name)).strip().lower()

    @property
    def is_centralized(self) -> bool:
        """Values live on storage nodes only."""
        return self._word("mode") == "centralized"

    @property
    def is_hybrid(self) -> bool:
        """Values live with who put them, or on storage nodes."""
        return self._word("mode") == "hybrid"

    @property
    def effective_role(self) -> str:
        """The role that auto stands for in a process that uses this class."""
        role = self._word("role")
        return "inference" if role == "auto" else role
