"""A peer that dies, stops or answers late: misses in time, never a wrong byte."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import pytest
from conftest import wait_until

from hicache import pools
from hicache.content import page_hashes
from hicache.controller import Controller
from hicache.peers import StorePeer
from hicache.store_peer import big_pool
from hicache.traffic import Traffic

Attach = Callable[..., Controller]
MakePeer = Callable[..., StorePeer]
# So that a stopped peer is needed for every byte; else its memory is just mapped.
SERVED = {"read_mode": "served"}


def filled(peer: StorePeer, n: int = 6) -> list[str]:
    """Keys of pages that the peer holds."""
    keys = page_hashes(n, "of the peer")
    assert all(peer.ask("put", keys, list(range(n))))
    return keys


@pytest.mark.parametrize("read_mode", ["auto", "served"])
@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_four_threads_outlive_a_peer(
    attach: Attach, store_peer: MakePeer, fault: str, read_mode: str
) -> None:
    """The peer came first, so it is also who serves discovery."""
    peer = store_peer()
    keys = filled(peer)
    extra = {"read_mode": read_mode, "op_timeout": 0.5}
    store = attach(sides={"swa": pools.swa()}, extra=extra)
    wait_until(lambda: store.exists(keys) == 6, "the peer's pages")
    with Traffic(store, keys) as traffic:
        wait_until(traffic.went_round(5), "five rounds with the peer")
        if fault == "kill":
            peer.end()
        else:
            peer.stop()
        wait_until(traffic.went_round(8), "eight rounds without the peer")
        if fault == "stop":
            peer.go_on()
            wait_until(traffic.went_round(5), "five rounds with the peer back")
        assert traffic.all_alive()
    own = page_hashes(4, "afterwards")
    wait_until(lambda: store.put(own, range(4)) == [True] * 4, "sets again")
    wait_until(lambda: store.fetch(own, range(8, 12)) == 4, "gets again")


def test_a_new_peer_after_the_cluster_was_gone_is_found(
    attach: Attach, store_peer: MakePeer
) -> None:
    old = store_peer()
    store = attach(extra={"op_timeout": 0.5})
    assert store.put(page_hashes(2, "own"), [0, 1]) == [True, True]
    old.end()
    wait_until(lambda: store.fetch(page_hashes(2, "own"), [8, 9]) == 2, "its own pages")
    keys = filled(store_peer())
    wait_until(lambda: store.fetch(keys, range(6)) == 6, "the new peer's pages")


class Call(threading.Thread):
    """A get in a thread of its own."""

    def __init__(self, store: Controller, keys: list[str], slots: range) -> None:
        super().__init__(daemon=True)
        self.answer: list[bool] = []
        self.error: Any = None
        self._store, self._keys, self._slots = store, keys, slots
        self.start()

    def run(self) -> None:
        try:
            self.answer = self._store.get(self._keys, self._slots)
        except BaseException as error:
            self.error = error

    def result(self) -> list[bool]:
        self.join(20)
        assert not self.is_alive(), "the call hangs"
        assert self.error is None, self.error
        return self.answer


@pytest.mark.parametrize("when", ["before", "during"])
def test_nothing_is_written_after_a_get_has_returned(
    attach: Attach, store_peer: MakePeer, when: str
) -> None:
    """The peer stalls, the get gives up, the peer's answer comes late."""
    peer = store_peer(pool="big", global_segment_size="48mb", member_ttl=20)
    keys = filled(peer, 8)
    store = attach(big_pool(), extra={**SERVED, "op_timeout": 0.4, "member_ttl": 20})
    wait_until(lambda: store.exists(keys) == 8, "the peer's pages")
    for _ in range(3):
        # A breaker that the last round opened has to close first.
        wait_until(lambda: store.fetch(keys, range(8)) == 8, "the peer serves")
        store.kv.poison(range(16))
        if when == "before":
            peer.stop()
        call = Call(store, keys, range(8))
        if when == "during":
            while call.is_alive() and store.kv.is_poisoned(range(1)):
                pass
            peer.stop()
        hits = call.result()
        store.kv.check(range(sum(hits)), keys)
        assert when == "during" or sum(hits) == 0
        store.kv.poison(range(16))
        peer.go_on()
        assert peer.ask("exists", keys) == 8
        wait_until(lambda: store.fetch(keys, range(8, 16)) == 8, "the peer serves again")
        assert store.kv.is_poisoned(range(8)), "written after the call had returned"


