"""What an import and a node leave alone: other packages, hardware, signals.

Each test runs a process of its own, since this one has imported everything.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import peercache
from conftest import DEADLINE_S, free_port, has_ucx, settings

PACKAGE = Path(peercache.__file__).parent
# Nothing of a user's UCX setup reaches these processes.
PLAIN_ENV = {k: v for k, v in os.environ.items() if not k.startswith(("UCX_", "PEERCACHE_"))}

# The address of each signal's handler, which a sigaction begins with; what the
# C library puts behind it is not all defined.
READ_HANDLERS = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)

def handlers():
    found = {}
    for number in range(1, 65):
        action = ctypes.create_string_buffer(256)
        if libc.sigaction(number, None, action) == 0:
            found[number] = action.raw[:ctypes.sizeof(ctypes.c_void_p)]
    return found
"""


def run(program: str, *args: Any, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program with JSON arguments, with the package of another folder."""
    env = PLAIN_ENV | ({"PYTHONPATH": str(path)} if path else {})
    return subprocess.run(
        [sys.executable, "-c", program, *map(json.dumps, args)],
        env=env, capture_output=True, text=True, timeout=2 * DEADLINE_S,
    )  # fmt: skip


def answer(program: str, *args: Any, path: Path | None = None) -> Any:
    ended = run(program, *args, path=path)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def node_settings(read_mode: str) -> dict[str, Any]:
    """Of a node that opens UCX, in every mode but served."""
    if read_mode != "served" and not has_ucx():
        pytest.skip("this build has no UCX module")
    ucx_tcp = "lo" if read_mode == "one-sided" else ""
    return settings(free_port(), read_mode=read_mode, ucx_tcp=ucx_tcp)


@pytest.mark.skipif(sys.version_info < (3, 10), reason="Python cannot list its own modules")
def test_only_the_standard_library_is_imported() -> None:
    program = """
import json, sys
for name in ("sglang", "torch", "numpy"):
    sys.modules[name] = None
before = set(sys.modules)
import peercache
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""
    imported = set(answer(program)) - set(sys.stdlib_module_names)
    assert imported == {"peercache"}


def test_an_import_opens_nothing() -> None:
    program = """
import json, os, sys
def state():
    return [os.listdir("/proc/self/task"), os.listdir("/proc/self/fd"), dict(os.environ)]
before = state()
import peercache
after = state()
maps = open("/proc/self/maps").read()
print(json.dumps([before, after, [name for name in ("libucp", "libucs", "libcuda") if name in maps]]))
"""
    before, after, loaded = answer(program)
    assert after == before
    assert loaded == []


def test_a_node_works_where_the_ucx_module_is_not(tmp_path: Path) -> None:
    without = shutil.ignore_patterns("libpeercache_ucx*")
    shutil.copytree(PACKAGE, tmp_path / "peercache", ignore=without)
    carried = PACKAGE.with_name("peercache.libs")  # Of a wheel (ci/wheel.sh).
    if carried.exists():
        shutil.copytree(carried, tmp_path / carried.name)
    program = """
import json, sys, peercache
with peercache.Node(**json.loads(sys.argv[1])) as node:
    node.wait_ready(30)
    stored = node.put(["a"], [b"x"])
    print(json.dumps([peercache.__file__, stored, node.get("a").decode()]))
"""
    place, stored, value = answer(program, settings(free_port()), path=tmp_path)
    assert Path(place).parent == tmp_path / "peercache"
    assert (stored, value) == ([True], "x")


@pytest.mark.parametrize("read_mode", ["auto", "one-sided", "served"])
def test_signal_handlers_stay_the_hosts(read_mode: str) -> None:
    program = READ_HANDLERS + """
import faulthandler, json, os, signal, sys
faulthandler.enable()
signal.signal(signal.SIGUSR1, lambda number, frame: None)
environment = dict(os.environ)
before = handlers()
import peercache
imported = handlers()
with peercache.Node(**json.loads(sys.argv[1])) as node:
    node.wait_ready(30)
    node.put(["a"], [b"x"])
    node.get("a")
    running = handlers()
    mask = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
closed = handlers()
changed = {n for n in before for now in (imported, running, closed) if now[n] != before[n]}
print(json.dumps([sorted(changed), mask, dict(os.environ) == environment]))
"""
    changed, mask, same_environment = answer(program, node_settings(read_mode))
    assert changed == []
    assert mask == []
    assert same_environment


@pytest.mark.parametrize("read_mode", ["auto", "one-sided", "served"])
def test_a_crash_of_the_host_is_reported_by_its_own_handler(read_mode: str) -> None:
    program = """
import ctypes, faulthandler, json, resource, sys, peercache
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
faulthandler.enable()
node = peercache.Node(**json.loads(sys.argv[1]))
node.wait_ready(30)
ctypes.string_at(0)
"""
    ended = run(program, node_settings(read_mode))
    assert ended.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in ended.stderr
    assert "<string>" in ended.stderr


def test_an_interrupt_reaches_a_waiting_program() -> None:
    program = """
import json, os, signal, sys, threading, peercache
# A shell's background jobs inherit that the signal is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
config = json.loads(sys.argv[1])
with peercache.Node(**config) as node:
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        node.wait_ready(30)
        threading.Event().wait(30)
    except KeyboardInterrupt:
        print(json.dumps("interrupted"))
"""
    assert answer(program, settings(free_port())) == "interrupted"
