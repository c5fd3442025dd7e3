"""What a device pool holds, for filling and comparing page by page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from pattern import as_bytes, is_poison, piece_bytes, poison


@dataclass
class Side:
    """The device tensors of one pool, each with slots along its first dimension.

    `tokens_per_slot` is 1 where a slot is a token (or a state), the page size where it is
    a page. `rank` names the share that the pool holds, "all" if every rank has the same.
    """

    pool: str
    rank: str
    tensors: list[tuple[str, torch.Tensor]]
    page_size: int
    tokens_per_slot: int = 1
    host_tensors: list[torch.Tensor] = field(default_factory=list)

    def _rows(self, indices: torch.Tensor, page: int) -> torch.Tensor:
        tokens = indices[page * self.page_size : (page + 1) * self.page_size]
        return tokens[:: self.tokens_per_slot] // self.tokens_per_slot

    def fill(self, keys: list[str], indices: torch.Tensor) -> None:
        for page, key in enumerate(keys):
            rows = self._rows(indices, page)
            for piece, tensor in self.tensors:
                shape = as_bytes(tensor)[rows].shape
                new = piece_bytes(key, self.pool, self.rank, piece, shape.numel())
                as_bytes(tensor)[rows] = new.reshape(shape)

    def compare(self, keys: list[str], indices: torch.Tensor) -> int:
        """The number of bytes compared; AssertionError names the first wrong one."""
        n_bytes = 0
        for page, key in enumerate(keys):
            rows = self._rows(indices, page)
            for piece, tensor in self.tensors:
                found = as_bytes(tensor)[rows].flatten()
                right = piece_bytes(key, self.pool, self.rank, piece, found.numel())
                if not torch.equal(found, right):
                    at = int((found != right).nonzero()[0])
                    kind = "poison" if is_poison(found[at:]) else "foreign bytes"
                    raise AssertionError(
                        f"pool {self.pool}, page {page} ({key[:8]}), piece {piece}: {kind} "
                        f"from byte {at} of {found.numel()}"
                    )
                n_bytes += found.numel()
        return n_bytes

    def poison_device(self) -> None:
        for _, tensor in self.tensors:
            poison(tensor)

    def poison_host(self) -> None:
        for tensor in self.host_tensors:
            poison(tensor)

    def all_poison_but(self, indices: torch.Tensor) -> bool:
        """Whether nothing outside of the slots of `indices` was written on the device."""
        rows = indices[:: self.tokens_per_slot] // self.tokens_per_slot
        for _, tensor in self.tensors:
            others = torch.ones(tensor.shape[0], dtype=torch.bool)
            others[rows] = False
            if not is_poison(as_bytes(tensor)[others]):
                return False
        return True


def host_tensors(pool: Any) -> list[torch.Tensor]:
    """The buffers of a host pool, whatever it calls them."""
    if hasattr(pool, "get_hybrid_pool_buffer"):
        found = pool.get_hybrid_pool_buffer()
    else:
        found = pool.kv_buffer
    if found is None:
        return []
    parts = list(found) if isinstance(found, (list, tuple)) else [found]
    return [part for part in parts if part.numel() > 0]
