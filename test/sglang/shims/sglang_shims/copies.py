"""SGLang's copies between device and host pools, on a CPU.

Index tensors hold token slots (page slots for pools that count pages); sizes, strides and
the entries of address tables are bytes. Keywords that change nothing here are ignored.
Two families, named as in SGLang: "direct" works on tensors page by page, the other on rows
at addresses, one row being one token of one layer. lf, pf, ph: layer first, page first,
page head (page, head, token, layer, dimension).
"""

import ctypes
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

# ---- On tensors, page by page -------------------------------------------------


def _pages(indices: Any, page_size: int) -> list[int]:
    """The first slot of each page."""
    slots: list[int] = indices[::page_size].tolist()
    return slots


def transfer_kv_direct(
    src_layers: Sequence[Any], dst_layers: Sequence[Any], src_indices: Any, dst_indices: Any,
    page_size: int, **_: Any,
) -> None:
    for src, dst in zip(src_layers, dst_layers):
        dst[dst_indices] = src[src_indices].to(dst.dtype)


def transfer_kv_all_layer_direct_lf_pf(
    src_ptrs: Sequence[Any], dst_ptrs: Sequence[Any], src_indices: Any, dst_indices: Any,
    page_size: int, **_: Any,
) -> None:
    """From the layers of each destination in turn to (page, layer, token, ...)."""
    n_layers = len(src_ptrs) // len(dst_ptrs)
    pairs = list(zip(_pages(src_indices, page_size), _pages(dst_indices, page_size)))
    for at, src in enumerate(src_ptrs):
        dst, layer = dst_ptrs[at // n_layers], at % n_layers
        for s, d in pairs:
            page = dst[d // page_size][layer]
            page.copy_(src[s : s + page_size].reshape(page.shape))


def transfer_kv_per_layer_direct_pf_lf(
    src_ptrs: Sequence[Any], dst_ptrs: Sequence[Any], src_indices: Any, dst_indices: Any,
    layer_id: int, page_size: int, **_: Any,
) -> None:
    pairs = list(zip(_pages(src_indices, page_size), _pages(dst_indices, page_size)))
    for src, dst in zip(src_ptrs, dst_ptrs):
        for s, d in pairs:
            page = dst[d : d + page_size]
            page.copy_(src[s // page_size][layer_id].reshape(page.shape))


# ---- On rows at addresses -------------------------------------------------------


def _address(place: Any) -> int:
    return int(place.data_ptr())


def _addresses(table: Any) -> list[int]:
    """Of a tensor of addresses: unsigned, whatever its type says."""
    return [address & 0xFFFFFFFFFFFFFFFF for address in table.tolist()]


def _rows(
    src: int, dst: int, slots: Iterable[tuple[int, int]], src_step: int, dst_step: int, size: int
) -> None:
    for s, d in slots:
        ctypes.memmove(dst + d * dst_step, src + s * src_step, size)


def _slots(src_indices: Any, dst_indices: Any) -> list[tuple[int, int]]:
    return list(zip(src_indices.tolist(), dst_indices.tolist()))


def transfer_kv_per_layer_mla(
    src: Any, dst: Any, src_indices: Any, dst_indices: Any, item_size: int, **_: Any
) -> None:
    slots = _slots(src_indices, dst_indices)
    _rows(_address(src), _address(dst), slots, item_size, item_size, item_size)


def transfer_kv_all_layer_mla(
    src_layers: Any, dst_layers: Any, src_indices: Any, dst_indices: Any, item_size: int,
    num_layers: int, **_: Any,
) -> None:
    slots = _slots(src_indices, dst_indices)
    for src, dst in zip(_addresses(src_layers), _addresses(dst_layers)):
        _rows(src, dst, slots, item_size, item_size, item_size)


def transfer_kv_all_layer_mla_lf_pf(
    src_layers: Any, dst: Any, src_indices: Any, dst_indices: Any, item_size: int,
    dst_layout_dim: int, num_layers: int, **_: Any,
) -> None:
    slots = _slots(src_indices, dst_indices)
    for layer, src in enumerate(_addresses(src_layers)):
        to = _address(dst) + layer * item_size
        _rows(src, to, slots, item_size, dst_layout_dim, item_size)


def transfer_kv_per_layer_mla_pf_lf(
    src: Any, dst: Any, src_indices: Any, dst_indices: Any, layer_id: int, item_size: int,
    src_layout_dim: int, **_: Any,
) -> None:
    slots = _slots(src_indices, dst_indices)
    start = _address(src) + layer_id * item_size
    _rows(start, _address(dst), slots, src_layout_dim, item_size, item_size)


def transfer_kv_mamba_lf_pf(src_ptrs: Any, **given: Any) -> None:
    """States are copied as latent rows are, a slot being a row."""
    transfer_kv_all_layer_mla_lf_pf(src_layers=src_ptrs, **given)


def transfer_kv_all_layer_lf_ph(
    src_k_layers: Any, dst_k: Any, src_v_layers: Any, dst_v: Any, src_indices: Any,
    dst_indices: Any, item_size: int, page_size: int, head_num: int, **_: Any,
) -> None:
    """Each row of a layer is cut into its heads."""
    slots = _slots(src_indices, dst_indices)
    for table, pages in ((src_k_layers, dst_k), (src_v_layers, dst_v)):
        for layer, base in enumerate(_addresses(table)):
            for s, d in slots:
                _move_heads(pages, d, layer, base + s * item_size, page_size, True)


def transfer_kv_per_layer_ph_lf(
    src_k: Any, dst_k: Any, src_v: Any, dst_v: Any, src_indices: Any, dst_indices: Any,
    layer_id: int, item_size: int, page_size: int, head_num: int, **_: Any,
) -> None:
    for pages, rows in ((src_k, dst_k), (src_v, dst_v)):
        base = _address(rows)
        for s, d in _slots(src_indices, dst_indices):
            _move_heads(pages, s, layer_id, base + d * item_size, page_size, False)


def _move_heads(
    pages: Any, slot: int, layer: int, row: int, page_size: int, to_pages: bool
) -> None:
    """Between one token's row at an address and its places in (page, head, token, layer)."""
    part = pages[slot // page_size][:, slot % page_size, layer]
    size = part.shape[-1] * part.element_size()
    step = part.stride(0) * part.element_size()
    for head in range(part.shape[0]):
        place, cell = row + head * size, _address(part) + head * step
        ctypes.memmove(*((cell, place) if to_pages else (place, cell)), size)


def _for_k_and_v(copy: Callable[..., None], src: str, dst: str) -> Callable[..., None]:
    """The variant for two tensors of one that copies a single one."""
    prefix_src, _, rest_src = src.partition("_")
    prefix_dst, _, rest_dst = dst.partition("_")

    def name(prefix: str, side: str, rest: str) -> str:
        return "_".join(part for part in (prefix, side, rest) if part)

    def both(**given: Any) -> None:
        for side in ("k", "v"):
            single = {src: given[name(prefix_src, side, rest_src)]}
            single[dst] = given[name(prefix_dst, side, rest_dst)]
            copy(**single, **{key: given[key] for key in given if key not in single})

    return both


COPIES: dict[str, Callable[..., None]] = {
    call.__name__: call
    for call in (
        transfer_kv_direct,
        transfer_kv_all_layer_direct_lf_pf,
        transfer_kv_per_layer_direct_pf_lf,
        transfer_kv_per_layer_mla,
        transfer_kv_all_layer_mla,
        transfer_kv_all_layer_mla_lf_pf,
        transfer_kv_per_layer_mla_pf_lf,
        transfer_kv_mamba_lf_pf,
        transfer_kv_all_layer_lf_ph,
        transfer_kv_per_layer_ph_lf,
    )
}
COPIES["transfer_kv_mamba_pf_lf"] = transfer_kv_per_layer_mla_pf_lf
COPIES["transfer_kv_per_layer"] = _for_k_and_v(transfer_kv_per_layer_mla, "src", "dst")
COPIES["transfer_kv_all_layer"] = _for_k_and_v(
    transfer_kv_all_layer_mla, "src_layers", "dst_layers"
)
COPIES["transfer_kv_all_layer_lf_pf"] = _for_k_and_v(
    transfer_kv_all_layer_mla_lf_pf, "src_layers", "dst"
)
COPIES["transfer_kv_per_layer_pf_lf"] = _for_k_and_v(
    transfer_kv_per_layer_mla_pf_lf, "src", "dst"
)


def fill_in(module: ModuleType) -> None:
    """Give a module of host pools the copies that it could not import."""
    for name, call in COPIES.items():
        if not hasattr(module, name):
            setattr(module, name, call)
