"""Which UCX a process uses, and what it says where there is none.

Every test looks at processes of their own: what one has loaded stays. Where
libucx of PyPI is not installed, its tests are skipped; ci/wheel_test.sh runs
this file in every setting, and says with PEERCACHE_TEST_UCX which UCX a node
must find there by itself: "system", "pypi" or "none".
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import DEADLINE_S, PEER, Peer, free_port, has_ucx, settings, wait_until

EXPECTED = os.environ.get("PEERCACHE_TEST_UCX", "")
WAYS = ("apt install libucx0", "pip install libucx-cu12")
PLAIN_ENV = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("UCX_", "PEERCACHE_"))
}

needs_module = pytest.mark.skipif(not has_ucx(), reason="this build has no UCX module")
needs_pypi = pytest.mark.skipif(
    importlib.util.find_spec("libucx") is None, reason="libucx of PyPI is not installed"
)

# A node that tells what it has found; further lines go before it.
TELL = """
import json, sys
import peercache
with peercache.Node(**json.loads(sys.argv[1])) as node:
    node.wait_ready(30)
    stored = node.put(["key"], [b"value"])
    value = node.get("key").decode()
    print(json.dumps([node.stats()["info"], stored, value]))
"""


def run(program: str, choice: str | None = None, **changes: Any) -> tuple[Any, str]:
    """What a program prints, as JSON, and its log."""
    ended = subprocess.run(
        [sys.executable, "-c", program, json.dumps(settings(free_port(), **changes))],
        env={**PLAIN_ENV, **({"PEERCACHE_UCX": choice} if choice is not None else {})},
        capture_output=True, text=True, timeout=2 * DEADLINE_S,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout), ended.stderr


def lines_about_ways(log: str) -> list[str]:
    return [line for line in log.splitlines() if any(way in line for way in WAYS)]


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Peer, Peer]]:
    """Two nodes in two processes with the same PEERCACHE_UCX, or None."""
    choice = request.param
    port = free_port()
    saved = dict(os.environ)
    os.environ.update({"PEERCACHE_UCX": choice} if choice else {})
    peers: list[Peer] = []
    try:
        peers += [Peer(**settings(port)) for _ in range(2)]
        yield peers[0], peers[1]
    finally:
        os.environ.clear()
        os.environ.update(saved)
        for peer in peers:
            peer.end()


def path_to_other(peer: Peer) -> Any:
    info = peer.ask("stats")["info"]
    others = [member["path"] for member in info["members"] if member["path"]["mode"] != "self"]
    return others[0] if others else {"mode": "alone"}


def get_between(pair: tuple[Peer, Peer], mode: str) -> None:
    """A value of 64 KiB put by one and got by the other, in this way."""
    owner, reader = pair
    wait_until(lambda: bool(path_to_other(reader)["mode"] == mode), f"the path to be {mode}")
    value = "v" * 65536
    assert owner.ask("put", ["key"], [value]) == [True]
    wait_until(lambda: bool(reader.ask("exists", ["key"]) == [True]), "the key to be known")
    assert reader.ask("get", "key") == value
    hits = reader.ask("stats")["read_mode_hits_total"]
    assert [way for way, n in hits.items() if n] == [mode], hits


@needs_module
@pytest.mark.skipif(EXPECTED == "", reason="what is installed here is not known")
def test_a_node_finds_the_ucx_that_is_there() -> None:
    (info, stored, value), log = run(TELL)
    assert info["ucx"]["source"] == EXPECTED
    assert (stored, value) == ([True], "value")
    if EXPECTED == "none":
        assert info["ucx"] == {"source": "none", "version": "", "path": ""}
        assert len(log.splitlines()) == 1, log
        assert all(way in log for way in WAYS)
    else:
        assert info["ucx"]["version"] in info["fabric"]
        assert lines_about_ways(log) == []


@needs_module
@pytest.mark.skipif(EXPECTED in ("", "none"), reason="there is no UCX, or it is not known")
@pytest.mark.parametrize("pair", [None], indirect=True)
def test_two_processes_map_each_others_memory(pair: tuple[Peer, Peer]) -> None:
    get_between(pair, "mapped")
    assert [peer.ask("stats")["info"]["ucx"]["source"] for peer in pair] == [EXPECTED] * 2


@needs_module
@needs_pypi
@pytest.mark.parametrize("pair", ["pypi"], indirect=True)
def test_two_processes_map_each_others_memory_by_the_package(pair: tuple[Peer, Peer]) -> None:
    get_between(pair, "mapped")
    assert [peer.ask("stats")["info"]["ucx"]["source"] for peer in pair] == ["pypi"] * 2


@pytest.mark.parametrize("pair", ["none"], indirect=True)
def test_two_processes_serve_each_other_without_ucx(pair: tuple[Peer, Peer]) -> None:
    get_between(pair, "served")


@needs_pypi
def test_the_package_is_taken_when_it_is_chosen() -> None:
    (info, _, value), log = run(TELL, "pypi")
    spec = importlib.util.find_spec("libucx")
    assert spec is not None and spec.origin is not None
    assert info["ucx"]["source"] == "pypi"
    assert Path(spec.origin).resolve().parent in Path(info["ucx"]["path"]).parents
    assert value == "value"
    assert lines_about_ways(log) == []


@needs_pypi
def test_only_one_ucx_is_in_the_process() -> None:
    program = TELL.partition("    stored")[0] + """
    maps = {line.split()[-1] for line in open("/proc/self/maps") if "libuc" in line}
    folders = {path.rpartition("/")[0] for path in maps if "libucp." in path or "libucs." in path}
    print(json.dumps(sorted(folders)))
