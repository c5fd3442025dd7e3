"""Memory of the generic calls: tensors, arrays, buffers, addresses."""

from __future__ import annotations

import ctypes
import dataclasses
from typing import Any

from peercache.hicache.guard import ContractError


@dataclasses.dataclass(frozen=True)
class Memory:
    """Where a value lies; keep owns it."""

    address: int
    nbytes: int
    keep: Any = None


def tensor_memory(tensor: Any) -> Memory:
    """Of anything with data_ptr, as a tensor of torch has it.

    Raises ContractError for one that is not contiguous or not in host memory.
    """
    if not tensor.is_contiguous():
        raise ContractError("a tensor must be contiguous")
    device = getattr(getattr(tensor, "device", None), "type", "cpu")
    if device != "cpu":
        raise ContractError(f"a tensor must be in host memory, not {device}")
    nbytes = getattr(tensor, "nbytes", None)
    if nbytes is None:
        nbytes = tensor.numel() * tensor.element_size()
    return Memory(int(tensor.data_ptr()), int(nbytes), tensor)


def _buffer_memory(value: Any, writable: bool) -> Memory:
    view = memoryview(value)
    if not view.contiguous:
        raise ContractError("a buffer must be contiguous")
    flat = view.cast("B") if view.nbytes else view
    if view.readonly:
        if writable:
            raise ContractError("a target must be writable")
        # ctypes gives no address of a buffer that it must not write to.
        flat = memoryview(bytearray(flat))
    if not flat.nbytes:
        return Memory(0, 0, value)
    anchor = ctypes.c_char.from_buffer(flat)
    return Memory(ctypes.addressof(anchor), flat.nbytes, (anchor, value))


def memory_of(value: Any, size: Any, writable: bool) -> Memory:
    """Where a value, or the target of a get, lies.

    value: a tensor, a buffer, an array of numpy, a pair (address, bytes), or an
    address with `size` bytes. Empty memory has no address. Raises ContractError
    for anything else, and for read-only memory that is to be written.
    """
    if isinstance(value, bool) or value is None:
        raise ContractError(f"neither a value nor a target: {value!r}")
    if isinstance(value, int):
        memory = Memory(value, _size(size))
    elif isinstance(value, tuple) and len(value) == 2:
        memory = Memory(int(value[0]), _size(value[1]))
    elif hasattr(value, "data_ptr"):
        if not writable and not value.is_contiguous() and hasattr(value, "contiguous"):
            value = value.contiguous()
        memory = tensor_memory(value)
    else:
        try:
            memory = _buffer_memory(value, writable)
        except (TypeError, ValueError, BufferError) as error:
            raise ContractError(f"no memory behind a {type(value).__name__}: {error}") from error
    if memory.nbytes < 0 or (memory.nbytes > 0 and memory.address <= 0):
        raise ContractError(f"{memory.nbytes} bytes at {memory.address:#x} are no memory")
    return memory


def _size(size: Any) -> int:
    if size is None:
        raise ContractError("an address needs a size")
    return int(size)
