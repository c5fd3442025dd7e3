"""Real device pools, host pools and controllers of SGLang, small and on the CPU.

A rig is one model's worth of them. Pools beside the KV pool are `Extra`s: with keys of
their own (trailing pools such as states) or riding on the KV pool's pages (sidecars).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Optional

import torch

from sides import Side, host_tensors

LAYERS = 3
PAGE = 4
PAGES = 200
HOST_RATIO = 1.5


@dataclass
class Place:
    """Where a rig is: its rank and size in the TP group, the group, and the layout."""

    layout: str
    rank: int = 0
    size: int = 1
    group: Any = None

    @property
    def io_backend(self) -> str:
        return "direct" if self.layout in ("layer_first", "page_first_direct") else "kernel"

    def share(self) -> str:
        return f"{self.rank} of {self.size}"


@dataclass
class Extra:
    """A pool beside the KV pool.

    It uses the slots of the pool `source`, or if that is empty has its own, from `alloc`.
    It keeps the last `trailing` pages of a prefix, or all if that is 0.
    """

    side: Side
    entry: Any
    source: str = "kv"
    trailing: int = 0
    alloc: Any = None


@dataclass
class Rig:
    kv: Optional[Side]
    page_size: int
    allocator: Any
    controller: Any
    entries: list[Any] = field(default_factory=list)
    extras: list[Extra] = field(default_factory=list)

    def sides(self) -> list[Side]:
        return ([self.kv] if self.kv else []) + [extra.side for extra in self.extras]


def allocator_of(device: Any, page: int, tokens: int, dtype: torch.dtype) -> Any:
    from sglang.srt.mem_cache.allocator import PagedTokenToKVPoolAllocator

    return PagedTokenToKVPoolAllocator(tokens, page, dtype, "cpu", device, False)


def plain_controller(place: Place, allocator: Any, host: Any, page: int) -> Any:
    from sglang.srt.managers.cache_controller import HiCacheController

    return HiCacheController(
        allocator, host, page, place.group, threading.Event(),
        write_policy="write_through", io_backend=place.io_backend,
    )


def hybrid_controller(
    place: Place, allocator: Any, entries: list[Any], page: int, layers: int
) -> Any:
    from sglang.srt.mem_cache.hybrid_cache.hybrid_cache_controller import HybridCacheController
    from sglang.srt.mem_cache.pool_host import HostPoolGroup

    return HybridCacheController(
        allocator, HostPoolGroup(entries), page, place.group, threading.Event(),
        write_policy="write_through", io_backend=place.io_backend, transfer_layer_id_max=layers,
    )


# ---- Device and host pools of K and V ------------------------------------------------


def mha_device(
    heads: int = 4, dim: int = 16, layers: int = LAYERS, page: int = PAGE,
    dtype: torch.dtype = torch.bfloat16, v_dim: Optional[int] = None, pages: int = PAGES,
) -> Any:
    from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool

    return MHATokenToKVPool(
        pages * page, page, dtype, heads, dim, layers, "cpu", False, v_head_dim=v_dim
    )


def mha_host(device: Any, layout: str, drafts: tuple[Any, ...] = (), tokens: int = 0) -> Any:
    from sglang.srt.mem_cache.pool_host.mha import get_mha_host_pool_cls

    info = device.get_device_pool_infos()[0].buffer_info
    return get_mha_host_pool_cls(info)(
        info, HOST_RATIO, 0, device.page_size, layout,
        device_capacity_tokens=device.size, start_layer=0, end_layer=device.layer_num,
        pin_memory=False, host_token_capacity=tokens or None,
        draft_buffer_infos=[d.get_device_pool_infos()[0].buffer_info for d in drafts],
    )


def mha_side(device: Any, host: Any, pool: str, rank: str, prefix: str = "") -> Side:
    pieces = [(f"{prefix}k{i}", t) for i, t in enumerate(device.k_buffer)]
    pieces += [(f"{prefix}v{i}", t) for i, t in enumerate(device.v_buffer)]
    return Side(pool, rank, pieces, device.page_size, host_tensors=host_tensors(host))


def head_side(device: Any, host: Any, place: Place) -> Side:
    """With a piece per head, named by its place in the whole model: any TP size agrees."""
    pieces = []
    for kind, layers in (("k", device.k_buffer), ("v", device.v_buffer)):
        for layer, tensor in enumerate(layers):
            n_heads = tensor.shape[1]
            for head in range(n_heads):
                name = f"{kind}{layer}.{place.rank * n_heads + head}"
                pieces.append((name, tensor[:, head]))
    return Side("kv", "all", pieces, device.page_size, host_tensors=host_tensors(host))


def mla_device(layers: int = LAYERS, page: int = PAGE, pages: int = PAGES) -> Any:
    from sglang.srt.mem_cache.memory_pool import MLATokenToKVPool

    return MLATokenToKVPool(pages * page, page, torch.bfloat16, 48, 16, layers, "cpu", False)


def mla_host(device: Any, layout: str) -> Any:
    from sglang.srt.mem_cache.pool_host.mla import MLATokenToKVPoolHost

    return MLATokenToKVPoolHost(
        device.get_device_pool_infos()[0].buffer_info, HOST_RATIO, 0, device.page_size, layout,
        device_capacity_tokens=device.size, start_layer=0, end_layer=device.layer_num,
        target_layer_num=device.layer_num, pin_memory=False,
    )


def mla_side(device: Any, host: Any) -> Side:
    pieces = [(f"latent{i}", t) for i, t in enumerate(device.kv_buffer)]
    return Side("kv", "all", pieces, device.page_size, host_tensors=host_tensors(host))


# ---- Rigs with a KV pool alone ----------------------------------------------------


def _plain(place: Place, device: Any, host: Any, side: Side) -> Rig:
    allocator = allocator_of(device, device.page_size, device.size, device.dtype)
    controller = plain_controller(place, allocator, host, device.page_size)
    return Rig(side, device.page_size, allocator, controller)


def mha(place: Place, **geometry: Any) -> Rig:
    device = mha_device(heads=4 // place.size, **geometry)
    host = mha_host(device, place.layout)
    return _plain(place, device, host, mha_side(device, host, "kv", place.share()))


def mha_uneven(place: Place) -> Rig:
    return mha(place, v_dim=24)


def mha_fp8(place: Place) -> Rig:
    return mha(place, dtype=torch.float8_e4m3fn)


def mha_split(place: Place) -> Rig:
    device = mha_device(heads=4 // place.size)
    host = mha_host(device, place.layout)
    return _plain(place, device, host, head_side(device, host, place))


def mla(place: Place) -> Rig:
    device = mla_device()
    host = mla_host(device, place.layout)
    return _plain(place, device, host, mla_side(device, host))