"""
    folders, _ = run(program, "pypi")
    assert len(folders) == 1, folders


@needs_pypi
def test_the_systems_does_not_join_the_package() -> None:
    load = "import libucx; kept = libucx.load_library()\n"
    (info, _, value), _ = run(load + TELL, "system")
    assert info["ucx"]["source"] == "pypi"
    assert value == "value"


@needs_pypi
@pytest.mark.skipif(EXPECTED == "pypi", reason="the system has none")
def test_the_package_does_not_join_the_systems() -> None:
    load = """
import ctypes
try:
    kept = ctypes.CDLL("libucp.so.0")
except OSError:
    print("null")
    raise SystemExit
"""
    answer, log = run(load + TELL, "pypi")
    if answer is None:
        pytest.skip("the system has none")
    assert answer[0]["ucx"]["source"] == "system"
    assert "had loaded UCX from" in log


@pytest.mark.skipif(importlib.util.find_spec("libucx") is not None, reason="libucx is installed")
def test_a_chosen_package_that_is_missing_is_said_once() -> None:
    first = TELL.partition("    stored")[0]
    (info, _, value), log = run(first + TELL, "pypi")
    assert info["ucx"]["source"] == "none"
    assert info["fabric"] == "none"
    assert value == "value"
    assert len(lines_about_ways(log)) == 1


def test_none_loads_no_ucx_and_says_nothing_about_getting_one() -> None:
    program = TELL + """
    sys.exit("loaded" if "libucp" in open("/proc/self/maps").read() else 0)
"""
    (info, _, value), log = run(program, "none")
    assert info["ucx"]["source"] == "none"
    assert info["fabric"] == "none"
    assert value == "value"
    assert log == ""


def test_a_choice_that_does_not_exist_is_refused_with_the_choices() -> None:
    program = """
import json, sys, peercache
try:
    peercache.Node(**json.loads(sys.argv[1]))
except peercache.ConfigError as error:
    print(json.dumps(str(error)))
"""
    message, _ = run(program, "debian")
    assert message == "PEERCACHE_UCX: 'debian' is none of auto, system, pypi, none"


@pytest.mark.parametrize("choice", ["auto", "system", "pypi", "none"])
def test_signal_handlers_and_environment_stay_the_hosts(choice: str) -> None:
    from test_import import READ_HANDLERS

    program = READ_HANDLERS + """
import faulthandler, json, os, sys
faulthandler.enable()

def variables():
    # As C code sees them; os.environ is Python's copy.
    table, n = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ"), 0
    while table[n] is not None:
        n += 1
    return sorted(table[:n])

environment, seen, before = dict(os.environ), variables(), handlers()
import peercache
with peercache.Node(**json.loads(sys.argv[1])) as node:
    node.wait_ready(30)
    after = handlers()
changed = sorted(n for n in before if after[n] != before[n])
same = dict(os.environ) == environment and variables() == seen
print(json.dumps([changed, same]))
"""
    (changed, same_environment), _ = run(program, choice)
    assert changed == []
    assert same_environment
