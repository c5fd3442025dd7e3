"""Host pools of SGLang, as the store reads and writes their pages."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, Optional

from peercache.hicache import flat, namespace
from peercache.hicache.buffers import ranges_of
from peercache.hicache.guard import ContractError
from peercache.hicache.instance import Instance
from peercache.hicache.probe import Pieces, probe
from peercache.hicache.traffic import Group
from peercache.hicache.values import Memory

log = logging.getLogger("peercache.store")

# How pages are carried.
PIECES = "pieces"  # By the addresses of their pieces.
COPIES = "copies"  # By flat copies.
LOGICAL = "logical"  # Not at all: other pools hold the data.
NONE = "none"  # The pool offers no way.


@dataclasses.dataclass(frozen=True)
class HostPool:
    """A registered pool; immutable, any thread.

    namespaces: one per value of a page. whole: the namespace of a page as the
    generic calls bring it.
    """

    name: str
    pool: Any
    how: str
    page_size: int
    n_pages: Optional[int]
    namespaces: tuple[bytes, ...]
    whole: bytes
    sharded: bool
    pieces: Optional[Pieces] = None
    value_bytes: int = 0
    # Where its memory lay when it was looked at.
    ranges: tuple[tuple[int, int], ...] = ()

    def is_of(self, pool: Any) -> bool:
        """Whether this is what host_pool would say of the pool once more."""
        return self.pool is pool and self.ranges == ranges_of(pool)

    @property
    def page_bytes(self) -> int:
        """Bytes of a page; 0 where none are carried."""
        return self.value_bytes * len(self.namespaces)

    def describe(self) -> str:
        """For the log."""
        names = "+".join(n.hex()[:8] for n in self.namespaces)
        if self.how in (LOGICAL, NONE):
            return f"{self.name}: {'logical' if self.how == LOGICAL else 'cannot be stored'}"
        how = "flat copies"
        if self.pieces is not None:
            n = len(self.pieces.sizes) * len(self.namespaces)
            how = f"{n} piece{'s' if n > 1 else ''}{'' if self.pieces.tables else ', by meta'}"
        share = "per rank" if self.sharded else "same on all ranks"
        return (
            f"{self.name}: page of {self.page_size} tokens = {self.page_bytes} bytes in {how}, "
            f"{share}, namespace {names}"
        )

    # ---- Queries ----

    def queries(self, keys: Sequence[Any]) -> list[Group]:
        """Groups that ask for the pages; none where the pool carries none."""
        if self.how in (LOGICAL, NONE):
            return []
        return [Group(name, keys) for name in self.namespaces]

    # ---- Transfers ----

    def common_length(self, keys: Sequence[Any], indices: Any) -> int:
        """How many pages both keys and token indices name.

        Raises ContractError for indices that are no whole pages.
        """
        n_tokens = len(indices)
        if n_tokens % self.page_size:
            raise ContractError(f"{n_tokens} indices are no pages of {self.page_size} tokens")
        return min(n_tokens // self.page_size, len(keys))

    def slots(self, indices: Any, n: int) -> list[int]:
        """Numbers of the first n pages that the token indices name.

        Raises ContractError if a page is not aligned, not whole or not there.
        """
        size = self.page_size
        starts = _numbers(indices[: n * size : size])
        slots = starts if size == 1 else [start // size for start in starts]
        if size > 1:
            ends = _numbers(indices[size - 1 : n * size : size])
            wanted = [slot * size for slot in slots]
            if starts != wanted or ends != [start + size - 1 for start in wanted]:
                raise ContractError("token indices are not those of aligned pages")
        if min(slots) < 0 or (self.n_pages is not None and max(slots) >= self.n_pages):
            raise ContractError("token indices outside of the pool")
        return slots

    def outgoing(self, keys: Sequence[Any], indices: Any) -> list[Group]:
        """Groups that store the pages at these indices; as many as both name."""
        n = self.common_length(keys, indices)
        slots = self.slots(indices, n) if n else []
        keys = keys[:n]
        if self.how == COPIES:
            starts = [slot * self.page_size for slot in slots]
            return [self._copied(keys, flat.copies_of(self.pool, starts))] if n else []
        return self._in_place(keys, slots, indices)

    def incoming(self, keys: Sequence[Any], indices: Any) -> list[Group]:
        """Groups that read into the pages at these indices; then call arrived."""
        n = self.common_length(keys, indices)
        slots = self.slots(indices, n) if n else []
        keys = keys[:n]
        if self.how == COPIES:
            return [self._copied(keys, flat.empty_pages(self.pool, n), slots)] if n else []
        return self._in_place(keys, slots, indices)

    def arrived(self, groups: Sequence[Group], n: int) -> None:
        """Put copies of the first n pages to where they belong."""
        if self.how != COPIES or not groups:
            return
        pages: list[Memory] = groups[0].keep
        for slot, page in zip(groups[0].slots[:n], pages):
            flat.put_back(self.pool, slot * self.page_size, page)

    def _copied(self, keys: Sequence[Any], pages: list[Memory], slots: Sequence[int] = ()) -> Group:
        if any(page.nbytes != self.value_bytes for page in pages):
            raise ContractError("the size of flat pages has changed")
        pointers = [page.address for page in pages]
        sizes = (self.value_bytes,)
        return Group(self.whole, keys, slots=slots, sizes=sizes, pointers=pointers, keep=pages)

    def _in_place(self, keys: Sequence[Any], slots: list[int], indices: Any) -> list[Group]:
        pieces = self.pieces
        if pieces is None or not slots:
            return []
        if pieces.tables is not None:
            return [
                Group(name, keys, table, slots)
                for name, table in zip(self.namespaces, pieces.tables)
            ]
        n = len(slots)
        pointers = pieces.pointers(indices[: n * self.page_size], n)
        k, per_page = len(pieces.sizes), pieces.per_page
        if len(self.namespaces) == 1:
            return [Group(self.namespaces[0], keys, sizes=pieces.sizes, pointers=pointers)]
        groups = []
        for v, name in enumerate(self.namespaces):
            of_value = [
                pointer
                for page in range(n)
                for pointer in pointers[page * per_page + v * k : page * per_page + (v + 1) * k]
            ]
            groups.append(Group(name, keys, sizes=pieces.sizes, pointers=of_value))
        return groups


def _numbers(indices: Any) -> list[int]:
    return indices.tolist() if hasattr(indices, "tolist") else [int(i) for i in indices]


def unwrap(pool: Any) -> Any:
    """The KV pool of a group of pools; any other pool itself."""
    entry = getattr(pool, "anchor_entry", None)
    return getattr(entry, "host_pool", pool) if entry is not None else pool


def host_pool(name: str, pool: Any, instance: Instance, prefix: str) -> HostPool:
    """Probe a pool and fix its namespaces. Never raises for what a pool does."""
    page_size = max(_count(pool, "page_size") or 1, 1)
    n_pages = _pages(pool, page_size)
    sharded = namespace.is_sharded(instance, name, pool)
    split = _split(pool, instance, sharded)
    how, pieces, value_bytes = _carry(name, pool, page_size, n_pages or 1, split)
    names, whole = _namespaces(name, pool, instance, prefix, sharded, pieces, value_bytes)
    return HostPool(
        name=name,
        pool=pool,
        how=how,
        page_size=page_size,
        n_pages=n_pages,
        namespaces=names,
        whole=whole,
        sharded=sharded,
        pieces=pieces,
        value_bytes=value_bytes,
        ranges=ranges_of(pool),
    )


def _count(pool: Any, name: str) -> Optional[int]:
    try:
        return int(getattr(pool, name, None) or 0) or None
    except (TypeError, ValueError):
        return None


def _pages(pool: Any, page_size: int) -> Optional[int]:
    size = _count(pool, "size")
    return size // page_size if size else _count(pool, "page_num")


def _split(pool: Any, instance: Instance, sharded: bool) -> Optional[int]:
    """Values per page where TP sizes share, else None."""
    shares = (
        instance.tp_lcm_size is not None
        and sharded
        and str(getattr(pool, "layout", "")) == "page_head"
    )
    if not shares:
        return None
    if instance.split > 1 and not hasattr(pool, "get_split_heads_page_buffer_meta"):
        return None
    return instance.split


def _carry(
    name: str, pool: Any, page_size: int, n_pages: int, split: Optional[int]
) -> tuple[str, Optional[Pieces], int]:
    """How the pool's pages are carried, their pieces, bytes of a value."""
    try:
        pieces = probe(_meta(pool, split or 1), page_size, n_pages, split or 1, _moves(pool))
        if pieces is not None:
            return PIECES, pieces, sum(pieces.sizes)
        if not ranges_of(pool):
            return LOGICAL, None, 0
        # True without a byte stored is only for who has none to store.
        raise ContractError("memory, but no addresses")
    except Exception as error:
        reason = error
    try:
        value_bytes = flat.page_bytes(pool)
        if value_bytes == 0:
            raise ContractError("empty flat pages")
        return COPIES, None, value_bytes
    except Exception as error:
        log.warning(
            "pool %s cannot be stored: it tells no addresses (%r) and has no flat pages (%r)",
            name,
            reason,
            error,
        )
        return NONE, None, 0


