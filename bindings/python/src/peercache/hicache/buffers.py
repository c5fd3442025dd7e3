"""Memory of host pools, registered for receiving, in the background.

Registration pins pages and can take a second for some GiB. Nothing waits for it:
until a range is registered, gets into it go through the library's own memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Optional

from peercache import Registration
from peercache.hicache.guard import ContractError, Journal
from peercache.hicache.values import memory_of
from peercache.node import Node


def buffers_of(pool: Any) -> Iterator[Any]:
    """Tensors that hold the pages of a host pool; none of a logical pool."""
    hybrid = getattr(pool, "get_hybrid_pool_buffer", None)
    yield from _flatten(hybrid() if callable(hybrid) else getattr(pool, "kv_buffer", None))


def ranges_of(pool: Any) -> tuple[tuple[int, int], ...]:
    """Address and bytes of each of the pool's tensors; () of a pool that raises."""
    try:
        return tuple(_range(buffer) for buffer in buffers_of(pool))
    except Exception:
        return ()


def _flatten(buffers: Any) -> Iterator[Any]:
    if buffers is None:
        return
    if isinstance(buffers, (list, tuple)):
        for buffer in buffers:
            yield from _flatten(buffer)
    elif _range(buffers)[1] > 0:
        yield buffers


def _range(buffer: Any) -> tuple[int, int]:
    """Address and bytes of a tensor; (0, 0) of what has none."""
    if not hasattr(buffer, "data_ptr"):
        try:
            memory = memory_of(buffer, None, True)
        except ContractError:
            return 0, 0
        return memory.address, memory.nbytes
    nbytes = getattr(buffer, "nbytes", None)
    if nbytes is None:
        nbytes = buffer.numel() * buffer.element_size()
    return int(buffer.data_ptr()), int(nbytes)


class Buffers:
    """Registrations of one store. Any thread."""

    def __init__(self, node: Node, journal: Journal) -> None:
        self._node = node
        self._journal = journal
        self._lock = threading.Lock()
        self._ranges: list[tuple[int, int]] = []  # First and last address + 1.
        self._waiting: list[Any] = []
        self._registered: list[Registration] = []
        self._thread: Optional[threading.Thread] = None
        self._closed = False

    def add(self, pool: Any) -> None:
        """Register the pool's memory, each range once; returns at once."""
        buffers = list(buffers_of(pool))
        with self._lock:
            if self._closed:
                return
            for buffer in buffers:
                self._add_range(buffer)
            if self._waiting and self._thread is None:
                # It ends with the work: nothing lives on for the next pool.
                thread = threading.Thread(
                    target=self._register_all, name="peercache-register", daemon=True
                )
                thread.start()
                self._thread = thread

    def close(self, timeout: float) -> None:
        """Give everything back; waits for the thread, at most timeout seconds."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)
        with self._lock:
            registered, self._registered = self._registered, []
            self._ranges.clear()
        for registration in registered:
            registration.close()

    def wait(self, timeout: float) -> bool:
        """Whether everything that was added is registered (or failed) in time."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(timeout)
            return not thread.is_alive()
        return True

    def _add_range(self, buffer: Any) -> None:
        start, nbytes = _range(buffer)
        end = start + nbytes
        if not any(a <= start and end <= b for a, b in self._ranges):
            self._ranges.append((start, end))
            self._waiting.append(buffer)

    def _register_all(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                buffer = self._waiting.pop(0)
            self._register(buffer)

    def _register(self, buffer: Any) -> None:
        try:
            registration = self._node.register(buffer)
        except Exception as error:
            if not self._closed:
                self._journal.problem(
                    "register", "memory of a host pool cannot be registered, gets copy", error
                )
            return
        with self._lock:
            if not self._closed:
                self._registered.append(registration)
                return
        registration.close()
