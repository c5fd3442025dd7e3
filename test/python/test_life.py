"""From construction to close: settings, threads, fork, the end of Python."""

import gc
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import peercache
from conftest import DEADLINE_S, free_port, settings
from peercache import _native

CALLS: list[Callable[[peercache.Node], object]] = [
    lambda n: n.put(["a"], [b"x"]),
    lambda n: n.get_into(["a"], [bytearray(1)]),
    lambda n: n.get("a"),
    lambda n: n.exists(["a"]),
    lambda n: n.exists([]),
    lambda n: n.match(["a"]),
    lambda n: n.remove(["a"]),
    lambda n: n.clear(),
    lambda n: n.drain(timeout=0),
    lambda n: n.register(bytearray(1)),
    lambda n: n.stats(),
    lambda n: n.wait_ready(1),
]


def test_the_status_table_is_the_librarys() -> None:
    assert _native.statuses() == {status.name: status.value for status in peercache.Status}
    assert peercache.__version__ == _native.version()


def test_exceptions_are_of_the_kinds_people_catch() -> None:
    assert issubclass(peercache.PeerCacheError, RuntimeError)
    assert issubclass(peercache.ClosedError, peercache.PeerCacheError)
    assert issubclass(peercache.ConfigError, ValueError)
    assert issubclass(peercache.TimedOutError, TimeoutError)


def test_a_with_block_closes(port: int) -> None:
    with peercache.Node(**settings(port)) as node:
        assert node.wait_ready(DEADLINE_S) is True
        assert not node.closed
    assert node.closed


@pytest.mark.parametrize("call", CALLS)
def test_a_closed_node_raises(node: peercache.Node, call: Callable[..., object]) -> None:
    node.close()
    with pytest.raises(peercache.ClosedError) as caught:
        call(node)
    assert caught.value.status == peercache.Status.SHUTDOWN
    node.close()


def test_every_wrong_setting_is_named_at_once(port: int) -> None:
    with pytest.raises(peercache.ConfigError) as caught:
        peercache.Node(**settings(port, read_mode="sideways", vnodes=0, nonsense=True))
    text = str(caught.value)
    assert all(part in text for part in ("read_mode", "sideways", "vnodes", "nonsense"))
    assert caught.value.status == peercache.Status.INVALID


@pytest.mark.parametrize("value", [b"bytes", {}, 1j, [1, 2], object()])
def test_a_setting_of_another_type_raises(value: object) -> None:
    with pytest.raises(TypeError, match="setting prefix"):
        peercache.Node(prefix=value)  # type: ignore[arg-type]


def test_a_zero_byte_in_a_setting_raises() -> None:
    with pytest.raises(peercache.ConfigError, match="zero byte"):
        peercache.Node(prefix="a\0b")


def test_settings_are_python_values_or_texts(make_node: Callable[..., peercache.Node]) -> None:
    node = make_node(
        global_segment_size=16 << 20, op_timeout=1.5, spin="10us", hedge=0.00001,
        allow_insecure=False, vnodes="40", disk_path=Path("nowhere"), prefix=None,
        device_names=["a", "b"], read_mode="served",
    )  # fmt: skip
    shown = str(node.stats()["info"])
    assert "served" in shown


