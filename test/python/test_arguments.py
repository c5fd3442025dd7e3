"""Arguments that cannot be used raise, say which, and hold on to nothing."""

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import pytest

import peercache

Call = Callable[[peercache.Node], object]

BAD: list[tuple[type[Exception], str, Call]] = [
    (TypeError, "keys must be a list", lambda n: n.exists("key")),
    (TypeError, "keys must be a list", lambda n: n.exists(b"key")),
    (TypeError, "keys must be a list.* not int", lambda n: n.exists(7)),
    (TypeError, r"keys\[1\] must be str or bytes, not int", lambda n: n.exists(["a", 7])),
    (TypeError, r"keys\[0\] must be str or bytes, not bytearray", lambda n: n.exists([bytearray(b"a")])),
    (TypeError, r"keys\[0\] must be str or bytes, not NoneType", lambda n: n.remove([None])),
    (ValueError, r"keys\[0\] has 0 bytes, allowed are 1 to 1024", lambda n: n.match([""])),
    (ValueError, r"keys\[1\] has 1025 bytes, allowed are 1 to 1024", lambda n: n.exists(["a", b"x" * 1025])),
    (ValueError, r"keys\[0\] has 1026 bytes", lambda n: n.exists(["ü" * 513])),
    (ValueError, "key has 0 bytes", lambda n: n.get("")),
    (TypeError, "key must be str or bytes, not list", lambda n: n.get(["a"])),
    (UnicodeEncodeError, "surrogates", lambda n: n.exists(["\ud800"])),
    (ValueError, "2 keys but 1 values", lambda n: n.put(["a", "b"], [b"x"])),
    (ValueError, "1 keys but 2 buffers", lambda n: n.get_into(["a"], [bytearray(1)] * 2)),
    (TypeError, "values must be a list", lambda n: n.put(["a"], b"x")),
    (TypeError, r"values\[0\] must be a buffer.* not str", lambda n: n.put(["a"], ["text"])),
    (TypeError, r"values\[0\] must be a buffer.* not NoneType", lambda n: n.put(["a"], [None])),
    (TypeError, r"values\[0\] must be a buffer.* not int", lambda n: n.put(["a"], [7])),
    (TypeError, r"values\[0\]\[1\] must be a buffer.* not list", lambda n: n.put(["a"], [[b"x", [b"y"]]])),
    (ValueError, r"values\[0\] is empty", lambda n: n.put(["a"], [b""])),
    (ValueError, r"values\[0\] is empty", lambda n: n.put(["a"], [[]])),
    (ValueError, r"values\[0\] is empty", lambda n: n.put(["a"], [[b"", (0, 0)]])),
    (ValueError, r"values\[0\] has a null pointer", lambda n: n.put(["a"], [(0, 1)])),
    (ValueError, r"values\[1\]\[1\] has a null pointer", lambda n: n.put(["a", "b"], [b"x", [b"y", (0, 1)]])),
    (ValueError, "two integers from 0 on", lambda n: n.put(["a"], [(-1, 1)])),
    (ValueError, "two integers from 0 on", lambda n: n.put(["a"], [(4096, -1)])),
    (ValueError, "two integers from 0 on", lambda n: n.put(["a"], [(4096, "1")])),
    (ValueError, "two integers from 0 on", lambda n: n.put(["a"], [(1 << 64, 1)])),
    (ValueError, "beyond the address space", lambda n: n.put(["a"], [((1 << 64) - 1, 2)])),
    (ValueError, r"buffers\[0\] is read-only", lambda n: n.get_into(["a"], [b"x"])),
    (ValueError, r"buffers\[0\]\[1\] is read-only", lambda n: n.get_into(["a"], [[bytearray(1), b"x"]])),
    (ValueError, r"buffers\[0\] is read-only", lambda n: n.get_into(["a"], [memoryview(b"x")])),
    (ValueError, "is not C-contiguous", lambda n: n.put(["a"], [memoryview(b"1234")[::2]])),
    (ValueError, "is not C-contiguous", lambda n: n.get_into(["a"], [memoryview(bytearray(4))[::2]])),
    (ValueError, "buffer is read-only", lambda n: n.register(b"x")),
    (ValueError, "buffer is empty", lambda n: n.register(bytearray(0))),
    (TypeError, "buffer must be a buffer", lambda n: n.register("x")),
    (ValueError, "kind must be", lambda n: n.register(bytearray(1), kind="gpu")),
    (ValueError, "timeout must be", lambda n: n.exists(["a"], timeout=-1)),
    (ValueError, "timeout must be", lambda n: n.exists(["a"], timeout=0)),
    (ValueError, "timeout must be", lambda n: n.exists(["a"], timeout=float("nan"))),
    (TypeError, "timeout must be", lambda n: n.exists(["a"], timeout="1")),
    (ValueError, "timeout must be", lambda n: n.wait_ready(-1)),
    (ValueError, "timeout must be", lambda n: n.clear(timeout=0)),
    (TypeError, "positional", lambda n: n.clear(1)),
    (ValueError, "zero byte", lambda n: n.drain("a\0b")),
    (TypeError, "", lambda n: n.drain(7)),
    (ValueError, "timeout must be", lambda n: n.drain(timeout=-1)),
    (ValueError, "namespace has 256 bytes", lambda n: n.exists(["a"], namespace="x" * 256)),
    (TypeError, "namespace must be str or bytes", lambda n: n.exists(["a"], namespace=7)),
    (TypeError, "missing the argument 'keys'", lambda n: n.exists()),
    (TypeError, "missing the argument 'values'", lambda n: n.put(["a"])),
    (TypeError, "takes 1 positional", lambda n: n.exists(["a"], "namespace")),
    (TypeError, "unexpected keyword argument 'key'", lambda n: n.exists(key=["a"])),
    (TypeError, "multiple values for argument 'keys'", lambda n: n.exists(["a"], keys=["a"])),
]