def test_nothing_is_read_after_a_set_has_returned(attach: Attach) -> None:
    store = attach(big_pool(), extra={"global_segment_size": "64mb", "region_size": "16mb"})
    store.wait_for_pool()
    for i in range(10):
        keys = page_hashes(8, str(i))
        assert store.put(keys, range(8)) == [True] * 8
        store.kv.poison(range(8))
        assert store.fetch(keys, range(8, 16)) == 8


def test_a_stopped_peer_costs_few_deadlines_not_one_a_call(
    attach: Attach, store_peer: MakePeer
) -> None:
    peer = store_peer(member_ttl=20)
    keys = filled(peer)
    store = attach(extra={**SERVED, "op_timeout": 0.3, "member_ttl": 20})
    wait_until(lambda: store.fetch(keys, range(6)) == 6, "the peer's pages")
    peer.stop()
    took = []
    for _ in range(6):
        start = time.monotonic()
        assert store.get(keys, range(6)) == [False] * 6
        took.append(time.monotonic() - start)
    peer.go_on()
    assert took[0] > 0.1, f"no timeout to begin with: {took}"
    assert min(took[3:]) < 0.05, f"every call waits: {took}"
    wait_until(lambda: store.fetch(keys, range(6)) == 6, "the peer serves again")


def test_three_timeouts_open_the_breaker_for_a_second(
    attach: Attach, store_peer: MakePeer
) -> None:
    """Each from another peer, since the node soon leaves a silent one alone."""
    peers = [store_peer(member_ttl=20) for _ in range(3)]
    theirs = [page_hashes(2, f"of peer {i}") for i in range(3)]
    for peer, keys in zip(peers, theirs):
        assert all(peer.ask("put", keys, [0, 1]))
    store = attach(extra={**SERVED, "op_timeout": 0.1, "member_ttl": 20})
    own = page_hashes(2, "own")
    # A tenth of a second is short for the first put of a busy machine.
    wait_until(lambda: store.put(own, [4, 5]) == [True, True], "the own pages")

    def all_came() -> bool:
        return all(store.fetch(keys, [0, 1]) == 2 for keys in theirs)

    wait_until(all_came, "the peers' pages")
    for peer in peers:
        peer.stop()
    # At once: after 200 ms of silence the node would leave them alone, and a
    # miss that did not wait is no timeout.
    with ThreadPoolExecutor(len(theirs)) as pool:
        got = list(pool.map(lambda keys: store.get(keys, [0, 1]), theirs))
    assert got == [[False, False]] * len(theirs)
    opened = time.monotonic()
    assert store.fetch(own, [6, 7]) == 0, "the breaker is open, even for own pages"
    wait_until(lambda: store.fetch(own, [6, 7]) == 2, "the breaker closes")
    assert 0.5 < time.monotonic() - opened < 5
    for peer in peers:
        peer.go_on()


def test_queries_are_bounded_when_the_peer_stops(attach: Attach, store_peer: MakePeer) -> None:
    """Half a second, whatever op_timeout is; Controller checks it."""
    peer = store_peer(member_ttl=20)
    keys = filled(peer)
    store = attach(sides={"swa": pools.swa()}, extra={**SERVED, "op_timeout": 4, "member_ttl": 20})
    wait_until(lambda: store.exists(keys) == 6, "the peer's pages")
    peer.stop()
    unknown = page_hashes(100, "nobody's")
    for _ in range(4):
        store.exists(keys)
        store.exists(unknown)
        store.exists_v2(unknown, store.sglang.transfer("swa"))
    peer.go_on()
