"""Calls of the node: deadlines, retries of what passes, and the breaker."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from typing import Any, Optional

from peercache.errors import Status
from peercache.hicache.config import OP_TIMEOUT_MAX_S
from peercache.hicache.guard import Breaker, Journal, Paused
from peercache.node import Node

EXISTS_TIMEOUT_S = 0.5

_TIMED_OUT = int(Status.TIMED_OUT)
# A member is going or coming, or the node is busy: trying again can help.
_PASSING_ON_PUT = frozenset(
    int(status)
    for status in (
        Status.AGAIN,
        Status.STALE,
        Status.UNREACHABLE,
        Status.PEER_FAILED,
        Status.NOT_READY,
        Status.NO_MEMORY,
    )
)
# A get has tried every holder before it gives up.
_PASSING_ON_GET = frozenset((int(Status.AGAIN),))
_FIRST_PAUSE_S = 0.005
_LAST_PAUSE_S = 0.1


@dataclasses.dataclass(frozen=True)
class Group:
    """Keys of one namespace, and where their values lie.

    table and slots: one slot a key. Or sizes and pointers: len(sizes) pointers
    a key, or a size for each pointer. Neither: a query. keep: what owns the
    memory, for the time of the call.
    """

    namespace: bytes
    keys: Sequence[Any]
    table: Any = None
    slots: Sequence[int] = ()
    sizes: Sequence[int] = ()
    pointers: Sequence[int] = ()
    keep: Any = None

    def arguments(self) -> tuple[bytes, Sequence[Any], Any]:
        """The group as Node.run_pages takes it."""
        if self.table is not None:
            return self.namespace, self.keys, (self.table, self.slots)
        if self.sizes:
            return self.namespace, self.keys, (self.sizes, self.pointers)
        return self.namespace, self.keys, None

    def part(self, at: Sequence[int]) -> Group:
        """The keys at these places only."""
        keys = [self.keys[i] for i in at]
        if self.table is not None:
            return dataclasses.replace(self, keys=keys, slots=[self.slots[i] for i in at])
        if not self.sizes:
            return dataclasses.replace(self, keys=keys)
        n = len(self.pointers) // len(self.keys)
        pointers = [p for i in at for p in self.pointers[i * n : (i + 1) * n]]
        sizes = self.sizes
        if len(sizes) == len(self.pointers):
            sizes = [s for i in at for s in self.sizes[i * n : (i + 1) * n]]
        return dataclasses.replace(self, keys=keys, sizes=sizes, pointers=pointers)


Statuses = list[list[int]]


class Traffic:
    """What the store asks of its node. Any thread; no lock is held in a call."""

    def __init__(self, node: Node, op_timeout: float, journal: Journal) -> None:
        self._node = node
        self._op_timeout = min(op_timeout, OP_TIMEOUT_MAX_S)
        self._journal = journal
        self._breaker = Breaker()
        self._closing = threading.Event()

    def close(self) -> None:
        """Wake whoever waits to try again. Calls answer Paused from now on."""
        self._closing.set()

    def deadline(self, timeout: Optional[float] = None) -> float:
        """When a call that begins now has to end, by time.monotonic().

        timeout: seconds; None has those of a get. Raises Paused.
        """
        if self._closing.is_set() or not self._breaker.allows():
            raise Paused
        return time.monotonic() + (self._op_timeout if timeout is None else timeout)

    def exists(self, groups: Sequence[Group]) -> Statuses:
        """One status a key and group; all groups share one round trip.

        Raises Paused, and what Node.run_pages raises.
        """
        return self._run("exists", groups, EXISTS_TIMEOUT_S, _PASSING_ON_GET)

    def get(self, groups: Sequence[Group]) -> Statuses:
        """As exists; a value of another length is a miss."""
        return self._run("get", groups, self._op_timeout, _PASSING_ON_GET)

    def put(self, groups: Sequence[Group]) -> Statuses:
        """As exists; what passes is tried again within the deadline."""
        return self._run("put", groups, self._op_timeout, _PASSING_ON_PUT)

    def _run(
        self, verb: str, groups: Sequence[Group], timeout: float, passing: frozenset[int]
    ) -> Statuses:
        deadline = self.deadline(timeout)
        arguments = [group.arguments() for group in groups]
        statuses = self._node.run_pages(verb, arguments, timeout=timeout, chain=True)
        if any(map(any, statuses)):
            self._try_again(verb, groups, statuses, deadline, passing)
            self._note(verb, statuses)
        else:
            self._breaker.note(False)
        return statuses

    def _try_again(
        self,
        verb: str,
        groups: Sequence[Group],
        statuses: Statuses,
        deadline: float,
        passing: frozenset[int],
    ) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            failed = [[i for i, s in enumerate(part) if s in passing] for part in statuses]
            left = deadline - time.monotonic() - pause
            # Also ends early when the store is closed.
            if not any(failed) or left <= pause or self._closing.wait(pause):
                return
            self._journal.count(f"{verb} tried again")
            again = [g.part(at).arguments() for g, at in zip(groups, failed) if at]
            answers = iter(self._node.run_pages(verb, again, timeout=left, chain=True))
            for at, part in zip(failed, statuses):
                if at:
                    for i, status in zip(at, next(answers)):
                        part[i] = status
            pause = min(2 * pause, _LAST_PAUSE_S)

    def _note(self, verb: str, statuses: Statuses) -> None:
        """A call timed out as a whole if nothing of it came in time."""
        timed_out = any(_TIMED_OUT in part for part in statuses)
        if timed_out:
            self._journal.count(f"{verb} timed out")
        if self._breaker.note(timed_out and not any(0 in part for part in statuses)):
            self._journal.problem("breaker", "three calls timed out: misses for a second")


def seconds(text: object) -> Optional[float]:
    """Seconds of "2", "500ms" or 2.0; None for anything else."""
    number = str(text).strip().lower()
    for unit, factor in (("ms", 1e-3), ("us", 1e-6), ("min", 60.0), ("h", 3600.0), ("s", 1.0)):
        if number.endswith(unit):
            number, scale = number[: -len(unit)], factor
            break
    else:
        scale = 1.0
    try:
        return float(number) * scale
    except ValueError:
        return None
