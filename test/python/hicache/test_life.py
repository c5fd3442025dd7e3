"""Attach and detach: at once, again and again, and nothing left behind."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from conftest import wait_until

from hicache import pools
from hicache.content import POISON, page_hashes
from hicache.controller import Controller, within
from hicache.peers import StorePeer
from hicache.tensors import TensorDouble
from hicache.traffic import Traffic
from hicache.versions import VERSIONS, Version

Attach = Callable[..., Controller]
every_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name, indirect=True)


@pytest.fixture
def slamming_port() -> Iterator[int]:
    """A seed that closes every connection at once."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:

        def slam() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=slam, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.parametrize("seed", ["silent_port", "slamming_port"])
def test_a_store_is_there_at_once_though_its_seed_is_not(
    attach: Attach, request: pytest.FixtureRequest, seed: str
) -> None:
    """Controller checks the time of every call."""
    address = f"127.0.0.1:{request.getfixturevalue(seed)}"
    store = attach(extra={"discovery_addr": address})
    keys = page_hashes(4)
    for _ in range(3):
        assert store.exists(keys) in (0, 4)
        store.put(keys, range(4))
        store.fetch(keys, range(4, 8))
    store.close()


def test_the_first_answer_after_attach_is_not_blind(
    attach: Attach, store_peer: Callable[..., StorePeer]
) -> None:
    peer = store_peer()
    keys = page_hashes(6)
    assert all(peer.ask("put", keys, list(range(6))))
    for first in ("exists", "get"):
        reader = attach()
        if first == "exists":
            assert reader.exists(keys) == 6
        assert reader.fetch(keys, range(6)) == 6
        reader.close()


def test_the_first_set_after_attach_is_stored(attach: Attach) -> None:
    keys = page_hashes(6)
    store = attach()
    assert store.put(keys, range(6)) == [True] * 6
    assert store.exists(keys) == 6


def leftovers() -> dict[str, Any]:
    """Threads, descriptors and shared mappings of this process."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {
        "threads": len(os.listdir("/proc/self/task")),
        "python threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "shared mappings": len([line for line in maps if line.split()[1][3] == "s"]),
    }


def attach_and_detach(attach: Attach, chain: str, **extra: Any) -> None:
    store = attach(sides={"swa": pools.swa()}, extra=extra)
    keys = page_hashes(5, chain)
    assert store.put(keys, range(5)) == [True] * 5
    assert store.put_side("swa", keys, range(5)) == [True] * 5
    assert store.fetch(keys, range(5, 10)) == 5
    store.close()


def test_attach_and_detach_repeat_and_leave_nothing(attach: Attach, port: int) -> None:
    """This process serves discovery itself, each time anew."""
    attach_and_detach(attach, "warm up")
    before = leftovers()
    for i in range(3):
        attach_and_detach(attach, f"turn {i}")
        with socket.create_server(("127.0.0.1", port)):
            pass
    assert leftovers() == before


def test_attach_and_detach_in_a_cluster_leave_nothing(
    attach: Attach, store_peer: Callable[..., StorePeer]
) -> None:
    peer = store_peer()
    keys = page_hashes(6)
    assert all(peer.ask("put", keys, list(range(6))))
    attach_and_detach(attach, "warm up")
    before = leftovers()
    for i in range(3):
        store = attach()
        assert store.fetch(keys, range(6)) == 6
        store.close()
    wait_until(lambda: leftovers() == before, "nothing is left")


def test_a_closed_store_keeps_no_pool(attach: Attach) -> None:
    """The host pools of a detached server may be larger than all else."""
    store = attach(sides={"swa": pools.swa()})
    keys = page_hashes(3)
    assert store.put(keys, range(3)) == [True] * 3
    assert store.get_side("swa", keys, range(3)) == [False] * 3
    store.store.register_mem_host_pool_v2(pools.mha(), "kv")
    store.close()
    store.store.register_mem_pool_host(store.kv)
    store.store.register_mem_host_pool_v2(store.pools["swa"], "swa")
    held = [weakref.ref(pool.buffers[0]) for pool in store.pools.values()]
    store.pools.clear()
    del store.kv
    gc.collect()
    assert [ref() is None for ref in held] == [True, True]


def test_a_thread_that_cannot_start_costs_the_registration_only(
    attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host with too many threads; pages go through staging, close still closes."""
    attach_and_detach(attach, "warm up")
    before = leftovers()

    def fails(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fails)
        store = attach()
    keys = page_hashes(3)
    assert store.put(keys, range(3)) == [True] * 3
    assert store.fetch(keys, range(8, 11)) == 3
    store.close()
    assert leftovers() == before


def test_a_pool_with_new_memory_is_read_and_written_there(attach: Attach) -> None:
    """Registered again, the same object: the old addresses must not be used."""
    store = attach()
    old = store.kv.buffers
    fresh = [memory.copy() for memory in old]
    store.kv.buffers = fresh
    store.kv.kv_buffer = TensorDouble(fresh[0], store.kv.dtype)
    store.register("kv", store.kv)
    keys = page_hashes(3)
    assert store.put(keys, range(3)) == [True] * 3
    assert store.fetch(keys, range(8, 11)) == 3
    assert bool((old[0] == POISON).all())


def test_detach_while_the_metrics_port_is_served_frees_it(attach: Attach) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        metrics_port = probe.getsockname()[1]
    for i in range(2):
        attach_and_detach(attach, f"{i}", metrics_enabled=True, metrics_port=metrics_port)
        with socket.create_server(("127.0.0.1", metrics_port)):
            pass


def test_a_large_pool_is_attached_at_once(attach: Attach) -> None:
    """128 MiB here; what is not registered yet goes through staging."""
    kv = pools.mha(layers=32, heads=8, dim=128, page_size=64, n_pages=16)
    store = attach(kv, extra={"global_segment_size": "64mb", "region_size": "32mb"})
    keys = page_hashes(2)
    assert all(store.put(keys, [0, 1])) and store.fetch(keys, [14, 15]) == 2


@every_version
def test_four_threads_call_at_once(attach: Attach, version: Version) -> None:
    store = attach(sides={"swa": pools.swa()} if version.has_v2 else {})
    with Traffic(store, []) as traffic:
        wait_until(traffic.went_round(30), "thirty rounds of every thread")
    assert traffic.pages_got > 0 and traffic.pages_set > 0


@pytest.mark.parametrize("end", ["close", "clear"])
def test_close_and_clear_during_traffic_are_harmless(attach: Attach, end: str) -> None:
    store = attach(sides={"swa": pools.swa()})
    with Traffic(store, []) as traffic:
        wait_until(traffic.went_round(5), "five rounds of every thread")
        for _ in range(3):
            with within(8, end):
                getattr(store.store, end)()
        wait_until(traffic.went_round(10), "ten rounds after it")
        assert traffic.all_alive()


def test_close_does_not_wait_for_the_cluster(attach: Attach, silent_port: int) -> None:
    store = attach(extra={"discovery_addr": f"127.0.0.1:{silent_port}"})
    start = time.monotonic()
    store.close()
    assert time.monotonic() - start < 5


def test_a_store_that_is_forgotten_goes_with_its_process(
    attach: Attach, store_peer: Callable[..., StorePeer]
) -> None:
    """SGLang's scheduler may end without detaching."""
    peer = store_peer()
    peer.ask("put", page_hashes(1), [0])
    assert peer.process.stdin is not None
    peer.process.stdin.close()
    peer.process.stdin = None
    assert peer.process.wait(20) == 0
