"""The generic calls: values in tensors that SGLang brings, under any key."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Optional

from peercache.hicache.guard import ContractError
from peercache.hicache.numbers import Numbers
from peercache.hicache.traffic import Group, Traffic
from peercache.hicache.values import Memory, memory_of
from peercache.node import Node


# No use in asking with less time left than this.
_LEAST_S = 0.001


def is_draft(key: Any) -> bool:
    """Whether a key is of a draft model's page ("d:<hash>", "<hash>.draft").

    Whether the ranks share those is not known here, and not what the KV pool says.
    """
    return isinstance(key, str) and (key.startswith("d:") or key.endswith(".draft"))


class Generic:
    """Values of the generic calls. Any thread."""

    def __init__(self, node: Node, traffic: Traffic, numbers: Numbers) -> None:
        self._node = node
        self._traffic = traffic
        self._numbers = numbers
        self._namespaces = (b"", b"")
        self._empty_pages = False

    def set_namespaces(self, pages: bytes, other: bytes, empty_pages: bool) -> None:
        """Of pages of the KV pool, and of keys that are none. empty_pages: the
        pool holds no data; what is empty counts as stored and as read."""
        self._namespaces = (pages, other)
        self._empty_pages = empty_pages

    def queries(self, keys: Sequence[Any]) -> list[Group]:
        """What to ask for keys of one kind, which the first one tells."""
        return [Group(self._namespaces[is_draft(keys[0])], keys)]

    def get(self, keys: Any, targets: Any, sizes: Any) -> list[Any]:
        """For each key its target, filled, or None. Without targets the bytes.

        Raises ContractError for lists of other lengths. A target that cannot be
        written to is a miss.
        """
        if targets is None:
            return self._bytes(keys)
        _check_lengths(keys, targets, sizes)
        memory: list[Optional[Memory]] = []
        for i, target in enumerate(targets):
            try:
                memory.append(memory_of(target, None if sizes is None else sizes[i], True))
            except ContractError:
                memory.append(None)
        there = self._run(keys, memory, reads=True)
        return [target if ok else None for target, ok in zip(targets, there)]

    def set(self, keys: Any, values: Any, sizes: Any) -> bool:
        """Whether all values are stored; none is if one cannot be read.

        Raises ContractError for what is no value, or lists of other lengths.
        """
        if values is None:
            raise ContractError("no values")
        _check_lengths(keys, values, sizes)
        memory = [
            memory_of(value, None if sizes is None else sizes[i], False)
            for i, value in enumerate(values)
        ]
        return all(self._run(keys, memory, reads=False))

    def _bytes(self, keys: Sequence[Any]) -> list[Optional[bytes]]:
        """One after the other, all within the time of one call."""
        deadline = self._traffic.deadline()
        found: list[Optional[bytes]] = []
        for key in keys:
            left = deadline - time.monotonic()
            value = None
            if left > _LEAST_S:  # Else it is a miss without a look.
                namespace = self._namespaces[is_draft(key)]
                value = self._node.get(key, namespace=namespace, timeout=left)
            found.append(value)
        return found

    def _run(
        self, keys: Sequence[Any], memory: Sequence[Optional[Memory]], reads: bool
    ) -> list[bool]:
        """One bool a key; False where there is no memory."""
        places: tuple[list[int], list[int]] = ([], [])
        done = [False] * len(keys)
        for i, key in enumerate(keys):
            found = memory[i]
            if found is not None and found.nbytes > 0:
                places[is_draft(key)].append(i)
            else:
                done[i] = found is not None and self._empty_pages
        parts = [(name, at) for name, at in zip(self._namespaces, places) if at]
        groups = [_group(name, at, keys, memory) for name, at in parts]
        if not groups:
            return done
        started = time.monotonic()
        answers = (self._traffic.get if reads else self._traffic.put)(groups)
        elapsed = time.monotonic() - started
        n_bytes = 0
        for (_, at), group, statuses in zip(parts, groups, answers):
            for i, status, size in zip(at, statuses, group.sizes):
                done[i] = status == 0
                n_bytes += size if status == 0 else 0
        count = self._numbers.read if reads else self._numbers.written
        count(sum(done), n_bytes, elapsed)
        return done


def _group(
    name: bytes, at: Sequence[int], keys: Sequence[Any], memory: Sequence[Optional[Memory]]
) -> Group:
    found = [memory[i] for i in at]
    return Group(
        name,
        [keys[i] for i in at],
        sizes=[m.nbytes for m in found if m is not None],
        pointers=[m.address for m in found if m is not None],
        keep=found,
    )


def _check_lengths(keys: Any, values: Any, sizes: Any) -> None:
    if len(values) != len(keys) or (sizes is not None and len(sizes) != len(keys)):
        raise ContractError(f"{len(keys)} keys, but {len(values)} values or other sizes")
