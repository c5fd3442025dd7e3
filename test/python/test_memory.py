"""Registered memory."""

import ctypes
import gc
import threading
from collections.abc import Callable

import pytest

import peercache


def is_held(buffer: bytearray) -> bool:
    try:
        buffer.append(0)
    except BufferError:
        return True
    buffer.pop()
    return False


def test_values_land_in_registered_memory(node: peercache.Node) -> None:
    memory = bytearray(64)
    with node.register(memory) as handle:
        assert handle.nbytes == 64 and handle.address > 0
        view = memoryview(memory)
        node.put(["a", "b"], [b"a" * 16, b"b" * 16])
        parts = [[view[0:8], view[40:48]], view[16:32]]
        assert node.get_into(["a", "b"], parts) == [True, True]
        parts.clear()
        view.release()
    assert memory == b"a" * 8 + bytes(8) + b"b" * 16 + bytes(8) + b"a" * 8 + bytes(16)


def test_a_range_is_held_until_its_close(node: peercache.Node) -> None:
    memory = bytearray(64)
    handle = node.register(memory)
    assert is_held(memory)
    handle.close()
    assert not is_held(memory)
    handle.close()


def test_a_range_outlives_its_handle(node: peercache.Node) -> None:
    memory = bytearray(64)
    del_me = node.register(memory)
    del del_me
    gc.collect()
    assert is_held(memory)
    node.close()
    assert not is_held(memory)


def test_a_handle_is_harmless_after_its_node(make_node: Callable[..., peercache.Node]) -> None:
    node = make_node()
    handle = node.register(bytearray(64))
    node.close()
    handle.close()


def test_ranges_may_overlap_and_go_in_any_order(node: peercache.Node) -> None:
    memory = bytearray(4096)
    base = ctypes.addressof((ctypes.c_char * 4096).from_buffer(memory))
    handles = [node.register((base + at, n)) for at, n in ((0, 4096), (64, 64), (0, 64), (96, 400))]
    node.put(["a"], [bytes(range(200))])
    for handle in handles:
        for at in (0, 64, 100, 3000):
            memory[:] = bytes(4096)
            assert node.get_into(["a"], [(base + at, 200)]) == [True]
            assert memory[at : at + 200] == bytes(range(200))
        handle.close()


def test_pieces_may_lie_in_and_out_of_registered_memory(node: peercache.Node) -> None:
    inside, outside = bytearray(4), bytearray(4)
    node.register(inside)
    node.put(["a"], [b"12345678"])
    assert node.get_into(["a"], [[inside, outside]]) == [True]
    assert inside + outside == b"12345678"


def test_ranges_come_and_go_while_gets_use_them(node: peercache.Node) -> None:
    memory = bytearray(1 << 16)
    value = bytes(range(256)) * 256
    node.put(["a"], [value])
    stop = threading.Event()
    failures: list[object] = []

    def read() -> None:
        buffer = memoryview(memory)
        while not stop.is_set():
            if node.get_into(["a"], [buffer]) != [True]:
                failures.append("missed")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(200):
        node.register(memory).close()
    stop.set()
    for reader in readers:
        reader.join()
    assert not failures
    assert memory == value


def test_memory_of_a_closed_node_cannot_be_registered(node: peercache.Node) -> None:
    node.close()
    memory = bytearray(1)
    with pytest.raises(peercache.ClosedError):
        node.register(memory)
    assert not is_held(memory)
