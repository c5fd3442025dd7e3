"""What SGLang's calls cost through the adapter, over the limits of the same run.

One owner holds the pages; readers are processes of the same host. Each figure and its
limit are taken in turns, and the table has medians:

- batch_get_v1 of 128 pages of 2.5 MiB, mapped, over the same get in C (pages_c.c)
- batch_exists of 128 keys: of this node, mapped, and remote (TCP) over a round trip of
  the bytes of the keys through a plain socket
- batch_get_v1 of small pages of this node, over Node.get_into of the same pieces
- attach with a pool of 16 GiB: constructor and register_mem_pool_host; when it is all
  there; close

    test/bench/adapter.py [--rounds N] [--attach-gib N]

Needs the package, numpy and a C compiler; neither torch nor SGLang. Never part of the
tests: times depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import peercache
from peercache.store import PeerCacheStore

HERE = Path(__file__).resolve().parent
N_KEYS = 128
PAGE_TOKENS = 64
PIECE_LEN = 5 << 18  # K or V: 1.25 MiB, a page of Llama-3-70B on 8 GPUs.
SMALL_LEN = 64
READY_S = 30.0
POOL_S = 90.0  # Some machines need seconds for each GiB that is touched first.
KEYS = [f"{i:064x}" for i in range(N_KEYS)]
TOKENS = np.arange(N_KEYS * PAGE_TOKENS, dtype=np.int64)
MODEL = "bench"


class Pool:
    """A host pool as SGLang's of layout page_first_direct: all K pages, all V pages."""

    layout, dtype, layer_num, start_layer, end_layer = "page_first_direct", "uint8", 1, 0, 0
    page_size = PAGE_TOKENS

    def __init__(self, piece_len: int, fill: int = 0) -> None:
        self.page_num, self.size = N_KEYS, N_KEYS * PAGE_TOKENS
        self._piece_len = piece_len
        self.kv_buffer = np.full(2 * N_KEYS * piece_len, fill, dtype=np.uint8)
        self._bases = [self.kv_buffer.ctypes.data + j * N_KEYS * piece_len for j in (0, 1)]

    def get_page_buffer_meta(self, indices: Any) -> tuple[list[int], list[int]]:
        slots = [int(token) // PAGE_TOKENS for token in indices[::PAGE_TOKENS]]
        pointers = [base + s * self._piece_len for s in slots for base in self._bases]
        return pointers, [self._piece_len] * len(pointers)

    def pieces(self) -> list[list[np.ndarray]]:
        """Per page its two pieces."""
        half, size = N_KEYS * self._piece_len, self._piece_len
        return [
            [self.kv_buffer[j * half + i * size :][:size] for j in (0, 1)] for i in range(N_KEYS)
        ]


def settings_of(port: int, pool: str, **more: str) -> dict[str, str]:
    return {
        "discovery_addr": f"127.0.0.1:{port}",
        "cluster_name": "adapter-bench",
        "global_segment_size": pool,
        "disk_enabled": "false",
        "metrics_enabled": "false",
        "heartbeat_interval": "0.2",
        "protocol": "tcp",
        "log_level": "error",
        **more,
    }


def attach(pool: Any, settings: dict[str, str], model: str = MODEL) -> PeerCacheStore:
    extra = {**settings, "interface_v1": 1}
    config = SimpleNamespace(
        tp_rank=0, tp_size=1, model_name=model, is_mla_model=False, extra_config=extra
    )
    store = PeerCacheStore(config, {})
    store.register_mem_pool_host(pool)
    return store


def wait_for(good: Callable[[], bool], what: str, limit_s: float = READY_S) -> None:
    begin = time.monotonic()
    while not good():
        if time.monotonic() - begin > limit_s:
            raise SystemExit(f"waited {limit_s:.0f} s for {what}")
        time.sleep(0.001)


def is_whole(store: PeerCacheStore) -> bool:
    """Whether all regions of the node's pool are there."""
    pool = json.loads(store._node.info_text())["pool"]
    return pool["regions"] > 0 and not pool["registering"]


# ---- Other processes ------------------------------------------------------------------


def own(port: int) -> None:
    """Hold the pages until stdin ends, and answer what comes to a socket."""
    pool = Pool(PIECE_LEN, fill=7)
    store = attach(pool, settings_of(port, "1gb", region_size="512mb"))
    wait_for(lambda: all(store.batch_set_v1(KEYS, TOKENS)), "the owner's pages")
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        threading.Thread(target=echo, args=(server,), daemon=True).start()
        sys.stdin.read()
    store.close()


def echo(server: socket.socket) -> None:
    connection, _ = server.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    size = N_KEYS * 16  # A digest of each key.
    while receive(connection, size):
        connection.sendall(bytes(N_KEYS))


def receive(connection: socket.socket, size: int) -> bool:
    while size > 0:
        got = len(connection.recv(size))
        if got == 0:
            return False
        size -= got
    return True


@contextmanager
def child(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.communicate(timeout=READY_S)


def ask(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None and process.stdout is not None
    if line:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    answer = process.stdout.readline().strip()
    if not answer:
        raise SystemExit(f"{process.args!r} ended")
    return answer


def ask_ns(process: subprocess.Popen[str], verb: str) -> float:
    ns = int(ask(process, verb))
    if ns < 0:
        raise SystemExit(f"{verb} in C: a page is missing")
    return ns


def build_c(folder: Path) -> Path:
    """pages_c, linked with the library that the package has loaded."""
    library = min(Path(peercache.__file__).parent.glob("libpeercache.so*"))
    program = folder / "pages_c"
    subprocess.run(
        [
            shutil.which("cc") or "cc", "-std=gnu11", "-O2", "-o", str(program),
            str(HERE / "pages_c.c"), f"-I{HERE.parent.parent / 'lib' / 'include'}",
            str(library), f"-Wl,-rpath,{library.parent}",
        ],
        check=True,
    )  # fmt: skip
    return program


# ---- Measuring --------------------------------------------------------------------------


def time_ns(call: Callable[[], Any], right: Any) -> float:
    begin = time.perf_counter_ns()
    answer = call()
    elapsed = time.perf_counter_ns() - begin
    if answer != right:
        raise SystemExit("a page is missing")
    return elapsed


def in_turns(n_rounds: int, *calls: Callable[[], float]) -> list[list[float]]:
    """Times of each call; a tenth of the rounds, at least three, warms up."""
    times: list[list[float]] = [[] for _ in calls]
    warmup = max(3, n_rounds // 10)
    for i in range(warmup + n_rounds):
        for call, row in zip(calls, times):
            elapsed = call()
            if i >= warmup:
                row.append(elapsed)
    return times


def percentile(row: list[float], share: float) -> float:
    return sorted(row)[min(len(row) - 1, int(share * len(row)))]


def say(what: str, figure: str, limit: str, ratio: str, goal: str) -> None:
    print(f"{what:<44}{figure:>24}{limit:>24}{ratio:>10}  {goal}", flush=True)


def met(good: bool) -> str:
    return "met" if good else "NOT MET"


def measure_get(store: PeerCacheStore, pool: Pool, in_c: Any, n_rounds: int) -> None:
    right = [True] * N_KEYS
    python, c = in_turns(
        n_rounds,
        lambda: time_ns(lambda: store.batch_get_v1(KEYS, TOKENS), right),
        lambda: ask_ns(in_c, "get"),
    )
    if not (pool.kv_buffer == 7).all():
        raise SystemExit("wrong bytes")
    n_bytes = pool.kv_buffer.nbytes
    ours, limit = (n_bytes / statistics.median(row) for row in (python, c))
    ratio = statistics.median(b / a for a, b in zip(python, c))
    say(
        "batch_get_v1, 128 x 2.5 MiB, mapped; C", f"{ours:.2f} GB/s", f"{limit:.2f} GB/s",
        f"{ratio:.3f}", f">= 0.9: {met(ratio >= 0.9)}",
    )


def measure_exists(
    what: str, store: PeerCacheStore, limit: Callable[[], float], n_rounds: int, goal_us: float
) -> None:
    ours, other = in_turns(
        n_rounds, lambda: time_ns(lambda: store.batch_exists(KEYS), N_KEYS), limit
    )
    p50, p99 = (percentile(ours, share) / 1e3 for share in (0.5, 0.99))
    limit_us = statistics.median(other) / 1e3
    goal = f"<= {goal_us:.0f} us: {met(p50 <= goal_us)}" if goal_us else "one round trip"
    say(
        what, f"p50 {p50:.1f} p99 {p99:.1f} us", f"{limit_us:.1f} us", f"{p50 / limit_us:.2f}", goal
    )


def measure_pages(port: int, n_rounds: int) -> None:
    """Small pages of this node: the library does little, what is left is the adapter."""
    pool = Pool(SMALL_LEN)
    store = attach(pool, settings_of(port, "64mb", region_size="32mb"), "small")
    try:
        wait_for(lambda: all(store.batch_set_v1(KEYS, TOKENS)), "small pages")
        right, pieces = [True] * N_KEYS, pool.pieces()
        name = store._pools["kv"].namespaces[0]
        adapter, node = in_turns(
            n_rounds,
            lambda: time_ns(lambda: store.batch_get_v1(KEYS, TOKENS), right),
            lambda: time_ns(lambda: store._node.get_into(KEYS, pieces, namespace=name), right),
        )
        over = statistics.median(a - b for a, b in zip(adapter, node)) / N_KEYS / 1e3
        ours, limit = (statistics.median(row) / N_KEYS / 1e3 for row in (adapter, node))
        say(
            "batch_get_v1, own small pages; Node.get_into", f"{ours:.3f} us a page",
            f"{limit:.3f} us a page", f"{over:+.3f}", f"adds <= 1 us: {met(over <= 1)}",
        )
        measure_exists(
            "batch_exists, 128 own keys; Node.exists", store,
            lambda: time_ns(lambda: store._node.exists(KEYS, namespace=name), right),
            n_rounds, 100,
        )
    finally:
        store.close()


def round_trip(connection: socket.socket) -> float:
    begin = time.perf_counter_ns()
    connection.sendall(bytes(N_KEYS * 16))
    receive(connection, N_KEYS)
    return time.perf_counter_ns() - begin


def measure_others(port: int, echo_port: int, program: Path, n_rounds: int) -> None:
    """Pages of the owner, mapped and served."""
    pool = Pool(PIECE_LEN)
    store = attach(pool, settings_of(port, "64mb", region_size="32mb"))
    wait_for(lambda: store.batch_exists(KEYS) == N_KEYS, "the owner's pages")
    store._buffers.wait(READY_S)
    name = store._pools["kv"].namespaces[0].hex()
    lines = [f"{k}={v}" for k, v in settings_of(port, "64mb", region_size="32mb").items()]
    with child([str(program), name, str(N_KEYS), str(PIECE_LEN), *lines]) as in_c:
        wait_for(lambda: int(ask(in_c, "get")) > 0, "the pages in C")
        measure_get(store, pool, in_c, max(10, n_rounds // 50))
        measure_exists(
            "batch_exists, 128 mapped keys; C", store, lambda: ask_ns(in_c, "exists"),
            n_rounds, 100,
        )
    store.close()
    served = settings_of(port, "64mb", region_size="32mb", read_mode="served")
    remote = attach(pool, served)
    wait_for(lambda: remote.batch_exists(KEYS) == N_KEYS, "the owner's pages, served")
    with socket.create_connection(("127.0.0.1", echo_port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        measure_exists(
            "batch_exists, 128 served keys; round trip", remote,
            lambda: round_trip(connection), n_rounds, 0,
        )
    remote.close()


# ---- Attach -------------------------------------------------------------------------------


def attach_once(gib: int, port: int) -> None:
    """In a fresh process: prints the seconds of each part."""
    pool = Pool(PIECE_LEN)
    begin = time.monotonic()
    store = attach(pool, settings_of(port, f"{gib}gb"))
    attached = time.monotonic() - begin
    first = time.monotonic()
    store.batch_exists(KEYS)
    answered = time.monotonic() - first
    one = TOKENS[:PAGE_TOKENS]
    wait_for(lambda: store.batch_set_v1(KEYS[:1], one) == [True], "room for a page")
    stores = time.monotonic() - begin
    wait_for(lambda: is_whole(store), f"a pool of {gib} GiB", POOL_S)
    ready = time.monotonic() - begin
    store._buffers.wait(READY_S)
    begin = time.monotonic()
    store.close()
    print(attached, answered, stores, ready, time.monotonic() - begin)


def measure_attach(gib: int, port: int) -> None:
    command = [sys.executable, __file__, "--child", "attach", "--attach-gib", str(gib)]
    output = subprocess.run(
        [*command, "--port", str(port)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    attached, answered, stores, ready, closed = (float(part) for part in output.split())
    what = f"attach, pool of {gib} GiB"
    say(what, f"{attached * 1e3:.0f} ms", "1000 ms", f"{attached:.3f}", met(attached <= 1))
    say("  first batch_exists after it", f"{answered * 1e3:.1f} ms", "500 ms", "", "")
    say("  until a page can be stored", f"{stores:.2f} s", "", "", "")
    say("  until the whole pool is ready", f"{ready:.2f} s", f"{ready / gib:.2f} s a GiB", "", "")
    say("  close", f"{closed * 1e3:.0f} ms", "5000 ms", f"{closed / 5:.3f}", met(closed <= 5))


def say_machine() -> None:
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    print(f"{model}, {os.cpu_count()} cores, {ram:.0f} GiB; Linux {platform.release()}")
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, "
        f"peercache {peercache.__version__}, medians\n"
    )
    print(f"{'figure; limit':<44}{'ours':>24}{'limit':>24}{'ratio':>10}  goal")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=1000, help="calls of each small figure")
    parser.add_argument("--attach-gib", type=int, default=16, help="pool of the attach; 0: none")
    parser.add_argument("--child", choices=["own", "attach"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child == "own":
        own(options.port)
        return
    if options.child == "attach":
        attach_once(options.attach_gib, options.port)
        return
    say_machine()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        program = build_c(Path(folder))
        owner_command = [sys.executable, __file__, "--child", "own", "--port", str(port)]
        with child(owner_command) as owner:
            measure_others(port, int(ask(owner, "")), program, options.rounds)
    measure_pages(free_port(), options.rounds)
    if options.attach_gib:
        measure_attach(options.attach_gib, free_port())


if __name__ == "__main__":
    main()
