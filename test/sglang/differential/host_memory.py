"""The host pools of one instance: real ones, filled and compared page by page."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

import hybrid_rigs
import rigs
from pattern import as_bytes, poison
from sides import host_tensors

SLOTS = 24  # Of each pool, pages that the test uses.


@dataclass(frozen=True)
class Model:
    """What an instance serves, and which of its calls meet.

    `generic_pages`: a page stored by one kind of call is found by the other. It is not
    so with layer_first, whose flat pages have other bytes than their pieces in order.
    """

    name: str
    rig: str
    layout: str
    interface_v1: bool = True
    generic_pages: bool = True
    replicated: bool = False
    trailing: tuple[tuple[str, int], ...] = ()  # Side pools; 0: pages of the whole prefix.

    def __str__(self) -> str:
        return self.name


class HostMemory:
    """Pools by name, "kv" first."""

    def __init__(self, model: Model) -> None:
        place = rigs.Place(model.layout)
        build = getattr(rigs, model.rig, None) or getattr(hybrid_rigs, model.rig)
        rig = build(place)
        self.pools: dict[str, Any] = {"kv": rig.controller.mem_pool_host}
        if rig.entries:
            self.pools = {str(entry.name): entry.host_pool for entry in rig.entries}
        tensors = [t for pool in self.pools.values() for t in host_tensors(pool)]
        self._words = [_words(tensor) for tensor in tensors]
        self._tensors = tensors
        self.reset()

    def indices(self, pool: str, slots: Sequence[int]) -> torch.Tensor:
        """The token indices of pages, as SGLang passes them."""
        size = self.pools[pool].page_size
        tokens = [slot * size + i for slot in slots for i in range(size)]
        return torch.tensor(tokens, dtype=torch.int64)

    def page(self, pool: str, slot: int) -> torch.Tensor:
        """Flat, as the generic path takes it."""
        host = self.pools[pool]
        return host.get_data_page(slot * host.page_size)

    def empty_page(self, pool: str) -> torch.Tensor:
        return self.pools[pool].get_dummy_flat_data_page()

    def fill(self, pool: str, slot: int, content: int) -> None:
        """Bytes that nothing else has, derived from the number `content`."""
        host, page = self.pools[pool], self.empty_page(pool)
        fill(page, content)
        host.set_from_flat_data_page(slot * host.page_size, page)

    def reset(self) -> None:
        """Nothing is left of an earlier sequence."""
        for tensor in self._tensors:
            poison(tensor)

    def poison(self, pool: str, slots: Sequence[int]) -> None:
        for slot in slots:
            page = self.empty_page(pool)
            poison(page)
            host = self.pools[pool]
            host.set_from_flat_data_page(slot * host.page_size, page)

    def differs(self, other: HostMemory) -> bool:
        return any(not torch.equal(a, b) for a, b in zip(self._words, other._words))


def _words(tensor: torch.Tensor) -> torch.Tensor:
    """All bytes, in the widest type that they fill: quicker to compare."""
    flat = as_bytes(tensor).flatten()
    return flat.view(torch.int64) if flat.numel() % 8 == 0 else flat


def fill(tensor: torch.Tensor, content: int) -> None:
    """All bytes of a flat tensor, derived from the number `content`."""
    flat = as_bytes(tensor)
    data = random.Random(content).randbytes(flat.numel())
    flat.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))


def same_bytes(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(as_bytes(a), as_bytes(b))
