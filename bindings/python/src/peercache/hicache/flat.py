"""Pools that tell no addresses: their pages are copied out and in, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peercache.hicache.guard import ContractError
from peercache.hicache.values import Memory, tensor_memory


def _contiguous(tensor: Any) -> Any:
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def page_bytes(pool: Any) -> int:
    """Bytes of a flat page. Raises whatever a pool without flat pages raises."""
    if not callable(getattr(pool, "set_from_flat_data_page", None)):
        raise ContractError("no set_from_flat_data_page")
    return tensor_memory(_contiguous(pool.get_data_page(0))).nbytes


def copies_of(pool: Any, starts: Sequence[int]) -> list[Memory]:
    """The pages that begin at these tokens, as they are now."""
    return [tensor_memory(_contiguous(pool.get_data_page(start))) for start in starts]


def empty_pages(pool: Any, n: int) -> list[Memory]:
    """Memory for n flat pages that shares nothing with the pool."""
    dummy = getattr(pool, "get_dummy_flat_data_page", None)
    pages = []
    for _ in range(n):
        page = dummy() if callable(dummy) else pool.get_data_page(0).clone()
        pages.append(tensor_memory(_contiguous(page)))
    return pages


def put_back(pool: Any, start: int, page: Memory) -> None:
    """Copy a flat page to the page that begins at token `start`."""
    pool.set_from_flat_data_page(start, page.keep)