def _moves(pool: Any) -> bool:
    """Whether SGLang may move the pages of this pool within its memory (page
    envelopes in an arena that pools share): addresses hold for one call only."""
    return bool(getattr(pool, "stores_page_envelope", False))


def _meta(pool: Any, split: int) -> Any:
    if split == 1:
        return pool.get_page_buffer_meta
    return lambda indices: pool.get_split_heads_page_buffer_meta(indices, split)


def _namespaces(
    name: str,
    pool: Any,
    instance: Instance,
    prefix: str,
    sharded: bool,
    pieces: Optional[Pieces],
    value_bytes: int,
) -> tuple[tuple[bytes, ...], bytes]:
    """Names of the values of a page, and the name of the page as a whole."""
    page_size = max(_count(pool, "page_size") or 1, 1)
    sizes = pieces.sizes if pieces is not None else (value_bytes,)
    common = {
        **namespace.common_fields(instance, prefix),
        **namespace.pool_fields(name, pool, sizes, page_size),
    }
    rank = namespace.rank_field(instance, sharded)
    form = namespace.FLAT if pieces is None else namespace.JOINED
    own = namespace.digest({**common, **rank, "form": form})
    other = namespace.digest({**common, **rank, "form": namespace.FLAT})
    if pieces is None:
        return (own,), own
    if _split(pool, instance, sharded) is None:
        return (own,), other if flat_differs(pool, len(pieces.sizes)) else own
    shards = tuple(
        namespace.digest({**common, **namespace.shard_field(instance, i), "form": form})
        for i in range(pieces.n_values)
    )
    # A page as a whole is the only shard, or no shard at all.
    return shards, shards[0] if len(shards) == 1 else other


def flat_differs(pool: Any, n_pieces: int) -> bool:
    """Whether the flat page has other bytes than the pieces, joined in order.

    So it is layer by layer with K and V apart: the pieces alternate, the flat
    page has all of K before V.
    """
    if str(getattr(pool, "layout", "")) != "layer_first" or n_pieces == 1:
        return False
    return n_pieces != _count(pool, "layer_num")
