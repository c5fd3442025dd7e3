"""Workers, addresses, and the table at the end of the run."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from table import Ledger
from workers import Worker

LEDGER = Ledger()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend", default="peercache", choices=["peercache", "file"],
        help="file: SGLang's own, to see that the tests themselves are right",
    )


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for line in LEDGER.lines():
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def ledger() -> Ledger:
    return LEDGER


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def port() -> int:
    """Of a cluster of this module's own."""
    return free_port()


class Backend:
    """What the instances of a cluster are attached to."""

    def __init__(self, kind: str, port: int) -> None:
        self.name = "dynamic" if kind == "peercache" else "file"
        self._port = port

    def extra(self, path: str = "v1", **more: Any) -> dict[str, Any]:
        """The extra configuration; path "v1" or "generic"."""
        if self.name == "file":
            return {}
        settings = {
            "backend_name": "peercache",
            "module_path": "peercache.store",
            "class_name": "PeerCacheStore",
            "discovery_addr": f"127.0.0.1:{self._port}",
            "global_segment_size": "64mb",
            "region_size": "16mb",
            "disk_enabled": False,
            "metrics_enabled": False,
            "heartbeat_interval": 0.1,
            "member_ttl": 2,
            "protocol": "tcp",
            "log_level": "warn",
        }
        if path == "v1":
            settings["interface_v1"] = 1
        return settings | more


@pytest.fixture(scope="module")
def backend(
    request: pytest.FixtureRequest, port: int, tmp_path_factory: pytest.TempPathFactory
) -> Backend:
    return Backend(request.config.getoption("--backend"), port)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("file-backend")


@pytest.fixture(scope="module")
def make_worker(shared_folder: Path) -> Iterator[Callable[..., Worker]]:
    """Workers that end with the module."""
    workers: list[Worker] = []

    def make(**arguments: Any) -> Worker:
        environment = {"SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR": str(shared_folder)}
        environment.update(arguments.pop("environment", {}))
        workers.append(Worker(environment=environment, **arguments))
        return workers[-1]

    yield make
    for worker in workers:
        worker.end()


@pytest.fixture(scope="module")
def make_ranks(make_worker: Callable[..., Worker]) -> Callable[..., list[Worker]]:
    """The ranks of one instance, in processes that share a gloo group."""

    def make(size: int, seed: int, **arguments: Any) -> list[Worker]:
        group_port = free_port()
        return [
            make_worker(rank=rank, size=size, group_port=group_port, seed=seed, **arguments)
            for rank in range(size)
        ]

    return make
