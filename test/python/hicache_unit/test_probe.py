"""What is found out about a pool by asking for a few pages."""

from __future__ import annotations

from typing import Any, Callable

import pytest
from peercache.hicache.guard import ContractError
from peercache.hicache.instance import Instance
from peercache.hicache.pools import HostPool, host_pool
from peercache.hicache.probe import Indices, probe

Place = Callable[[int, int], int]


def meta(place: Place, sizes: list[int], page_size: int = 4) -> Any:
    """get_page_buffer_meta of a pool whose piece j of page i is at place(i, j)."""

    def ask(indices: Any) -> Any:
        pages = [int(i) // page_size for i in indices[::page_size]]
        pointers = [place(page, j) for page in pages for j in range(len(sizes))]
        return pointers, sizes * len(pages)

    return ask


def line(page: int, j: int) -> int:
    return 0x10000 + j * 0x100000 + page * 64


def test_pages_on_a_line_get_a_table() -> None:
    found = probe(meta(line, [64, 32]), 4, 1000, 1)
    assert found is not None
    assert found.sizes == (64, 32)
    assert found.tables is not None and found.tables[0].page_size == 96


@pytest.mark.parametrize("n_pages", [3, 60, 1000])
def test_one_bend_anywhere_in_the_sample_means_no_table(n_pages: int) -> None:
    def bent(page: int, j: int) -> int:
        return line(page, j) + (64 if page == n_pages - 1 else 0)

    found = probe(meta(bent, [64, 32]), 4, n_pages, 1)
    assert found is not None and found.tables is None
    assert found.pointers(Indices(range(8)), 2) == [bent(p, j) for p in (0, 1) for j in (0, 1)]


def test_pages_that_overlap_are_no_table() -> None:
    found = probe(meta(lambda page, j: 0x10000 + page * 16, [64]), 4, 10, 1)
    assert found is not None and found.tables is None


@pytest.mark.parametrize("sizes", [[], [64, 0]])
def test_an_answer_without_sense_is_refused(sizes: list[int]) -> None:
    with pytest.raises(ContractError):
        probe(meta(line, sizes), 4, 10, 1)


def test_sizes_are_checked_at_every_call() -> None:
    sizes = [64]
    found = probe(meta(lambda page, j: 0x10000 + page % 7 * 64, sizes), 4, 10, 1)
    assert found is not None and found.tables is None
    sizes[0] = 128
    with pytest.raises(ContractError):
        found.pointers(Indices(range(4)), 1)


class Pool:
    page_size = 4
    size = 40
    layout = "page_first"
    get_page_buffer_meta = staticmethod(meta(line, [64, 32]))


@pytest.fixture
def pool() -> HostPool:
    return host_pool("kv", Pool(), Instance(), "")


def test_slots_are_the_numbers_of_whole_pages(pool: HostPool) -> None:
    assert pool.slots(Indices([*range(8, 12), *range(0, 4)]), 2) == [2, 0]


@pytest.mark.parametrize(
    "tokens", [range(1, 5), [0, 1, 2, 4], range(40, 44), range(-4, 0), [3, 2, 1, 0]]
)
def test_tokens_of_no_page_are_refused(pool: HostPool, tokens: Any) -> None:
    with pytest.raises(ContractError):
        pool.slots(Indices(tokens), 1)


def test_more_indices_than_keys_are_cut_and_broken_pages_refused(pool: HostPool) -> None:
    assert [len(g.keys) for g in pool.outgoing(["a"], Indices(range(8)))] == [1]
    assert [len(g.keys) for g in pool.outgoing(["a", "b", "c"], Indices(range(8)))] == [2]
    with pytest.raises(ContractError):
        pool.outgoing(["a", "b"], Indices(range(7)))