def test_the_environment_counts_where_no_argument_is_given(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEERCACHE_READ_MODE", "sideways")
    with pytest.raises(peercache.ConfigError, match="sideways"):
        peercache.Node(**settings(port))


def test_a_node_is_initialized_once(node: peercache.Node) -> None:
    with pytest.raises(RuntimeError, match="once"):
        node.__init__()  # type: ignore[misc]
    assert node.exists(["a"]) == [False]


def test_a_node_that_was_never_initialized_is_closed() -> None:
    node = peercache.Node.__new__(peercache.Node)
    with pytest.raises(peercache.ClosedError):
        node.exists(["a"])
    node.close()


def test_stats_have_metrics_and_info(node: peercache.Node) -> None:
    node.put(["a", "b"], [b"1", b"2"])
    node.get("a")
    node.get("absent")
    stats = node.stats()
    assert stats["pool_keys"] == 2
    assert stats["read_hits_total"] >= 1
    assert stats["read_mode_hits_total"]["served"] == 0
    assert isinstance(stats["info"], dict)


def test_a_key_is_explained(node: peercache.Node) -> None:
    node.put(["a"], [b"1"], namespace="n")
    there = node.explain("a", namespace="n")
    assert there["result"] == "OK"
    assert [owner["answer"] for owner in there["owners"]] == ["present"]
    assert [phase["name"] for phase in there["phases"]] == ["local", "owners", "holders", "ways"]
    assert node.explain(b"a")["result"] == "NOT_FOUND"


def test_metrics_text_is_read_with_labels_and_escapes() -> None:
    from peercache.stats import parse_metrics

    text = r"""# HELP peercache_keys values
peercache_keys{node="a\"b",rank="0"} 3
peercache_misses_total{node="a\"b",rank="0",cause="stale"} 1
peercache_misses_total{node="a\"b",rank="0",cause="a,}b"} 2
peercache_time{node="a\"b",rank="0",mode="x",le="+Inf"} 0.25
"""
    assert parse_metrics(text) == {
        "keys": 3,
        "misses_total": {"stale": 1, "a,}b": 2},
        "time": {"x,+Inf": 0.25},
    }
    assert parse_metrics("") == {}


def test_a_wait_that_is_in_vain_times_out(
    make_node: Callable[..., peercache.Node], silent_port: int
) -> None:
    node = make_node(port=silent_port)
    with pytest.raises(peercache.TimedOutError) as caught:
        node.wait_ready(0.2)
    assert caught.value.status == peercache.Status.TIMED_OUT
    with pytest.raises(TimeoutError):
        node.wait_ready(timeout=0)


def test_other_threads_run_while_one_waits(
    make_node: Callable[..., peercache.Node], silent_port: int
) -> None:
    node = make_node(port=silent_port)
    started = threading.Event()
    times: list[float] = []

    def wait() -> None:
        started.set()
        begin = time.monotonic()
        with pytest.raises(peercache.TimedOutError):
            node.wait_ready(1)
        times.append(time.monotonic() - begin)

    waiter = threading.Thread(target=wait)
    waiter.start()
    started.wait()
    n_turns = 0
    while not times:
        n_turns += 1
        waiter.join(0.001)
    assert n_turns >= 10


def test_close_waits_for_calls_of_other_threads(
    make_node: Callable[..., peercache.Node], silent_port: int
) -> None:
    node = make_node(port=silent_port)
    started = threading.Event()
    outcomes: list[BaseException] = []

    def wait() -> None:
        started.set()
        try:
            node.wait_ready(None)
        except BaseException as error:
            outcomes.append(error)

    waiters = [threading.Thread(target=wait) for _ in range(4)]
    for waiter in waiters:
        waiter.start()
    started.wait()
    node.close()
    for waiter in waiters:
        waiter.join(DEADLINE_S)
    assert [type(outcome) for outcome in outcomes] == [peercache.ClosedError] * 4


def test_calls_end_when_their_node_closes(make_node: Callable[..., peercache.Node]) -> None:
    node = make_node()
    node.wait_ready(DEADLINE_S)
    keys = [str(k) for k in range(32)]
    running = threading.Barrier(5)
    strange: list[object] = []

    def work() -> None:
        buffers = [bytearray(4096) for _ in keys]
        values = [bytes([k]) * 4096 for k in range(32)]
        node.put(keys, values)
        running.wait()
        try:
            while True:
                node.put(keys, values)
                for ok, value, buffer in zip(node.get_into(keys, buffers), values, buffers):
                    if ok and value != buffer:
                        strange.append(buffer)
        except peercache.ClosedError:
            return
        except BaseException as error:
            strange.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    running.wait()
    closers = [threading.Thread(target=node.close) for _ in range(3)]
    for thread in closers:
        thread.start()
    for thread in closers + workers:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    assert not strange


def test_close_does_not_wait_for_a_pool_that_is_still_growing(
    make_node: Callable[..., peercache.Node],
) -> None:
    if os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 8 << 30:
        pytest.skip("not enough memory for a region that takes long")
    node = make_node(global_segment_size="4gb", region_size="4gb")
    begin = time.monotonic()
    node.close()
    # To touch 4 GiB takes two seconds and more.
    assert time.monotonic() - begin < 1.5


def test_a_forgotten_node_closes_itself(port: int) -> None:
    memory = bytearray(16)
    node = peercache.Node(**settings(port))
    node.register(memory)
    del node
    gc.collect()
    memory.append(0)  # Held memory could not grow.


def test_a_fork_leaves_the_node_to_its_parent(node: peercache.Node) -> None:
    node.put(["a"], [b"x"])
    handle = node.register(bytearray(16))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            node.exists(["a"])
        except peercache.PeerCacheError as error:
            code = 0 if error.status == peercache.Status.FORKED else 2
        try:
            handle.close()
            node.close()
        except BaseException:
            code = 3
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert node.get("a") == b"x"


def test_python_ends_with_open_nodes() -> None:
    program = (
        "import json, sys, peercache\n"
        "node = peercache.Node(**json.loads(sys.argv[1]))\n"
        "node.wait_ready(30)\n"
        "print(node.put(['a'], [b'x']))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, json.dumps(settings(free_port()))],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, "[True]\n"), ended.stderr


def test_type_hints_ship_and_are_right() -> None:
    pytest.importorskip("mypy")
    assert (Path(peercache.__file__).parent / "py.typed").exists()
    names = ["typed_usage.py"]
    names += ["typed_numpy.py"] if importlib.util.find_spec("numpy") else []
    programs = [str(Path(__file__).parent / name) for name in names]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={os.devnull}", *programs],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
