"""The verbs on one node: values, pieces, misses."""

import array
import ctypes

import pytest

import peercache


def test_a_value_comes_back(node: peercache.Node) -> None:
    assert node.put(["a", b"b"], [b"one", bytearray(b"three")]) == [True, True]
    short, long = bytearray(3), bytearray(5)
    assert node.get_into([b"a", "b"], [short, long]) == [True, True]
    assert (short, long) == (b"one", b"three")
    assert node.get("a") == b"one"


def test_a_miss_is_false_or_none(node: peercache.Node) -> None:
    node.put(["there"], [b"x"])
    assert node.get("absent") is None
    assert node.exists(["absent", "there"]) == [False, True]
    assert node.get_into(["absent", "there"], [bytearray(1), bytearray(1)]) == [False, True]
    assert node.remove(["absent"]) == [False]


def test_another_length_is_a_miss_that_leaves_the_buffer_alone(node: peercache.Node) -> None:
    node.put(["a"], [b"1234"])
    for n in (3, 5):
        buffer = bytearray(b"." * n)
        assert node.get_into(["a"], [buffer]) == [False]
        assert buffer == b"." * n


def test_match_counts_the_leading_run(node: peercache.Node) -> None:
    node.put(["0", "1", "3"], [b"x", b"y", b"z"])
    assert node.match(["0", "1", "2", "3"]) == 2
    assert node.match(["2", "0"]) == 0
    assert node.match(["0", "1"]) == 2
    assert node.match([]) == 0


def test_removed_is_gone(node: peercache.Node) -> None:
    node.put(["a", "b"], [b"1", b"2"])
    assert node.remove(["a"]) == [True]
    assert node.exists(["a", "b"]) == [False, True]


def test_cleared_values_are_gone_and_counted(node: peercache.Node) -> None:
    node.put(["a", "b"], [b"1", b"2"])
    node.put(["a"], [b"3"], namespace="other")
    assert node.clear() == 3
    assert node.exists(["a", "b"]) == [False, False]
    assert node.get("a", namespace="other") is None
    assert node.clear(timeout=1) == 0
    assert node.put(["a"], [b"1"]) == [True]
    assert node.get("a") == b"1"


def test_a_second_put_of_a_key_is_true(node: peercache.Node) -> None:
    assert node.put(["a"], [b"1"]) == [True]
    assert node.put(["a"], [b"1"]) == [True]


def test_the_same_key_may_be_twice_in_a_batch(node: peercache.Node) -> None:
    assert node.put(["a", "a"], [b"1", b"1"]) == [True, True]
    first, second = bytearray(1), bytearray(1)
    assert node.get_into(["a", "a"], [first, second]) == [True, True]
    assert first == second == b"1"


def test_an_empty_batch_is_an_empty_answer(node: peercache.Node) -> None:
    assert node.put([], []) == []
    assert node.get_into((), ()) == []
    assert node.exists([]) == []
    assert node.remove([]) == []


def test_text_keys_are_their_utf8(node: peercache.Node) -> None:
    node.put(["schlüssel"], [b"1"])
    assert node.exists(["schlüssel".encode()]) == [True]


def test_keys_hold_any_bytes_up_to_their_limit(node: peercache.Node) -> None:
    keys = [b"\0", b"\0\0", b"\xff" * 1024]
    assert node.put(keys, [b"1", b"2", b"3"]) == [True] * 3
    assert [node.get(key) for key in keys] == [b"1", b"2", b"3"]


def test_keys_may_come_from_any_iterable(node: peercache.Node) -> None:
    assert node.put((str(i) for i in range(3)), iter([b"x"] * 3)) == [True] * 3
    assert node.match(str(i) for i in range(4)) == 3


def test_namespaces_never_meet(node: peercache.Node) -> None:
    node.put(["a"], [b"1"], namespace="one")
    node.put(["a"], [b"2"], namespace=b"two")
    assert node.get("a") is None
    assert node.get("a", namespace=b"one") == b"1"
    assert node.get("a", namespace="two") == b"2"
    assert node.match(["a"], namespace="three") == 0


