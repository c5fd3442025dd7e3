"""Which prefixes of a request are legal over several pools. Pure functions.

A prefix is told by its end: the number of its pages. An end is legal if every
pool that takes part can restore the request there. The longest legal end is
not the shortest of the pools' longest ones: with 8 KV pages, a pool that is
whole at {1, 3} and one at {1, 2}, it is 1.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import operator
from collections.abc import Sequence
from typing import Any

ALL_PAGES = "all_pages"
TRAILING_PAGES = "trailing_pages"
BLOCK_GROUPS = "block_groups"


@dataclasses.dataclass(frozen=True)
class Side:
    """A pool beside the KV pool, and what was found of it.

    misses: one number per page key, 0 where the page is there. policy: one of
    the above; anything new counts as ALL_PAGES. trailing: how many last pages
    of a prefix TRAILING_PAGES needs.
    """

    name: Any
    policy: str
    trailing: int
    misses: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Legal:
    """ends: legal prefixes, ascending. hits: what was seen, per pool."""

    ends: list[int]
    hits: dict[Any, int]

    @property
    def longest(self) -> int:
        """Pages of the longest legal prefix; 0 if there is none."""
        return self.ends[-1] if self.ends else 0


def leading_run(misses: Sequence[int]) -> int:
    """How many numbers are 0 before the first other one."""
    if not any(misses):
        return len(misses)
    return len(list(itertools.takewhile(operator.not_, misses)))


def trailing_ends(misses: Sequence[int], n_pages: int, trailing: int) -> list[int]:
    """Ends e in 1..n_pages of which pages max(0, e - trailing)..e - 1 are there."""
    ends = []
    run = 0
    for end, miss in enumerate(itertools.islice(misses, n_pages), 1):
        run = 0 if miss else run + 1
        if run >= min(trailing, end):
            ends.append(end)
    return ends


def _ends_of(side: Side, n_pages: int) -> Sequence[int]:
    if side.policy == TRAILING_PAGES:
        return trailing_ends(side.misses, n_pages, max(side.trailing, 1))
    return range(1, min(leading_run(side.misses), n_pages) + 1)


def _common(some: Sequence[int], others: Sequence[int]) -> Sequence[int]:
    """Ends in both, ascending. A range is one of 1, 2, ...: with it, nothing is walked."""
    if isinstance(some, range):
        some, others = others, some
    if isinstance(others, range):
        return some[: bisect.bisect_right(some, len(others))]
    allowed = frozenset(others)
    return [end for end in some if end in allowed]


def legal_ends(kv_pages: int, sides: Sequence[Side]) -> Legal:
    """Ends legal for the KV pool, which has the pages 0..kv_pages - 1, and all sides.

    BLOCK_GROUPS never gates and is left out of the hits.
    """
    legal: Sequence[int] = range(1, kv_pages + 1)
    hits: dict[Any, int] = {"kv": kv_pages}
    for side in sides:
        if side.policy == BLOCK_GROUPS:
            continue
        ends = _ends_of(side, kv_pages)
        legal = _common(legal, ends)
        hits[side.name] = ends[-1] if ends else 0
    return Legal(list(legal), hits)
