"""What a host pool's pages look like, found out by asking it for a few.

No pool is known by name or class: how many pieces a page has, how long they are
and where they lie is what get_page_buffer_meta answers. If the answers of several
pages lie on straight lines, the library computes the addresses itself; a pool
does it in Python, piece by piece.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any, Optional

from peercache._native import PageTable
from peercache.hicache.guard import ContractError

Meta = Callable[[Any], Any]

# Pages that have to lie on one line before the others are believed to.
_SAMPLE = 48


class Indices(list[int]):
    """Token indices where there is no torch: a list that answers like a tensor."""

    def tolist(self) -> list[int]:
        """The numbers."""
        return list(self)

    def numel(self) -> int:
        """How many."""
        return len(self)

    def __getitem__(self, at: Any) -> Any:
        part = super().__getitem__(at)
        return Indices(part) if isinstance(part, list) else part


def token_indices(pages: Sequence[int], page_size: int) -> Any:
    """Indices of all tokens of these pages, as SGLang would hand them over."""
    tokens = [page * page_size + i for page in pages for i in range(page_size)]
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "tensor"):
        return torch.tensor(tokens, dtype=torch.int64)
    return Indices(tokens)


@dataclasses.dataclass(frozen=True)
class Pieces:
    """A page as n_values values of len(sizes) pieces each.

    sizes: bytes of the pieces of one value, the same for all values of a page.
    tables: one per value, if the addresses lie on straight lines.
    """

    meta: Meta
    n_values: int
    sizes: tuple[int, ...]
    tables: Optional[tuple[PageTable, ...]] = None

    @property
    def per_page(self) -> int:
        """Pointers of a page."""
        return self.n_values * len(self.sizes)

    def pointers(self, indices: Any, n_pages: int) -> list[int]:
        """Addresses of all pieces of all pages, page by page.

        Raises ContractError if count or sizes are not those of the probe.
        """
        answer = _ask(self.meta, indices)
        if answer is None:
            raise ContractError("a pool that told addresses tells none now")
        pointers, sizes = answer
        if len(pointers) != n_pages * self.per_page:
            raise ContractError(f"{len(pointers)} pieces for {n_pages} pages of {self.per_page}")
        if sizes != list(self.sizes) * (n_pages * self.n_values):
            raise ContractError("the sizes of pieces have changed since the pool was registered")
        return pointers


def _ints(numbers: Any) -> list[int]:
    listed = numbers.tolist() if hasattr(numbers, "tolist") else list(numbers)
    if any(type(number) is not int for number in listed):
        listed = [int(number) for number in listed]
    return listed


def _ask(meta: Meta, indices: Any) -> Optional[tuple[list[int], list[int]]]:
    """Addresses and sizes, or None where the pool has no memory of its own."""
    answer = meta(indices)
    if answer is None:
        return None
    pointers, sizes = answer
    return _ints(pointers), _ints(sizes)


def probe(
    meta: Meta, page_size: int, n_pages: int, n_values: int, moves: bool = False
) -> Optional[Pieces]:
    """Ask for page 0, and prove what is said about the others.

    moves: pages change their place, what is proven now holds for now only.
    None: the pool has pages but no memory. Raises ContractError for an answer
    that makes no sense, and whatever the pool raises.
    """
    answer = _ask(meta, token_indices([0], page_size))
    if answer is None:
        return None
    pointers, sizes = answer
    n_pieces = len(pointers) // n_values
    if not pointers or len(pointers) != len(sizes) or n_pieces * n_values != len(pointers):
        raise ContractError(f"{len(pointers)} addresses and {len(sizes)} sizes for a page")
    if min(sizes) <= 0 or min(pointers) <= 0:
        raise ContractError("empty pieces")
    if sizes != sizes[:n_pieces] * n_values:
        raise ContractError("the parts of a page differ in size")
    tables = None
    if not moves:
        tables = _tables(meta, page_size, n_pages, n_values, pointers, sizes)
    return Pieces(meta, n_values, tuple(sizes[:n_pieces]), tables)


def _sample(n_pages: int) -> list[int]:
    """Pages to look at, ascending: all of few, else first, last and some between.

    Those between have no common stride, so that pages in a regular disorder
    are not taken for a line.
    """
    if n_pages <= _SAMPLE:
        return list(range(n_pages))
    between = {i * 2654435761 % n_pages for i in range(_SAMPLE)}
    return sorted({0, 1, 2, n_pages - 1} | between)


def _tables(
    meta: Meta,
    page_size: int,
    n_pages: int,
    n_values: int,
    bases: list[int],
    sizes: list[int],
) -> Optional[tuple[PageTable, ...]]:
    """Tables of addresses, if those of the sample lie on lines; else None."""
    sample = _sample(n_pages)
    if len(sample) < 2:
        return None
    try:
        answer = _ask(meta, token_indices(sample, page_size))
    except Exception:
        return None
    m = len(bases)
    if answer is None or len(answer[0]) != m * len(sample):
        raise ContractError("several pages have not the pieces of one")
    pointers, all_sizes = answer
    if all_sizes != sizes * len(sample) or pointers[:m] != bases:
        raise ContractError("pages differ in their pieces")
    strides = [second - first for first, second in zip(bases, pointers[m : 2 * m])]
    for i, page in enumerate(sample):
        line = [base + page * stride for base, stride in zip(bases, strides)]
        if pointers[i * m : (i + 1) * m] != line:
            return None
    if any(stride < size for stride, size in zip(strides, sizes)):
        return None
    k = m // n_values
    return tuple(
        PageTable(bases[v * k : (v + 1) * k], strides[v * k : (v + 1) * k], sizes[:k])
        for v in range(n_values)
    )
