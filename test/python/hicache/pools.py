"""Host pool doubles: a page is pieces at base + slot * stride in numpy memory.

Each maker below is one row of the contract's table of pools. A pool answers
get_page_buffer_meta as the real ones do, is as strict about its indices, and can
fill, poison and check its own pages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Callable, Optional

import numpy as np

from hicache.content import POISON, content
from hicache.tensors import (
    BFLOAT16,
    FLOAT32,
    UINT8,
    Bytes,
    DtypeDouble,
    TensorDouble,
    bytes_of,
    empty_tensor,
)

N_PAGES = 24


@dataclass(frozen=True)
class Piece:
    """Of the page in a slot: buffer[offset + slot * stride :][: size]."""

    buffer: int
    offset: int
    stride: int
    size: int


class PoolDouble:
    """A host pool. `owner` goes into its contents: the pool, and who shares it."""

    def __init__(
        self,
        owner: str,
        layout: str,
        page_size: int,
        pieces: list[Piece],
        n_pages: int = N_PAGES,
        dtype: DtypeDouble = BFLOAT16,
        layers: int = 1,
        start_layer: int = 0,
        flat_order: Optional[list[int]] = None,
        **attributes: Any,
    ) -> None:
        self.owner = owner
        self.layout = layout
        self.page_size = page_size
        self.page_num = n_pages
        self.size = n_pages * page_size
        self.dtype = dtype
        self.layer_num = layers
        self.start_layer = start_layer
        self.end_layer = start_layer + layers - 1
        self.device = "cpu"
        self.pieces = pieces
        self.flat_order = flat_order if flat_order is not None else list(range(len(pieces)))
        self.buffers = self._allocate()
        tensors = [TensorDouble(memory, dtype) for memory in self.buffers]
        self.kv_buffer: Any = tensors[0] if len(tensors) == 1 else tuple(tensors)
        for name, value in attributes.items():
            setattr(self, name, value)
        self.poison(range(n_pages))

    def _allocate(self) -> list[Bytes]:
        ends: dict[int, int] = {}
        for p in self.pieces:
            end = p.offset + (self.page_num - 1) * p.stride + p.size
            ends[p.buffer] = max(ends.get(p.buffer, 0), end)
        return [np.zeros(ends[i], np.uint8) for i in sorted(ends)]

    @property
    def page_bytes(self) -> int:
        return sum(p.size for p in self.pieces)

    def view(self, slot: int, j: int) -> Bytes:
        p = self.pieces[j]
        return self.buffers[p.buffer][p.offset + slot * p.stride :][: p.size]

    # What SGLang's own code calls.

    def _slots(self, indices: Any) -> list[int]:
        tokens = indices.tolist()
        assert len(tokens) == len(indices) and len(tokens) % self.page_size == 0
        slots = []
        for i in range(0, len(tokens), self.page_size):
            page = tokens[i : i + self.page_size]
            assert page[0] % self.page_size == 0, "a page begins at a multiple"
            assert page == list(range(page[0], page[0] + self.page_size)), "ascending in a page"
            assert 0 <= page[0] < self.size, "a slot of the pool"
            slots.append(page[0] // self.page_size)
        return slots

    def get_page_buffer_meta(self, indices: Any) -> Any:
        views = [self.view(s, j) for s in self._slots(indices) for j in range(len(self.pieces))]
        return [int(view.ctypes.data) for view in views], [view.nbytes for view in views]

    def flat_bytes(self, slot: int) -> Bytes:
        return np.concatenate([self.view(slot, j) for j in self.flat_order])

    def get_data_page(self, index: Any, flat: bool = True) -> TensorDouble:
        """A copy of one page; index is its first token."""
        return TensorDouble(self.flat_bytes(int(index) // self.page_size), self.dtype)

    def get_dummy_flat_data_page(self) -> TensorDouble:
        return TensorDouble(np.zeros(self.page_bytes, np.uint8), self.dtype)

    def set_from_flat_data_page(self, index: Any, page: Any) -> None:
        flat = np.frombuffer(bytes_of(page), np.uint8)
        assert flat.nbytes == self.page_bytes
        for j in self.flat_order:
            view = self.view(int(index) // self.page_size, j)
            view[:], flat = flat[: view.nbytes], flat[view.nbytes :]

    # What tests call.

    def expected(self, key: str, j: int) -> Bytes:
        return content(self.owner, key, j, self.pieces[j].size)

    def fill(self, slots: Iterable[int], keys: Iterable[str]) -> None:
        for slot, key in zip(slots, keys):
            for j in range(len(self.pieces)):
                self.view(slot, j)[:] = self.expected(key, j)

    def poison(self, slots: Iterable[int]) -> None:
        for slot in slots:
            for j in range(len(self.pieces)):
                self.view(slot, j)[:] = POISON

    def holds(self, slot: int, key: str) -> bool:
        n = len(self.pieces)
        return all(np.array_equal(self.view(slot, j), self.expected(key, j)) for j in range(n))

    def check(self, slots: Iterable[int], keys: Iterable[str]) -> None:
        for slot, key in zip(slots, keys):
            assert self.holds(slot, key), f"{self.owner}: wrong bytes in slot {slot}"

    def is_poisoned(self, slots: Iterable[int]) -> bool:
        pairs = [(slot, j) for slot in slots for j in range(len(self.pieces))]
        return all(bool((self.view(slot, j) == POISON).all()) for slot, j in pairs)

    def others(self, slots: Iterable[int]) -> list[int]:
        return sorted(set(range(self.page_num)) - set(slots))


def _in_a_row(sizes: list[int], n_pages: int, buffers: Optional[list[int]] = None) -> list[Piece]:
    """Page-first: each piece has its part of the memory, or a buffer of its own."""
    pieces, at = [], 0
    for j, size in enumerate(sizes):
        if buffers is not None:
            pieces.append(Piece(buffers[j], 0, size, size))
        else:
            pieces.append(Piece(0, at, size, size))
            at += size * n_pages
    return pieces


def mha(
    owner: str = "kv",
    layout: str = "page_first",
    *,
    layers: int = 3,
    heads: int = 2,
    dim: int = 16,
    page_size: int = 4,
    n_pages: int = N_PAGES,
    dtype: DtypeDouble = BFLOAT16,
    **more: Any,
) -> PoolDouble:
    """K and V alike: two pieces a page, or K and V of each layer (layer_first)."""
    row = page_size * heads * dim * dtype.itemsize
    about: dict[str, Any] = {"head_num": heads, "head_dim": dim, "layers": layers}
    about |= {"dtype": dtype, **more}
    if layout != "layer_first":
        pieces = _in_a_row([layers * row] * 2, n_pages)
        return PoolDouble(owner, layout, page_size, pieces, n_pages, **about)
    layer, half = row * n_pages, row * n_pages * layers
    pieces = [Piece(0, kv * half + i * layer, row, row) for i in range(layers) for kv in (0, 1)]
    order = [*range(0, 2 * layers, 2), *range(1, 2 * layers, 2)]
    return PoolDouble(owner, layout, page_size, pieces, n_pages, flat_order=order, **about)


class _NoFlatPages(PoolDouble):
    def get_data_page(self, index: Any, flat: bool = True) -> TensorDouble:
        raise NotImplementedError("no flat pages")

    def get_dummy_flat_data_page(self) -> TensorDouble:
        raise NotImplementedError("no flat pages")

    def set_from_flat_data_page(self, index: Any, page: Any) -> None:
        raise NotImplementedError("no flat pages")


def unequal(owner: str = "kv", layout: str = "page_first", **more: Any) -> PoolDouble:
    """K and V of different head dims, in buffers of their own (a tuple)."""
    page_size, heads, layers = 4, 2, 3
    sizes = [layers * page_size * heads * dim * 2 for dim in (24, 16)]
    pieces = _in_a_row(sizes, N_PAGES, [0, 1])
    return _NoFlatPages(
        owner, layout, page_size, pieces, layers=layers, head_num=heads, head_dim=24, **more
    )


class SplitPool(PoolDouble):
    """page_head with the part for a number of shards; owner names no rank.

    Its contents are by head, counted over all ranks, so that ranks of another
    TP size can tell whether they got theirs.
    """

    heads_per_rank = 1
    first_head = 0

    def _head_views(self, slot: int, j: int) -> list[Bytes]:
        return list(self.view(slot, j).reshape(self.heads_per_rank, -1))

    def get_split_heads_page_buffer_meta(self, indices: Any, split: Any) -> Any:
        split = int(split)
        assert self.heads_per_rank % split == 0
        views = [
            self.view(slot, j).reshape(split, -1)[shard]
            for slot in self._slots(indices)
            for shard in range(split)
            for j in (0, 1)
        ]
        return [int(view.ctypes.data) for view in views], [view.nbytes for view in views]

    def expected(self, key: str, j: int) -> Bytes:
        size = self.pieces[j].size // self.heads_per_rank
        heads = range(self.first_head, self.first_head + self.heads_per_rank)
        return np.concatenate([content(self.owner, key, f"{j}h{h}", size) for h in heads])


def split_heads(tp_rank: int, tp_size: int, all_heads: int = 4) -> SplitPool:
    """The part of one TP rank of a pool whose layout is page_head."""
    heads = all_heads // tp_size
    pieces = _in_a_row([3 * 4 * heads * 32] * 2, N_PAGES)
    pool = SplitPool("kv", "page_head", 4, pieces, layers=3, head_num=heads, head_dim=16)
    pool.heads_per_rank, pool.first_head = heads, tp_rank * heads
    return pool


def k_only(owner: str = "kv") -> PoolDouble:
    pieces = _in_a_row([3 * 4 * 2 * 16 * 2], N_PAGES)
    return PoolDouble(owner, "page_first", 4, pieces, layers=3, head_num=2, head_dim=16)


def mla(
    owner: str = "kv", layout: str = "page_first", *, layers: int = 3, n_pages: int = N_PAGES
) -> PoolDouble:
    """One piece a page, or one a layer; no power of two."""
    page_size, dim = 4, 72
    row = page_size * dim * 2
    if layout == "layer_first":
        pieces = [Piece(0, i * row * n_pages, row, row) for i in range(layers)]
    else:
        pieces = _in_a_row([layers * row], n_pages)
    return PoolDouble(owner, layout, page_size, pieces, n_pages, layers=layers, kv_cache_dim=dim)


def mla_kv_split(owner: str = "kv") -> PoolDouble:
    """Latent, rope, index and scale apart."""
    pieces = _in_a_row([1536, 192, 384, 48], N_PAGES, [0, 1, 2, 3])
    return PoolDouble(owner, "page_first_kv_split", 4, pieces, layers=3, kv_cache_dim=72)


def dsa_indexer(owner: str = "indexer", page_size: int = 64, layers: int = 2) -> PoolDouble:
    pieces = _in_a_row([layers * page_size * (128 + 4)], N_PAGES)
    return PoolDouble(owner, "page_first", page_size, pieces, dtype=UINT8, layers=layers)


class _HybridPool(PoolDouble):
    """Its buffers come from get_hybrid_pool_buffer alone."""

    def get_hybrid_pool_buffer(self) -> list[TensorDouble]:
        tensors = [TensorDouble(memory, self.dtype) for memory in self.buffers]
        return [*tensors, empty_tensor(self.dtype)]


def mamba(owner: str = "mamba", temporal: bool = True) -> PoolDouble:
    """States of differing sizes, page size 1; an absent state is an empty tensor."""
    sizes = ([2 * 640] if temporal else []) + [2 * 96, 2 * 72]
    pieces = _in_a_row(sizes, N_PAGES, list(range(len(sizes))))
    pool = _HybridPool(owner, "page_first", 1, pieces, dtype=FLOAT32, layers=2)
    pool.kv_buffer = None
    return pool


def swa(owner: str = "swa", layout: str = "page_first") -> PoolDouble:
    return mha(owner, layout, layers=2, heads=1, start_layer=1)


def draft(owner: str = "draft") -> PoolDouble:
    return mha(owner, layers=1, heads=1)


def v4_state(owner: str = "deepseek_v4_c4") -> PoolDouble:
    return PoolDouble(owner, "page_first", 4, _in_a_row([3 * 200], N_PAGES), layers=3, dtype=UINT8)


def v4_layer_first(owner: str = "deepseek_v4_c128") -> PoolDouble:
    """One buffer a layer; kv_buffer is a list."""
    pieces = _in_a_row([200] * 3, N_PAGES, [0, 1, 2])
    pool = PoolDouble(owner, "layer_first", 4, pieces, layers=3, dtype=UINT8)
    pool.kv_buffer = list(pool.kv_buffer)
    return pool


class _AnchorPool(PoolDouble):
    """The KV of DeepSeek-V4: indices, but no memory behind them."""

    def get_page_buffer_meta(self, indices: Any) -> Any:
        return None


def anchor(owner: str = "kv") -> PoolDouble:
    pool = _AnchorPool(owner, "page_first", 4, [], layers=3)
    pool.kv_buffer = None
    return pool


class _MXFP8Pool(_NoFlatPages):
    def get_page_buffer_meta(self, indices: Any) -> Any:
        raise NotImplementedError("scales lie elsewhere")


def mxfp8(owner: str = "kv") -> PoolDouble:
    """Neither pieces nor flat pages: nothing can be stored."""
    pieces = _in_a_row([3 * 4 * 2 * 16] * 2, N_PAGES)
    return _MXFP8Pool(owner, "page_first", 4, pieces, layers=3, dtype=UINT8, head_num=2)


class _FlatPool(PoolDouble):
    def get_page_buffer_meta(self, indices: Any) -> Any:
        raise NotImplementedError("flat pages only")


def flat_only(owner: str = "kv") -> PoolDouble:
    pieces = _in_a_row([3 * 4 * 2 * 16 * 2] * 2, N_PAGES)
    return _FlatPool(owner, "odd", 4, pieces, layers=3, head_num=2)


class _FlatViewPool(_FlatPool):
    """Lends its own memory as the flat page, as one whose pages lie in a row may."""

    def get_data_page(self, index: Any, flat: bool = True) -> TensorDouble:
        return TensorDouble(self.view(int(index) // self.page_size, 0), self.dtype)

    get_dummy_flat_data_page: Any = None


def flat_view(owner: str = "kv") -> PoolDouble:
    pieces = _in_a_row([3 * 4 * 2 * 16 * 2], N_PAGES)
    return _FlatViewPool(owner, "odd", 4, pieces, layers=3, head_num=2)


class _ScatteredPool(PoolDouble):
    """Pages lie in another order than their slots, from `first` on."""

    first = 0

    def view(self, slot: int, j: int) -> Bytes:
        n = self.page_num - self.first
        moved = slot if slot < self.first else self.first + (slot - self.first) * 7 % n
        return super().view(moved, j)


def scattered(owner: str = "kv", first: int = 0) -> PoolDouble:
    """No base and stride lead to its pages; with first, to the first ones only."""
    n_pages = 25 + first
    pieces = _in_a_row([3 * 4 * 2 * 16 * 2] * 2, n_pages)
    pool = _ScatteredPool(owner, "page_first", 4, pieces, n_pages, layers=3, head_num=2)
    pool.first = first
    return pool


def group_of(pool: PoolDouble) -> Any:
    """The pool group of the hybrid controller: nothing but its entries."""
    entry = SimpleNamespace(name="kv", host_pool=pool, is_primary_index_anchor=True)
    return SimpleNamespace(anchor_entry=entry, entries=[entry])


Maker = Callable[[], PoolDouble]

# Pools that can be the KV pool of v1 calls and hold bytes, by the row of the table.
KV_POOLS: dict[str, Maker] = {
    "mha-page_first": lambda: mha(),
    "mha-page_first_direct": lambda: mha(layout="page_first_direct"),
    "mha-page_head": lambda: mha(layout="page_head"),
    "mha-layer_first": lambda: mha(layout="layer_first"),
    "mha-fp8": lambda: mha(dtype=UINT8),
    "mha-packed-drafts": lambda: mha(layers=4),
    "mha-page-1": lambda: mha(page_size=1),
    "mha-page-64": lambda: mha(page_size=64),
    "mha-unequal": unequal,
    "k-only": k_only,
    "mla-page_first": lambda: mla(),
    "mla-page_first_direct": lambda: mla(layout="page_first_direct"),
    "mla-layer_first": lambda: mla(layout="layer_first"),
    "mla-kv-split": mla_kv_split,
    "scattered": scattered,
    "scattered-later": lambda: scattered(first=4),
    "flat-only": flat_only,
    "flat-view": flat_view,
}

# Side pools of v2 calls by the name they are registered under.
SIDE_POOLS: dict[str, Maker] = {
    "indexer": lambda: dsa_indexer(page_size=64),
    "mamba": lambda: mamba(),
    "mamba-conv-only": lambda: mamba("mamba-conv-only", temporal=False),
    "swa": lambda: swa(),
    "swa-layer_first": lambda: swa("swa-layer_first", "layer_first"),
    "draft": lambda: draft(),
    "deepseek_v4_c4": lambda: v4_state(),
    "deepseek_v4_c128": lambda: v4_layer_first(),
    "a pool of the year 2030": lambda: mla("a pool of the year 2030"),
    "flat-side": lambda: flat_only("flat-side"),
}
