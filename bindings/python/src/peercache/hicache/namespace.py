"""The namespace of a pool: a digest of everything that changes a page's bytes.

The key of a page names only the tokens up to it. Model, dtype, layout, ranks
and so on are in the digest, so that two instances meet exactly where their bytes are
the same. Not in it: who or where an instance is.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import sys
from collections.abc import Sequence
from typing import Any, Optional

from peercache.hicache.buffers import buffers_of
from peercache.hicache.instance import Instance, Place

SCHEMA = 1

_UTILS = "sglang.srt.mem_cache.utils"
_ARGS = (
    ("sglang.srt.runtime_context", "get_server_args"),
    ("sglang.srt.server_args", "get_global_server_args"),  # before 0.5.16
)

# How the bytes of a page are put together: the pieces one after the other, or
# the pool's own flat copy of the page.
JOINED = "joined"
FLAT = "flat"


def hash_epoch() -> int:
    """1 where page hashes begin with LoRA key and salt (0.5.21 on), else 0."""
    if "sglang" not in sys.modules:
        return 0
    try:
        return int(hasattr(importlib.import_module(_UTILS), "storage_namespace_seed"))
    except Exception:
        return 0


def logical_dtype(dtype: str) -> Optional[str]:
    """What bytes kept as uint8 mean: SGLang's kv_cache_dtype, where it can be had."""
    if "uint8" not in dtype or "sglang" not in sys.modules:
        return None
    for module, function in _ARGS:
        try:
            args = getattr(importlib.import_module(module), function)()
            return str(args.kv_cache_dtype)
        except Exception:
            continue
    return None


def digest(fields: dict[str, Any]) -> bytes:
    """16 bytes of the fields, in any order."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).digest()


def _coordinates(instance: Instance) -> dict[str, Any]:
    """Ranks that hold different slices of every pool."""

    def pair(place: Place) -> Optional[list[int]]:
        return [place.rank, place.size] if place.size > 1 else None

    return {"pp": pair(instance.pp), "cp": pair(instance.cp), "dcp": pair(instance.dcp)}


def common_fields(instance: Instance, prefix: str) -> dict[str, Any]:
    """What all pools of an instance have in common."""
    return {
        "schema": SCHEMA,
        "epoch": hash_epoch(),
        "model": instance.model,
        "prefix": prefix,
        **_coordinates(instance),
    }


def is_sharded(instance: Instance, name: str, pool: Any) -> bool:
    """Whether each TP rank holds other bytes in this pool.

    Where SGLang says that KV is replicated (MLA, DeepSeek-V4), two kinds are
    sharded still: states of Mamba and KDA layers, and pools with heads, such as
    an MHA draft beside MLA pages.
    """
    if not instance.replicated:
        return True
    if "mamba" in name.lower() or "kda" in name.lower():
        return True
    return has_heads(pool)


def has_heads(pool: Any) -> bool:
    """Whether the pool has K and V per head."""
    return getattr(pool, "head_num", None) is not None


def pool_fields(name: str, pool: Any, sizes: Sequence[int], page_size: int) -> dict[str, Any]:
    """What a host pool says of its bytes. sizes: bytes of each piece."""
    dtype = str(getattr(pool, "dtype", None))
    others = _buffer_dtypes(pool, dtype)
    return {
        "pool": name,
        "dtype": dtype,
        **({"dtypes": others} if others else {}),
        "kv_cache_dtype": logical_dtype(" ".join([dtype, *others])),
        "layout": str(getattr(pool, "layout", None)),
        "page_size": page_size,
        "sizes": list(sizes),
        "layers": [_int(pool, n) for n in ("layer_num", "start_layer", "end_layer")],
    }


def _buffer_dtypes(pool: Any, dtype: str) -> list[str]:
    """Dtypes of the pool's tensors in order, repetitions left out; [] if all are dtype.

    A Mamba pool tells the dtype of its convolutions only. That of its temporal
    states is an option of the server's, and two of them have the same size.
    """
    try:
        found = [str(getattr(buffer, "dtype", dtype)) for buffer in buffers_of(pool)]
    except Exception:
        return []  # Nothing of such a pool can be registered either.
    return [] if set(found) <= {dtype} else [name for name, _ in itertools.groupby(found)]


def _int(pool: Any, name: str) -> Optional[int]:
    value = getattr(pool, name, None)
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError):
        return None


def rank_field(instance: Instance, sharded: bool) -> dict[str, Any]:
    """The TP rank, for pools whose bytes differ by it."""
    return {"tp": [instance.tp.rank, instance.tp.size] if sharded else None}


def shard_field(instance: Instance, i: int) -> dict[str, Any]:
    """The i-th part of the rank's heads, under a name that all TP sizes share."""
    shard = instance.tp.rank * instance.split + i
    return {"shard": [shard, instance.tp_lcm_size]}
