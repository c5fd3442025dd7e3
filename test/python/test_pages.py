"""run_pages: one verb on several groups of pages of raw memory."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import peercache
from conftest import wait_for_members
from peercache import Status
from peercache._native import PageTable

OK, MISS = Status.OK, Status.NOT_FOUND
Call = Callable[[peercache.Node], object]


class Pool:
    """Memory for n pages, each of two pieces in two planes, as K and V."""

    def __init__(self, n: int, size: int = 48) -> None:
        self.n, self.size = n, size
        self.memory = bytearray(2 * n * size)
        self.base = ctypes.addressof((ctypes.c_char * len(self.memory)).from_buffer(self.memory))
        bases = [self.base, self.base + n * size]
        self.table = PageTable(bases, [size, size], [size, size])

    def place(self, slot: int, plane: int) -> slice:
        start = (plane * self.n + slot) * self.size
        return slice(start, start + self.size)

    def page(self, slot: int) -> bytes:
        return bytes(self.memory[self.place(slot, 0)] + self.memory[self.place(slot, 1)])

    def fill(self, slot: int, text: bytes) -> bytes:
        page = (text * (2 * self.size))[: 2 * self.size]
        self.memory[self.place(slot, 0)] = page[: self.size]
        self.memory[self.place(slot, 1)] = page[self.size :]
        return page

    def pointers(self, slots: list[int]) -> list[int]:
        return [self.base + self.place(slot, plane).start for slot in slots for plane in (0, 1)]


def put(node: peercache.Node, namespace: bytes, keys: list[str], memory: Any) -> list[int]:
    return node.run_pages("put", [(namespace, keys, memory)])[0]


def test_pages_of_scattered_pieces_come_back(node: peercache.Node) -> None:
    source, target = Pool(8), Pool(8)
    pages = [source.fill(slot, text) for slot, text in ((6, b"abc"), (0, b"de"), (3, b"fghij"))]
    assert put(node, b"n", ["a", "b", "c"], (source.table, [6, 0, 3])) == [OK, OK, OK]
    assert [node.get(key, namespace=b"n") for key in "abc"] == pages
    group = (b"n", ["c", "a", "missing", "b"], (target.table, [7, 1, 0, 4]))
    assert node.run_pages("get", [group]) == [[OK, OK, MISS, OK]]
    assert [target.page(slot) for slot in (1, 4, 7)] == pages
    untouched = [slot for slot in range(8) if target.page(slot) == bytes(2 * target.size)]
    assert untouched == [0, 2, 3, 5, 6]


def test_pointers_reach_the_same_pages_as_a_table(node: peercache.Node) -> None:
    source, target = Pool(4), Pool(4)
    pages = [source.fill(2, b"two"), source.fill(0, b"zero")]
    sizes = [source.size, source.size]
    assert put(node, b"", ["a", "b"], (sizes, source.pointers([2, 0]))) == [OK, OK]
    assert [node.get("a"), node.get("b")] == pages
    groups = [("", ["a", "b"], (sizes * 2, target.pointers([1, 3])))]
    assert node.run_pages("get", groups) == [[OK, OK]]
    assert [target.page(1), target.page(3)] == pages


def test_each_pointer_may_have_a_size_of_its_own(node: peercache.Node) -> None:
    source, target = Pool(2), Pool(2)
    page = source.fill(0, b"0123456789")
    sizes, pointers = [10, 30, 1, 2], [source.base, source.base + 10, source.base, source.base + 8]
    assert put(node, b"", ["long", "short"], (sizes, pointers)) == [OK, OK]
    assert node.get("long") == page[:40] and node.get("short") == b"089"
    into = [target.base + 3, target.base + 50]
    assert node.run_pages("get", [(b"", ["short", "long"], ([3, 40], into))]) == [[OK, OK]]
    assert bytes(target.memory[3:6]) == b"089" and bytes(target.memory[50:90]) == page[:40]


def test_groups_of_several_namespaces_never_meet(node: peercache.Node) -> None:
    source, target = Pool(6), Pool(6)
    pages = [source.fill(slot, bytes([65 + slot])) for slot in range(6)]
    keys = ["a", "b"]
    names = [b"one", b"two", b"three"]
    groups = [(name, keys, (source.table, [2 * i, 2 * i + 1])) for i, name in enumerate(names)]
    assert node.run_pages("put", groups) == [[OK, OK]] * 3
    groups = [(name, keys, (target.table, [2 * i, 2 * i + 1])) for i, name in enumerate(names)]
    assert node.run_pages("get", groups) == [[OK, OK]] * 3
    assert [target.page(slot) for slot in range(6)] == pages
    asked = [(b"two", ["a", "x"], None), (b"four", keys, None), (b"one", [], None)]
    assert node.run_pages("exists", asked) == [[OK, MISS], [MISS, MISS], []]
    assert node.run_pages("remove", [(b"two", keys, None)]) == [[OK, OK]]
    assert node.run_pages("exists", [(n, keys, None) for n in names]) == [
        [OK, OK], [MISS, MISS], [OK, OK],
    ]  # fmt: skip


def test_groups_reach_pages_of_another_node(make_node: Callable[..., peercache.Node]) -> None:
    nodes = [make_node(), make_node()]
    wait_for_members(nodes, 2)
    source, target = Pool(64), Pool(64)
    pages = [source.fill(slot, b"%d," % slot) for slot in range(64)]
    keys = [f"page {slot}" for slot in range(64)]

    def groups(pool: Pool) -> list[Any]:
        halves = ((b"k", range(32)), (b"v", range(32, 64)))
        return [(name, [keys[i] for i in half], (pool.table, half)) for name, half in halves]

    assert nodes[0].run_pages("put", groups(source)) == [[OK] * 32] * 2
    with nodes[1].register(target.memory):
        assert nodes[1].run_pages("get", groups(target)) == [[OK] * 32] * 2
    assert [target.page(slot) for slot in range(64)] == pages


def test_nothing_to_do_is_answered_with_nothing(node: peercache.Node) -> None:
    pool = Pool(1)
    assert node.run_pages("get", []) == []
    groups: list[Any] = [(b"", [], (pool.table, [])), (b"", [], ([8], [])), (b"", [], ([], []))]
    assert node.run_pages("get", groups) == [[], [], []]


def test_another_length_is_a_miss_and_leaves_the_page_untouched(node: peercache.Node) -> None:
    pool = Pool(3)
    pool.fill(0, b"short")
    node.put(["a", "b"], [b"x" * 95, b"y" * 97])
    before = bytes(pool.memory)
    statuses = node.run_pages("get", [(b"", ["a", "b"], (pool.table, [1, 2]))])
    assert statuses == [[Status.SIZE_MISMATCH, Status.SIZE_MISMATCH]]
    assert pool.memory == before


def test_a_batch_may_be_larger_than_one_operation_of_the_library(node: peercache.Node) -> None:
    n = 65536 * 2 + 3
    keys = [b"%d" % i for i in range(n)]
    there = [0, 65535, 65536, n - 1]
    node.put([keys[i] for i in there], [b"x"] * len(there))
    statuses = node.run_pages("exists", [(None, keys, None), (None, keys[:1], None)], timeout=20)
    assert [i for i in range(n) if statuses[0][i] == OK] == there
    assert set(statuses[0]) == {OK, MISS} and statuses[1] == [OK]


def test_more_groups_than_operations_in_flight_run_one_by_one(
    make_node: Callable[..., peercache.Node],
) -> None:
    node = make_node(max_inflight=2)
    node.wait_ready(30)
    pool = Pool(40)
    pages = [pool.fill(slot, b"%d;" % slot) for slot in range(40)]
    groups = [(b"%d" % slot, ["a"], (pool.table, [slot])) for slot in range(40)]
    assert node.run_pages("put", groups) == [[OK]] * 40
    assert [node.get("a", namespace=b"%d" % slot) for slot in range(40)] == pages


def test_a_refused_operation_is_told_by_statuses(make_node: Callable[..., peercache.Node]) -> None:
    make_node(mode="centralized", role="storage").wait_ready(30)
    client = make_node(mode="centralized", role="inference")
    client.wait_ready(30)
    pool = Pool(2)
    groups = [(b"a", ["a"], (pool.table, [0])), (b"b", ["a"], (pool.table, [1]))]
    assert client.run_pages("put", groups) == [[Status.UNSUPPORTED]] * 2


def test_a_page_larger_than_a_region_is_told_by_its_status(node: peercache.Node) -> None:
    memory = bytearray(9 << 20)
    base = ctypes.addressof((ctypes.c_char * len(memory)).from_buffer(memory))
    assert put(node, b"", ["a", "b"], ([len(memory)] + [5], [base, base])) == [
        Status.TOO_LARGE, OK,
    ]  # fmt: skip


def test_a_closed_node_raises(node: peercache.Node) -> None:
    node.close()
    with pytest.raises(peercache.ClosedError):
        node.run_pages("exists", [(b"", ["a"], None)])
    with pytest.raises(peercache.ClosedError):
        node.run_pages("get", [])


def test_a_node_that_never_joined_answers_within_the_timeout(
    make_node: Callable[..., peercache.Node], silent_port: int
) -> None:
    node = make_node(port=silent_port)
    pool = Pool(2)
    groups = [(b"a", ["a"], (pool.table, [0])), (b"b", ["a"], (pool.table, [1]))]
    statuses = node.run_pages("get", groups, timeout=0.05)
    assert all(status < 0 for group in statuses for status in group)


def test_registered_memory_stays_until_the_call_has_ended(node: peercache.Node) -> None:
    pool = Pool(64, 4096)
    pages = [pool.fill(slot, b"%d." % slot) for slot in range(64)]
    keys = [str(slot) for slot in range(64)]
    put(node, b"", keys, (pool.table, range(64)))
    pool.memory[:] = bytes(len(pool.memory))
    stop = threading.Event()
    failures: list[object] = []

    def read() -> None:
        while not stop.is_set():
            halves = [(b"", keys[at::2], (pool.table, range(at, 64, 2))) for at in (0, 1)]
            statuses = node.run_pages("get", halves)
            if statuses != [[OK] * 32] * 2:
                failures.append(statuses)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(100):
        node.register(pool.memory).close()
    stop.set()
    for reader in readers:
        reader.join()
    assert not failures
    assert [pool.page(slot) for slot in range(64)] == pages


def test_a_table_in_use_outlives_the_callers_references(node: peercache.Node) -> None:
    pool = Pool(4)
    page = pool.fill(3, b"kept")
    sizes = [pool.size, pool.size]
    group: list[Any] = [b"n" * 40]

    class Keys:
        """Takes the group away while it is read."""

        def __iter__(self) -> Iterator[str]:
            yield "k" * 40
            group.clear()

    group += [Keys(), (PageTable([pool.base, pool.base + 4 * pool.size], sizes, sizes), [3])]
    assert node.run_pages("put", [group]) == [[OK]]  # type: ignore[list-item]
    assert group == []
    assert node.get("k" * 40, namespace="n" * 40) == page


def test_a_call_lets_go_of_what_it_held(node: peercache.Node) -> None:
    pool, key, name = Pool(1), "a key that is counted", b"a name space that is counted"
    things = (key, name, pool.table)
    before = [sys.getrefcount(thing) for thing in things]
    for slot in (0, -1) * 10:
        try:
            node.run_pages("get", [(name, [key], (pool.table, [slot]))])
        except ValueError:
            pass
    assert [sys.getrefcount(thing) for thing in things] == before


def test_a_table_tells_its_page() -> None:
    table = PageTable(bases=[4096, 1 << 40], strides=[64, 64], sizes=[16, 48])
    assert (table.n_pieces, table.page_size) == (2, 64)


TOP = (1 << 64) - 1

BAD_TABLES: list[tuple[type[Exception], str, tuple[Any, ...]]] = [
    (ValueError, "2 bases, 1 strides and 2 sizes", ([1, 2], [8], [8, 8])),
    (ValueError, "0 pieces a page, allowed are 1 to 65536", ([], [], [])),
    (ValueError, "65537 pieces a page", ([1] * 65537, [1] * 65537, [1] * 65537)),
    (ValueError, r"bases\[1\] is 0, allowed are 1 to", ([8, 0], [8, 8], [8, 8])),
    (ValueError, r"bases\[0\] is -8, allowed", ([-8], [8], [8])),
    (ValueError, r"sizes\[1\] is 0, allowed are 1 to", ([8, 8], [8, 8], [8, 0])),
    (ValueError, r"strides\[0\] is -1, allowed are 0 to", ([8], [-1], [8])),
    (ValueError, r"strides\[0\] is 7, but sizes\[0\] is 8: pages would overlap", ([8], [7], [8])),
    (ValueError, r"bases\[0\] \+ sizes\[0\] goes beyond", ([TOP - 6], [8], [8])),
    (ValueError, "add up to more", ([1] * 3, [1 << 62] * 3, [1 << 62] * 3)),
    (TypeError, r"bases\[0\] must be an int, not float", ([8.0], [8], [8])),
    (TypeError, "sizes must be a list or another iterable, not int", ([8], [8], 8)),
    (TypeError, "strides must be a list, one element each, not bytes", ([8], b"\x08", [8])),
]


@pytest.mark.parametrize(("error", "text", "columns"), BAD_TABLES)
def test_a_bad_table_raises(
    error: type[Exception], text: str, columns: tuple[Any, Any, Any]
) -> None:
    with pytest.raises(error, match=text):
        PageTable(*columns)


TABLE = PageTable([4096, 8192], [8, 16], [8, 16])
FAR = PageTable([1 << 63], [1 << 60], [16])


def get(*groups: Any) -> Call:
    return lambda node: node.run_pages("get", groups)


BAD_CALLS: list[tuple[type[Exception], str, Call]] = [
    (ValueError, "verb is 'match', allowed are", lambda n: n.run_pages("match", [])),
    (TypeError, "verb is 7, allowed are", lambda n: n.run_pages(7, [])),  # type: ignore[arg-type]
    (TypeError, "missing the argument 'groups'", lambda n: n.run_pages("get")),  # type: ignore
    (ValueError, "timeout must be", lambda n: n.run_pages("get", [], timeout=0)),
    (TypeError, "groups must be a list", lambda n: n.run_pages("get", 7)),  # type: ignore
    (TypeError, r"groups\[0\] must be \(namespace, keys, memory\)", get("abc")),
    (ValueError, r"groups\[1\] has 2 elements", get((b"", [], ([], [])), (b"", []))),
    (ValueError, r"groups\[0\] namespace has 256 bytes", get((b"n" * 256, [], ([], [])))),
    (TypeError, r"groups\[0\] namespace must be", get((7, [], ([], [])))),
    (TypeError, r"groups\[0\] keys must be a list", get((b"", "abc", (TABLE, [0, 1, 2])))),
    (TypeError, r"groups\[0\] keys\[1\] must be str", get((b"", ["a", 1], (TABLE, [0, 1])))),
    (ValueError, r"groups\[0\] keys\[0\] has 0 bytes", get((b"", [""], (TABLE, [0])))),
    (UnicodeEncodeError, "surrogates", get((b"", ["\ud800"], (TABLE, [0])))),
    (TypeError, r"groups\[0\] memory must be \(PageTable, slots\) or", get((b"", ["a"], None))),
    (TypeError, r"groups\[0\] memory must be .* not <class 'list'>", get((b"", ["a"], [TABLE]))),
    (TypeError, r"memory must be", get((b"", ["a"], (TABLE, [0], 1)))),
    (
        TypeError,
        r"groups\[0\] memory must be None for exists and remove",
        lambda n: n.run_pages("exists", [(b"", ["a"], (TABLE, [0]))]),
    ),
    (ValueError, r"groups\[0\] 2 keys but 1 slots", get((b"", ["a", "b"], (TABLE, [0])))),
    (ValueError, r"\[0\] slots\[1\] is -1, allowed", get((b"", ["a", "b"], (TABLE, [0, -1])))),
    (ValueError, r"slots\[0\] is 8, allowed are 0 to 7", get((b"", ["a"], (FAR, [8])))),
    (ValueError, rf"slots\[0\] is {1 << 70}", get((b"", ["a"], (TABLE, [1 << 70])))),
    (TypeError, r"slots\[0\] must be an int, not str", get((b"", ["a"], (TABLE, ["0"])))),
    (TypeError, r"slots must be a list or another iterable", get((b"", ["a"], (TABLE, 0)))),
    (ValueError, "2 keys, 2 sizes and 3 pointers", get((b"", ["a", "b"], ([8, 8], [4096] * 3)))),
    (ValueError, "1 keys, 0 sizes and 0 pointers", get((b"", ["a"], ([], [])))),
    (ValueError, "0 keys, 1 sizes and 1 pointers", get((b"", [], ([8], [4096])))),
    (ValueError, "2 keys, 3 sizes and 3 pointers", get((b"", ["a", "b"], ([8] * 3, [4096] * 3)))),
    (ValueError, "65537 pieces a page", get((b"", ["a"], ([1] * 65537, [4096] * 65537)))),
    (ValueError, r"sizes\[0\] is 0, allowed", get((b"", ["a"], ([0], [4096])))),
    (ValueError, r"pointers\[0\] is 0, allowed", get((b"", ["a"], ([8], [0])))),
    (ValueError, r"pointers\[0\] \+ sizes\[0\] goes beyond", get((b"", ["a"], ([8], [TOP - 6])))),
    (ValueError, "sizes of page 0 add up", get((b"", ["a"], ([1 << 62] * 3, [4096] * 3)))),
    (TypeError, r"pointers\[0\] must be an int", get((b"", ["a"], ([8], [b"x"])))),
]


@pytest.mark.parametrize(("error", "text", "call"), BAD_CALLS)
def test_a_bad_group_raises(
    node: peercache.Node, error: type[Exception], text: str, call: Call
) -> None:
    with pytest.raises(error, match=text):
        call(node)
    assert node.exists(["a"]) == [False]


def test_numbers_of_numpy_are_slots_and_pointers(node: peercache.Node) -> None:
    numpy = pytest.importorskip("numpy")
    pool = Pool(4)
    page = pool.fill(2, b"numpy")
    assert put(node, b"", ["a"], (pool.table, numpy.array([2]))) == [OK]
    assert node.get("a") == page
    sizes = numpy.array([pool.size] * 2, dtype=numpy.uint32)
    pointers = numpy.array(pool.pointers([0]), dtype=numpy.uint64)
    assert node.run_pages("get", [(b"", ["a"], (sizes, pointers))]) == [[OK]]
    assert pool.page(0) == page
