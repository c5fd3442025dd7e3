"""Queries: what to ask for the pages of a pool, and what the answers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peercache.hicache import pools, prefix, types
from peercache.hicache.pools import HostPool
from peercache.hicache.traffic import Group, Statuses


class Side:
    """A pool of batch_exists_v2 beside the KV pool."""

    def __init__(self, known: Mapping[str, HostPool], transfer: Any, keys: Sequence[Any]) -> None:
        self._name = getattr(transfer, "name", None)
        self._policy = types.plain(getattr(transfer, "hit_policy", prefix.ALL_PAGES))
        self._trailing = len(getattr(transfer, "keys", None) or ())
        self._pool = known.get(types.plain(self._name))
        self._n_keys = len(keys)
        self.groups: list[Group] = []
        if self._pool is not None and self._policy != prefix.BLOCK_GROUPS:
            self.groups = self._pool.queries(keys)

    def found(self, statuses: Statuses) -> prefix.Side:
        """With the answers to its groups."""
        if self._pool is not None and self._pool.how == pools.LOGICAL:
            misses: Sequence[int] = [0] * self._n_keys
        else:
            misses = misses_of(statuses, self._n_keys)
        return prefix.Side(self._name, self._policy, self._trailing, misses)


def misses_of(statuses: Statuses, n_keys: int) -> Sequence[int]:
    """One number a key, 0 where all values of the page are there."""
    if len(statuses) == 1:
        return statuses[0]
    return [any(page) for page in zip(*statuses)] if statuses else [1] * n_keys
