"""Rigs whose models have more than a KV pool."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Optional

import torch

import rigs
from rigs import LAYERS, PAGE, PAGES, Extra, Place, Rig
from sides import Side, host_tensors

STATES = 32


class Slots:
    """An allocator of states, or of the tokens of a side pool, as the device pools have."""

    def __init__(self, n_tokens: int, page: int = 1) -> None:
        self._free = list(range(page, n_tokens, page))
        self._page = page

    def alloc(self, size: int) -> Optional[torch.Tensor]:
        n_pages = -(-size // self._page)
        if n_pages > len(self._free):
            return None
        taken, self._free = self._free[:n_pages], self._free[n_pages:]
        return torch.tensor([first + i for first in taken for i in range(self._page)])

    def free(self, indices: torch.Tensor) -> None:
        self._free += indices[:: self._page].tolist()


def _mapper(layers: int) -> Callable[[int], Optional[int]]:
    return lambda layer: layer if layer < layers else None


def _entry(name: str, host: Any, device: Any, layers: int, **more: Any) -> Any:
    from sglang.srt.mem_cache.hicache_storage import PoolName
    from sglang.srt.mem_cache.pool_host import PoolEntry

    return PoolEntry(PoolName(name), host, device, _mapper(layers), **more)


def _rig(
    place: Place, device: Any, host: Any, kv: Optional[Side], extras: list[Extra],
    drafts: tuple[Any, ...] = (),
) -> Rig:
    entries = [
        _entry("kv", host, device, LAYERS + len(drafts), is_primary_index_anchor=True,
               packed_draft_device_pools=drafts)
    ]
    entries += [extra.entry for extra in extras]
    page = host.page_size
    allocator = rigs.allocator_of(device, page, device.size, device.dtype)
    controller = rigs.hybrid_controller(place, allocator, entries, page, LAYERS)
    return Rig(kv, page, allocator, controller, entries, extras)


def _mha_parts(place: Place) -> tuple[Any, Any, Side]:
    device = rigs.mha_device(heads=4 // place.size)
    host = rigs.mha_host(device, place.layout)
    return device, host, rigs.mha_side(device, host, "kv", place.share())


def _mamba_extra(place: Place) -> Extra:
    from sglang.srt.mem_cache.device_pool_info import MambaStateBufferInfo
    from sglang.srt.mem_cache.pool_host.mamba import MambaPoolHost

    layers = LAYERS - 1
    info = MambaStateBufferInfo(
        temporal=torch.zeros(layers, STATES, 2, 8, 6),
        conv=(
            torch.zeros(layers, STATES, 12, 3, dtype=torch.bfloat16),
            torch.zeros(layers, STATES, 5, 3, dtype=torch.bfloat16),
        ),
    )
    host = MambaPoolHost(
        info, 2.0, 0, device_capacity=STATES, pin_memory=False, layout=place.layout
    )
    pieces = [(f"temporal{i}", info.temporal[i]) for i in range(layers)]
    pieces += [(f"conv{n}.{i}", t[i]) for n, t in enumerate(info.conv) for i in range(layers)]
    slots = Slots(STATES)
    device = SimpleNamespace(alloc=slots.alloc, free=slots.free, info=info)
    side = Side("mamba", place.share(), pieces, 1, host_tensors=host_tensors(host))
    return Extra(side, _entry("mamba", host, device, layers), source="", trailing=1, alloc=slots)


def mha_mamba(place: Place) -> Rig:
    return _rig(place, *_mha_parts(place), [_mamba_extra(place)])


def mla_mamba(place: Place) -> Rig:
    """KV the same on every rank, states not."""
    device = rigs.mla_device()
    host = rigs.mla_host(device, place.layout)
    return _rig(place, device, host, rigs.mla_side(device, host), [_mamba_extra(place)])


def mha_swa(place: Place) -> Rig:
    """A window of two pages in a pool with its own heads and layers."""
    window = rigs.mha_device(heads=2, dim=8, layers=LAYERS - 1, pages=STATES)
    host = rigs.mha_host(window, place.layout)
    slots = Slots(window.size, PAGE)
    entry = _entry(
        "swa", host, window, LAYERS - 1, device_alloc_fn=slots.alloc, device_free_fn=slots.free
    )
    side = rigs.mha_side(window, host, "swa", place.share())
    extra = Extra(side, entry, source="", trailing=2, alloc=slots)
    return _rig(place, *_mha_parts(place), [extra])


def mha_draft(place: Place) -> Rig:
    """A draft model's pool that rides on the pages of the KV pool."""
    device, host, kv = _mha_parts(place)
    draft = rigs.mha_device(heads=2, layers=1)
    draft_host = rigs.mha_host(draft, place.layout, tokens=host.size)
    side = rigs.mha_side(draft, draft_host, "draft", place.share())
    extra = Extra(side, _entry("draft", draft_host, draft, 1))
    return _rig(place, device, host, kv, [extra])