def test_options_go_with_every_verb(node: peercache.Node) -> None:
    keys = [f"page {i}" for i in range(4)]
    buffers = [bytearray(1) for _ in keys]
    assert node.put(keys, [b"x"] * 4, timeout=2, chain=True) == [True] * 4
    assert node.get_into(keys, buffers, timeout=2.5, chain=True) == [True] * 4
    assert node.exists(keys, timeout=None, chain=False) == [True] * 4
    assert node.match(keys=keys, chain=True) == 4
    assert node.remove(keys=keys, timeout=1) == [True] * 4


def test_pieces_are_joined_in_order(node: peercache.Node) -> None:
    raw = ctypes.create_string_buffer(b"four")
    pieces = [b"one", bytearray(b"two"), memoryview(b"three"), (ctypes.addressof(raw), 4)]
    assert node.put(["list", "tuple"], [pieces, tuple(pieces)]) == [True, True]
    assert node.get("list") == node.get("tuple") == b"onetwothreefour"
    parts = [bytearray(2), bytearray(0), bytearray(13)]
    assert node.get_into(["list"], [parts]) == [True]
    assert b"".join(parts) == b"onetwothreefour"


def test_pointers_are_read_and_written(node: peercache.Node) -> None:
    source = ctypes.create_string_buffer(b"pointer", 7)
    target = ctypes.create_string_buffer(7)
    assert node.put(["a"], [(ctypes.addressof(source), 7)]) == [True]
    assert node.get_into(["a"], [(ctypes.addressof(target), 7)]) == [True]
    assert target.raw == b"pointer"


def test_many_pieces_of_many_keys(node: peercache.Node) -> None:
    memory = bytearray(range(256)) * 16
    base = ctypes.addressof((ctypes.c_char * len(memory)).from_buffer(memory))
    values = [[(base + 64 * k + 4 * p, 4) for p in range(16)] for k in range(64)]
    keys = [str(k) for k in range(64)]
    assert all(node.put(keys, values))
    before = bytes(memory)
    memory[:] = bytes(len(memory))
    assert all(node.get_into(keys, values))
    assert memory == before


def test_arrays_of_any_item_are_their_bytes(node: peercache.Node) -> None:
    numbers = array.array("d", [1.5, -2.5])
    assert node.put(["a"], [numbers]) == [True]
    back = array.array("d", [0, 0])
    assert node.get_into(["a"], [back]) == [True]
    assert back == numbers


def test_numpy_arrays_are_values_and_buffers(node: peercache.Node) -> None:
    numpy = pytest.importorskip("numpy")
    for dtype in ("float16", "float32", "int64", "uint8", "complex64"):
        page = numpy.arange(24).astype(dtype).reshape(2, 3, 4)
        assert node.put([dtype], [page]) == [True]
        back = numpy.zeros_like(page)
        assert node.get_into([dtype], [[back[0], back[1]]]) == [True]
        assert (back == page).all()


def test_a_batch_larger_than_the_pool_is_normal(node: peercache.Node) -> None:
    pages = [bytes([k]) * (1 << 20) for k in range(48)]
    keys = [f"page {k}" for k in range(48)]
    stored = node.put(keys, pages)
    assert len(stored) == 48 and stored.count(True) >= 1
    buffers = [bytearray(1 << 20) for _ in keys]
    found = node.get_into(keys, buffers)
    assert found.count(True) >= 1
    assert all(buffers[k] == pages[k] for k in range(48) if found[k])
    assert node.put(["after"], [b"x"]) == [True]


def test_a_value_larger_than_a_region_is_false(node: peercache.Node) -> None:
    assert node.put(["big", "small"], [bytes(9 << 20), b"x"]) == [False, True]


def test_a_large_value_comes_back_whole(node: peercache.Node) -> None:
    value = bytes(range(256)) * (3 << 12)
    assert node.put(["a"], [value]) == [True]
    assert node.get("a") == value


def test_more_keys_than_one_operation_takes(node: peercache.Node) -> None:
    keys = [str(k) for k in range(65536 + 3)]
    node.put([keys[0], keys[-1]], [b"x", b"y"])
    found = node.exists(keys, timeout=20)
    assert len(found) == len(keys) and found[0] and found[-1] and found.count(True) == 2
