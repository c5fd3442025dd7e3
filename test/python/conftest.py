"""Nodes, ports and peers in other processes for the tests of the package."""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import peercache

# No test leaves values in the directory that is the default.
os.environ.setdefault("PEERCACHE_DISK_ENABLED", "false")

DEADLINE_S = 30.0
PEER = Path(__file__).parent / "peer.py"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test that is run again is not silent about why."""
    if report.outcome == "rerun":  # type: ignore[comparison-overlap]
        print(f"\n{report.nodeid} is run again:\n{report.longreprtext}", file=sys.stderr)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings(port: int, **changes: Any) -> dict[str, Any]:
    """Of a small node that needs nothing of the host but loopback."""
    return {
        "discovery_addr": f"127.0.0.1:{port}",
        "global_segment_size": "16mb",
        "region_size": "8mb",
        "disk_enabled": False,
        "metrics_enabled": False,
        "log_level": "warn",
        "heartbeat_interval": 0.1,
        "member_ttl": 2,
        "protocol": "tcp",
    } | changes


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look again until it holds; fail at the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.01)


def wait_for_members(nodes: list[peercache.Node], n: int) -> None:
    def all_see_them() -> bool:
        return all(node.stats()["members"] == n for node in nodes)

    wait_until(all_see_them, f"{n} members")


def has_ucx() -> bool:
    folder = Path(peercache.__file__).parent
    places = [folder, folder / "peercache"]
    places += [Path(p) for p in os.environ.get("LD_LIBRARY_PATH", "").split(":") if p]
    return any(list(place.glob("libpeercache_ucx*")) for place in places)


class Peer:
    """A node in another process, told what to do line by line."""

    def __init__(self, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PEER), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._unread = b""
        assert self._answer() == "ready"

    def _answer(self) -> Any:
        out = self.process.stdout
        assert out is not None
        end = time.monotonic() + DEADLINE_S
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                assert selector.select(end - time.monotonic()), "the peer is silent"
                more = os.read(out.fileno(), 65536)
                assert more, "the peer ended"
                self._unread += more
        line, self._unread = self._unread.split(b"\n", 1)
        return json.loads(line)

    def ask(self, verb: str, *args: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([verb, *args]).encode() + b"\n")
        self.process.stdin.flush()
        return self._answer()

    def stop(self) -> None:
        """Stop all its threads, and return when they have stopped."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A discovery port behind which nobody answers: no node becomes ready."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        yield int(listener.getsockname()[1])


@pytest.fixture
def make_node(port: int) -> Iterator[Callable[..., peercache.Node]]:
    nodes: list[peercache.Node] = []

    def make(**changes: Any) -> peercache.Node:
        node = peercache.Node(**settings(changes.pop("port", port), **changes))
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.close()


@pytest.fixture
def make_peer(port: int) -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def make(**changes: Any) -> Peer:
        peers.append(Peer(**settings(port, **changes)))
        return peers[-1]

    yield make
    for peer in peers:
        peer.end()


@pytest.fixture
def node(make_node: Callable[..., peercache.Node]) -> peercache.Node:
    node = make_node()
    node.wait_ready(DEADLINE_S)
    return node
