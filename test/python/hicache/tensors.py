"""Tensors of numpy memory: what adapters may use of a torch.Tensor, and no more."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any, Union

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


class DtypeDouble:
    """Prints and compares as torch.dtype does."""

    def __init__(self, name: str, itemsize: int) -> None:
        self.name = name
        self.itemsize = itemsize

    def __repr__(self) -> str:
        return f"torch.{self.name}"


UINT8 = DtypeDouble("uint8", 1)
BFLOAT16 = DtypeDouble("bfloat16", 2)
FLOAT16 = DtypeDouble("float16", 2)
FLOAT32 = DtypeDouble("float32", 4)
INT64 = DtypeDouble("int64", 8)


class TensorDouble:
    """A contiguous CPU tensor over bytes of numpy. Has no buffer protocol."""

    is_cuda = False
    device = "cpu"
    requires_grad = False

    def __init__(
        self, memory: Bytes, dtype: DtypeDouble, shape: tuple[int, ...] | None = None
    ) -> None:
        assert memory.flags.c_contiguous
        self.memory = memory
        self.dtype = dtype
        self.shape = shape if shape is not None else (memory.nbytes // dtype.itemsize,)
        assert int(np.prod(self.shape)) * dtype.itemsize == memory.nbytes

    def data_ptr(self) -> int:
        return int(self.memory.ctypes.data) if self.memory.nbytes else 0

    def is_contiguous(self) -> bool:
        return True

    def contiguous(self) -> TensorDouble:
        return self

    @property
    def nbytes(self) -> int:
        return int(self.memory.nbytes)

    def numel(self) -> int:
        return int(self.memory.nbytes // self.dtype.itemsize)

    def element_size(self) -> int:
        return self.dtype.itemsize

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def dim(self) -> int:
        return len(self.shape)

    def size(self, axis: int | None = None) -> Any:
        return self.shape if axis is None else self.shape[axis]

    def __len__(self) -> int:
        return self.shape[0]

    def flatten(self) -> TensorDouble:
        return TensorDouble(self.memory, self.dtype)

    def clone(self) -> TensorDouble:
        return TensorDouble(self.memory.copy(), self.dtype, self.shape)


def empty_tensor(dtype: DtypeDouble) -> TensorDouble:
    """Of a pool without that state."""
    return TensorDouble(np.empty(0, np.uint8), dtype, (0,))


def bytes_of(tensor: Any) -> bytes:
    """Of whatever has an address and a length."""
    if isinstance(tensor, np.ndarray):
        return tensor.tobytes()
    return ctypes.string_at(tensor.data_ptr(), tensor.nbytes)


class IndicesDouble:
    """A 1-D int64 CPU tensor of token slots, or one element of it (0-D)."""

    dtype = INT64
    device = "cpu"
    is_cuda = False

    def __init__(self, values: Any) -> None:
        self._values: npt.NDArray[np.int64] = np.asarray(values, np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._values.shape

    @property
    def ndim(self) -> int:
        return self._values.ndim

    def dim(self) -> int:
        return self._values.ndim

    def __len__(self) -> int:
        return len(self._values)

    def numel(self) -> int:
        return int(self._values.size)

    def element_size(self) -> int:
        return 8

    @property
    def nbytes(self) -> int:
        return int(self._values.nbytes)

    def is_contiguous(self) -> bool:
        return bool(self._values.flags.c_contiguous)

    def contiguous(self) -> IndicesDouble:
        return IndicesDouble(np.ascontiguousarray(self._values))

    def data_ptr(self) -> int:
        return int(self._values.ctypes.data)

    def tolist(self) -> Any:
        return self._values.tolist()

    def item(self) -> int:
        return int(self._values.item())

    def cpu(self) -> IndicesDouble:
        return self

    def numpy(self) -> npt.NDArray[np.int64]:
        return self._values

    def __int__(self) -> int:
        return self.item()

    def __index__(self) -> int:
        return self.item()

    def __getitem__(self, at: Union[int, slice]) -> IndicesDouble:
        return IndicesDouble(self._values[at])

    def __iter__(self) -> Iterator[IndicesDouble]:
        return (IndicesDouble(value) for value in self._values)


def token_indices(slots: list[int], page_size: int) -> IndicesDouble:
    """Token slots of the pages in these slots, in this order."""
    pages = np.asarray(slots, np.int64)[:, None] * page_size
    return IndicesDouble((pages + np.arange(page_size)).reshape(-1))
