"""What is concluded from a host pool: how it is carried, and under which name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Optional

import numpy as np
import pytest
from peercache.hicache import namespace, pools
from peercache.hicache.buffers import ranges_of
from peercache.hicache.guard import Journal
from peercache.hicache.instance import Instance
from peercache.hicache.numbers import Numbers
from peercache.hicache.pools import host_pool
from peercache.hicache.transfers import Transfers


class Tensor:
    """Bytes with the dtype of a torch tensor."""

    def __init__(self, dtype: str, nbytes: int = 64) -> None:
        self.memory = np.zeros(nbytes, np.uint8)
        self.dtype = "torch." + dtype
        self.nbytes = nbytes

    def data_ptr(self) -> int:
        return int(self.memory.ctypes.data)

    def is_contiguous(self) -> bool:
        return True


class Pool:
    """Ten pages of four tokens, one piece each."""

    page_size = 4
    size = 40
    layout = "page_first"
    dtype = "torch.bfloat16"

    def __init__(self, page_bytes: int = 64) -> None:
        self.page_bytes = page_bytes
        self.kv_buffer: Any = Tensor("bfloat16", 10 * page_bytes)

    def get_page_buffer_meta(self, indices: Any) -> Any:
        base = self.kv_buffer.data_ptr()
        pages = [int(i) // 4 for i in indices[::4]]
        return [base + page * self.page_bytes for page in pages], [self.page_bytes] * len(pages)


class NoAddresses(Pool):
    """Answers like a pool that has no memory."""

    flat: Optional[Tensor] = Tensor("bfloat16")

    def get_page_buffer_meta(self, indices: Any) -> Any:
        return None

    def get_data_page(self, index: int) -> Any:
        return self.flat

    def set_from_flat_data_page(self, index: int, page: Any) -> None:
        pass


def found(pool: Any) -> pools.HostPool:
    return host_pool("kv", pool, Instance(), "")


def test_a_pool_without_memory_and_addresses_is_logical() -> None:
    pool = NoAddresses()
    pool.kv_buffer = None
    assert found(pool).how == pools.LOGICAL


def test_a_pool_with_memory_is_never_logical() -> None:
    """Its pages would count as stored, and as read, without a byte moved."""
    assert found(NoAddresses()).how == pools.COPIES


def test_empty_flat_pages_carry_nothing() -> None:
    pool = NoAddresses()
    pool.flat = Tensor("bfloat16", 0)
    assert found(pool).how == pools.NONE


def test_pages_that_sglang_moves_get_no_table() -> None:
    pool = Pool()
    still = found(pool).pieces
    pool.stores_page_envelope = True  # type: ignore[attr-defined]
    moving = found(pool).pieces
    assert still is not None and still.tables is not None
    assert moving is not None and moving.tables is None


def test_a_pool_whose_memory_was_made_anew_is_another_one() -> None:
    pool = Pool()
    before = found(pool)
    assert before.is_of(pool) and not before.is_of(Pool())
    old, pool.kv_buffer = pool.kv_buffer, Tensor("bfloat16", 640)
    assert old.data_ptr() != pool.kv_buffer.data_ptr()
    assert not before.is_of(pool)


def digest(*states: str, dtype: str = "bfloat16") -> bytes:
    """Of a pool of states with these dtypes; dtype is what it calls its own."""
    pool = SimpleNamespace(
        dtype="torch." + dtype,
        layout="page_first",
        get_hybrid_pool_buffer=lambda: [Tensor(state) for state in states],
    )
    return namespace.digest(namespace.pool_fields("mamba", pool, (64,) * len(states), 1))


def test_a_state_of_another_dtype_and_equal_size_keeps_apart() -> None:
    """bfloat16 or float16 for the temporal states is an option of the server's."""
    digests = [
        digest("bfloat16", "bfloat16"),
        digest("float16", "bfloat16"),
        digest("bfloat16", "float16"),
        digest("float16", "float16"),
    ]
    assert len(set(digests)) == 4
    assert digest("float32", "bfloat16") == digest("float32", "bfloat16")


def test_tensors_of_the_pools_own_dtype_add_nothing() -> None:
    plain = SimpleNamespace(dtype="torch.bfloat16", layout="page_first", kv_buffer=None)
    fields = namespace.pool_fields("mamba", plain, (64,), 1)
    assert digest("bfloat16") == namespace.digest(fields)


def test_arrays_have_ranges_of_their_own() -> None:
    whole = np.zeros(4096, np.uint8)
    other = np.zeros(1024, np.uint8)
    pool = SimpleNamespace(kv_buffer=[whole, [other, None], np.zeros(0, np.uint8)])
    assert ranges_of(pool) == ((whole.ctypes.data, 4096), (other.ctypes.data, 1024))


def test_a_pool_that_raises_has_no_ranges() -> None:
    def fails() -> Any:
        raise RuntimeError("no buffers")

    assert ranges_of(SimpleNamespace(get_hybrid_pool_buffer=fails)) == ()


@pytest.mark.parametrize("sharded", [True, False])
def test_a_pool_that_cannot_be_stored_is_not_stored_by_another_rank(sharded: bool) -> None:
    """Rank 0 says so too; see Transfers.set_all."""
    pool = SimpleNamespace(page_size=4, dtype="torch.uint8", head_num=2 if sharded else None)
    known = {"kv": host_pool("kv", pool, Instance(replicated=True), "")}
    assert known["kv"].how == pools.NONE and known["kv"].sharded is sharded
    transfers = Transfers(None, Numbers(None), Journal())  # type: ignore[arg-type]
    transfer = SimpleNamespace(name="kv", keys=["a", "b"], host_indices=None)
    assert transfers.set_all(known, [transfer], by_others=True) == {"kv": [False, False]}
