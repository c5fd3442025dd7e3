"""The four threads of SGLang that call a backend, all at the same time."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Callable, Optional

import numpy as np

from hicache.content import content, page_hashes
from hicache.controller import Controller
from hicache.tensors import UINT8, TensorDouble

CHAIN = 6
# What a thread that computes gets of the interpreter before another's turn. A
# closed store's calls are nothing but Python: with the interpreter's own 5 ms,
# times each release of its lock by numpy, times the threads, a call of
# microseconds would take seconds, whatever the store does.
TURN_S = 0.0001


class Traffic:
    """Runs until stop(). What a thread finds wrong is raised by stop().

    Q asks, IO gets and checks every byte, B stores new chains, M polls numbers
    and registers pools again. `keys` are pages that others stored before; slots
    from 16 on are left to the caller.
    """

    def __init__(self, store: Controller, keys: list[str]) -> None:
        self.store = store
        self.keys = keys
        self.has_swa = "swa" in store.pools
        self.chains: list[list[str]] = [keys] if keys else []
        self.rounds = {"Q": 0, "IO": 0, "B": 0, "M": 0}
        self.pages_got = 0
        self.pages_set = 0
        self.slowest = 0.0
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._turn_before = TURN_S
        self._threads = [
            threading.Thread(target=self._run, name=name, args=(name, step), daemon=True)
            for name, step in (
                ("Q", self._query),
                ("IO", self._fetch),
                ("B", self._back_up),
                ("M", self._main),
            )
        ]

    def __enter__(self) -> Traffic:
        self._turn_before = sys.getswitchinterval()
        sys.setswitchinterval(TURN_S)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        sys.setswitchinterval(self._turn_before)
        if kind is None:
            assert not any(thread.is_alive() for thread in self._threads), "a thread hangs"
            if self._errors:
                raise self._errors[0]

    def all_alive(self) -> bool:
        """Raises what ended a thread, which says more than False."""
        if self._errors:
            raise self._errors[0]
        return all(thread.is_alive() for thread in self._threads)

    def went_round(self, n: int) -> Callable[[], bool]:
        """Whether every thread made n more rounds, or one of them failed."""
        goal = {name: done + n for name, done in self.rounds.items()}
        return lambda: bool(self._errors) or all(
            self.rounds[name] >= goal[name] for name in goal
        )

    def _run(self, name: str, step: Callable[[int], None]) -> None:
        try:
            while not self._stop.is_set():
                step(self.rounds[name])
                self.rounds[name] += 1
        except BaseException as error:
            self._errors.append(error)

    def _chain(self, i: int) -> list[str]:
        chains = self.chains
        return chains[i % len(chains)] if chains else []

    def _query(self, i: int) -> None:
        keys = self._chain(i)
        self.store.exists(keys)
        if self.has_swa:
            swa = self.store.sglang.transfer("swa", keys=keys[-1:], hit_policy="trailing_pages")
            self.store.exists_v2(keys, swa)

    def _fetch(self, i: int) -> None:
        keys = self._chain(i)
        slots = list(range(8, 8 + len(keys)))
        self.pages_got += self.store.fetch(keys, slots)
        if self.has_swa:
            side = self.store.pools["swa"]
            side.poison(slots)
            hits = self.store.get_side("swa", keys, slots)
            side.check(slots[: sum(hits)], keys)

    def _back_up(self, i: int) -> None:
        keys = page_hashes(CHAIN, f"chain {i}")
        slots = list(range(len(keys)))
        if self.has_swa:
            self.store.put_side("swa", keys, slots)
        self.pages_set += sum(self.store.put(keys, slots))
        self.chains = [*self.chains[-20:], keys]

    def _main(self, i: int) -> None:
        self.store.stats()
        if self.has_swa:
            self.store.register("swa", self.store.pools["swa"])
        value = TensorDouble(content("draft", str(i), 0, 256).copy(), UINT8)
        self.store.set_generic([f"d:{i}"], [value])
        target = TensorDouble(np.zeros(256, np.uint8), UINT8)
        if self.store.get_generic([f"d:{i}"], [target]) == [True]:
            assert np.array_equal(target.memory, value.memory)