@pytest.mark.parametrize(("error", "text", "call"), BAD)
def test_a_bad_argument_raises(
    node: peercache.Node, error: type[Exception], text: str, call: Call
) -> None:
    with pytest.raises(error, match=text):
        call(node)
    assert node.exists(["a"]) == [False]


def test_numpy_scalars_and_holes_raise(node: peercache.Node) -> None:
    numpy = pytest.importorskip("numpy")
    with pytest.raises(TypeError, match="not int64"):
        node.put(["a"], [numpy.int64(7)])
    with pytest.raises(ValueError, match="not C-contiguous"):
        node.put(["a"], [numpy.zeros((4, 4))[:, 1]])
    frozen = numpy.zeros(4)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        node.get_into(["a"], [frozen])


def test_numpy_integers_are_a_pointer_and_a_length(node: peercache.Node) -> None:
    numpy = pytest.importorskip("numpy")
    page = numpy.arange(8, dtype=numpy.uint8)
    pair = (numpy.uint64(page.ctypes.data), numpy.int64(8))
    assert node.put(["a"], [pair]) == [True]
    assert node.get("a") == page.tobytes()


def test_a_failed_call_lets_go_of_what_it_held(node: peercache.Node) -> None:
    first = bytearray(4)
    key = "key that is counted"
    before = sys.getrefcount(key)
    for _ in range(10):
        with pytest.raises(TypeError):
            node.put([key, "b"], [first, None])
    first.append(0)  # A held buffer could not grow.
    assert sys.getrefcount(key) == before


def test_a_call_lets_go_of_what_it_held(node: peercache.Node) -> None:
    value, buffer = bytearray(b"1234"), bytearray(4)
    key = "another key that is counted"
    before = sys.getrefcount(key), sys.getrefcount(value)
    for _ in range(10):
        node.put([key], [[value, value[:0]]])
        node.get_into([key], [buffer])
    assert (sys.getrefcount(key), sys.getrefcount(value)) == before
    value.append(0)
    buffer.append(0)


class Tensor:
    """What torch gives: memory, but no buffer protocol."""

    def __init__(self, text: bytes, *, contiguous: bool = True, is_cpu: bool = True) -> None:
        self.memory = ctypes.create_string_buffer(text, len(text))
        self.contiguous = contiguous
        self.is_cpu = is_cpu
        self.nbytes = len(text)

    def data_ptr(self) -> int:
        return ctypes.addressof(self.memory)

    def is_contiguous(self) -> bool:
        return self.contiguous


def test_tensors_are_values_and_buffers(node: peercache.Node) -> None:
    source, target = Tensor(b"tensor"), Tensor(b"......")
    assert node.put(["a"], [source]) == [True]
    assert node.get_into(["a"], [target]) == [True]
    assert target.memory.raw == b"tensor"


def test_tensors_with_holes_or_on_a_device_raise(node: peercache.Node) -> None:
    with pytest.raises(ValueError, match=r"values\[0\] is not C-contiguous"):
        node.put(["a"], [Tensor(b"x", contiguous=False)])
    with pytest.raises(ValueError, match="device memory"):
        node.put(["a"], [Tensor(b"x", is_cpu=False)])
    with pytest.raises(ValueError, match="device memory"):
        node.register(Tensor(b"x", is_cpu=False))


def test_an_exception_of_a_tensor_goes_through(node: peercache.Node) -> None:
    class Broken(Tensor):
        def data_ptr(self) -> int:
            raise ZeroDivisionError("broken")

    with pytest.raises(ZeroDivisionError):
        node.put(["a"], [Broken(b"x")])


def test_a_list_that_grows_during_the_call_raises(node: peercache.Node) -> None:
    pieces: list[Any] = []

    class Growing(Tensor):
        def data_ptr(self) -> int:
            pieces.append(self)
            return super().data_ptr()

    pieces.append(Growing(b"x"))
    with pytest.raises(RuntimeError, match="changed during the call"):
        node.put(["a"], [pieces])


def test_torch_tensors_are_values_and_buffers(node: peercache.Node) -> None:
    torch = pytest.importorskip("torch")
    page = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4)
    back = torch.zeros_like(page)
    assert node.put(["a"], [page]) == [True]
    assert node.get_into(["a"], [list(back)]) == [True]
    assert bool((back == page).all())
    with pytest.raises(ValueError, match="not C-contiguous"):
        node.put(["b"], [page.t()])