def mha_packed(place: Place) -> Rig:
    """A draft layer packed into the pages of the KV pool."""
    device = rigs.mha_device(heads=4 // place.size)
    draft = rigs.mha_device(heads=4 // place.size, layers=1)
    host = rigs.mha_host(device, place.layout, drafts=(draft,))
    kv = rigs.mha_side(device, host, "kv", place.share())
    kv.tensors += rigs.mha_side(draft, host, "kv", place.share(), "draft").tensors
    return _rig(place, device, host, kv, [], drafts=(draft,))


def mha_k_only(place: Place) -> Rig:
    from sglang.srt.mem_cache.memory_pool import MHATokenToKOnlyPool
    from sglang.srt.mem_cache.pool_host.mha import MHATokenToKOnlyPoolHost

    device, host, kv = _mha_parts(place)
    index = MHATokenToKOnlyPool(
        device.size, PAGE, torch.bfloat16, 1, 24, LAYERS, "cpu", False
    )
    index_host = MHATokenToKOnlyPoolHost(index, host, place.layout, pin_memory=False)
    pieces = [(f"k{i}", tensor) for i, tensor in enumerate(index.k_buffer)]
    side = Side("indexer", place.share(), pieces, PAGE, host_tensors=[index_host.k_buffer])
    extra = Extra(side, _entry("indexer", index_host, index, LAYERS))
    return _rig(place, device, host, kv, [extra])


def dsa(place: Place) -> Rig:
    """Latent KV with the indexer of DeepSeek-V3.2: pages of 64 tokens."""
    from sglang.srt.mem_cache.memory_pool import DSATokenToKVPool
    from sglang.srt.mem_cache.pool_host.dsa import (
        DSAIndexerPoolHost,
        make_dsa_indexer_pool_decl,
    )

    page = 64
    device = DSATokenToKVPool(
        STATES * page, page, 48, torch.bfloat16, 16, LAYERS, "cpu", 128, False, 64
    )
    host = rigs.mla_host(device, place.layout)
    decl = make_dsa_indexer_pool_decl(device)
    index_host = DSAIndexerPoolHost(decl=decl, anchor_host=host, pin_memory=False)
    pieces = [(f"index{i}", t) for i, t in enumerate(device.index_k_with_scale_buffer)]
    buffers = [index_host.index_k_with_scale_buffer]
    side = Side("indexer", "all", pieces, page, page, host_tensors=buffers)
    extra = Extra(side, _entry("indexer", index_host, device, LAYERS))
    return _rig(place, device, host, rigs.mla_side(device, host), [extra])


def _v4_paged(name: str, place: Place, item_bytes: int, pages: int, device_pages: int) -> Extra:
    from sglang.srt.mem_cache.memory_pool_host import DeepSeekV4PagedHostPool

    buffers = [torch.zeros(device_pages, item_bytes, dtype=torch.uint8) for _ in range(LAYERS)]
    host = DeepSeekV4PagedHostPool(
        name, buffers, item_bytes, pages, PAGE, layout=place.layout, pin_memory=False,
        page_aligned_only=True,
    )
    pieces = [(f"row{i}", tensor) for i, tensor in enumerate(buffers)]
    side = Side(name, "all", pieces, PAGE, PAGE, host_tensors=host_tensors(host))
    return Extra(side, _entry(name, host, SimpleNamespace(buffers=buffers), LAYERS))


def _v4_window(place: Place) -> Extra:
    extra = _v4_paged("swa", place, 96, STATES, STATES)
    slots = Slots(STATES * PAGE, PAGE)
    extra.entry.device_alloc_fn, extra.entry.device_free_fn = slots.alloc, slots.free
    extra.source, extra.trailing, extra.alloc = "", 1, slots
    return extra


def _v4_state(name: str, place: Place) -> Extra:
    """Rides on the slots of the window."""
    from sglang.srt.mem_cache.memory_pool_host import DeepSeekV4StateHostPool

    ring = 2
    states = [torch.zeros(STATES * ring, 6, dtype=torch.float32) for _ in range(LAYERS)]
    pools = [
        SimpleNamespace(kv_score_buffer=SimpleNamespace(kv_score=state), ring_size=ring)
        for state in states
    ]
    host = DeepSeekV4StateHostPool(
        name, pools, STATES, PAGE, layout=place.layout, pin_memory=False
    )
    pieces = [(f"state{i}", view) for i, view in enumerate(host.device_page_views)]
    side = Side(name, "all", pieces, PAGE, PAGE, host_tensors=host_tensors(host))
    entry = _entry(name, host, SimpleNamespace(pools=pools), LAYERS)
    return Extra(side, entry, source="swa", trailing=1)


def v4(place: Place) -> Rig:
    """A KV pool without a buffer; its bytes are in paged pools, a window and its states."""
    from sglang.srt.mem_cache.memory_pool_host import LogicalHostPool

    device = rigs.mla_device(layers=LAYERS)  # Stands for the pool of tokens; never filled.
    host = LogicalHostPool(PAGES * PAGE * 2, PAGE, layout=place.layout)
    n_pages, n_device = host.size // PAGE, device.size // PAGE + 1
    extras = [
        _v4_paged("deepseek_v4_c4", place, 584, n_pages, n_device),
        _v4_paged("deepseek_v4_c4_indexer", place, 132, n_pages, n_device),
        _v4_window(place),
        _v4_state("deepseek_v4_c4_state", place),
    ]
    return _rig(place, device, host, None, extras)
