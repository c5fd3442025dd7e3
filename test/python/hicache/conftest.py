"""Fixtures: a release of SGLang, stores attached to it, peers in other processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable

import pytest
from conftest import settings, wait_until

import peercache
from hicache import pools
from hicache.controller import Controller
from hicache.fake_sglang import FakeSGLang, installed
from hicache.peers import StorePeer
from hicache.versions import NEWEST, Version

Attach = Callable[..., Controller]


@pytest.fixture
def version(request: pytest.FixtureRequest) -> Version:
    """The newest release, or what a test is parametrised with."""
    chosen: Version = getattr(request, "param", NEWEST)
    return chosen


@pytest.fixture
def sglang(version: Version) -> Iterator[FakeSGLang]:
    with installed(version) as fake:
        yield fake


@pytest.fixture
def attach(sglang: FakeSGLang, port: int) -> Iterator[Attach]:
    """Attach a store: attach(kv_pool, sides, extra={...}, v1=..., tp_rank=...)."""
    controllers: list[Controller] = []

    def make(
        kv: pools.PoolDouble | None = None,
        sides: dict[str, pools.PoolDouble] | None = None,
        *,
        sglang: FakeSGLang = sglang,
        extra: dict[str, Any] | None = None,
        **config: Any,
    ) -> Controller:
        named = {"kv": kv if kv is not None else pools.mha()} | (sides or {})
        user = settings(port, **(extra or {}))
        controllers.append(Controller(sglang, named, user, **config))
        return controllers[-1]

    yield make
    for controller in controllers:
        controller.close()


@pytest.fixture
def members(make_node: Callable[..., peercache.Node]) -> Callable[[int], None]:
    """Wait until so many stores are in the cluster, seen by a node that only looks."""
    watcher = make_node(global_segment_size="4mb", region_size="4mb")

    def wait_for(n: int) -> None:
        wait_until(lambda: bool(watcher.stats()["members"] == n + 1), f"{n} stores")

    return wait_for


@pytest.fixture
def store_peer(port: int, version: Version) -> Iterator[Callable[..., StorePeer]]:
    peers: list[StorePeer] = []

    def make(pool: str = "mha-page_first", **extra: Any) -> StorePeer:
        peers.append(StorePeer(version.name, settings(port, **extra), {"pool": pool}))
        return peers[-1]

    yield make
    for peer in peers:
        peer.end()
