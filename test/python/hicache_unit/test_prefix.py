"""Legal prefixes over several pools, against the definition read literally."""

from __future__ import annotations

import random
import time

import pytest
from peercache.hicache import prefix
from peercache.hicache.prefix import Side

MISS = -1


def misses(text: str) -> list[int]:
    """ "xx.x": pages 0, 1 and 3 are there."""
    return [0 if page == "x" else MISS for page in text]


def side(name: str, policy: str, text: str, trailing: int = 1) -> Side:
    return Side(name, policy, trailing, misses(text))


def literal_ends(side: Side, n_pages: int) -> set[int]:
    there = [miss == 0 for miss in side.misses]
    ends = range(1, n_pages + 1)
    if side.policy == prefix.TRAILING_PAGES:
        n = max(side.trailing, 1)
        return {e for e in ends if all(there[max(0, e - n) : e])}
    return {e for e in ends if all(there[:e])}


@pytest.mark.parametrize(("text", "run"), [("", 0), ("xxx", 3), (".xx", 0), ("xx.x", 2)])
def test_a_run_ends_at_the_first_miss(text: str, run: int) -> None:
    assert prefix.leading_run(misses(text)) == run


def test_the_longest_legal_end_is_not_the_least_of_the_longest_ones() -> None:
    a = side("a", prefix.TRAILING_PAGES, "x.x.....")
    b = side("b", prefix.TRAILING_PAGES, "xx......")
    legal = prefix.legal_ends(8, [a, b])
    assert (legal.longest, legal.ends) == (1, [1])
    assert legal.hits == {"kv": 8, "a": 3, "b": 2}


def test_block_groups_gate_nothing_and_are_not_told() -> None:
    legal = prefix.legal_ends(3, [side("b", prefix.BLOCK_GROUPS, "...")])
    assert (legal.ends, legal.hits) == ([1, 2, 3], {"kv": 3})


def test_a_policy_of_the_future_counts_as_all_pages() -> None:
    legal = prefix.legal_ends(3, [side("b", "some_pages", "x.x")])
    assert (legal.ends, legal.hits) == ([1], {"kv": 3, "b": 1})


def test_pages_behind_the_kv_prefix_do_not_count() -> None:
    legal = prefix.legal_ends(2, [side("b", prefix.ALL_PAGES, "xxxx")])
    assert legal.hits == {"kv": 2, "b": 2}


def test_a_long_prompt_is_not_walked_page_by_page() -> None:
    """Page size 1 makes 10^5 pages, and the scheduler's thread may ask."""
    misses = [0] * 100_000
    sides = [Side(name, prefix.ALL_PAGES, 1, misses) for name in "abcd"]
    start = time.process_time()
    legal = prefix.legal_ends(len(misses), sides)
    assert time.process_time() - start < 0.02
    assert legal.longest == len(legal.ends) == 100_000


def test_random_pools_answer_as_the_definition_says() -> None:
    rng = random.Random(7)
    policies = (prefix.ALL_PAGES, prefix.TRAILING_PAGES, "new")
    for _ in range(500):
        n_keys = rng.randrange(1, 12)
        kv_pages = rng.randrange(n_keys + 1)
        sides = []
        for name in "abc"[: rng.randrange(4)]:
            text = "".join(rng.choice("xxx.") for _ in range(n_keys))
            sides.append(side(name, rng.choice(policies), text, rng.randrange(5)))
        wanted = set(range(1, kv_pages + 1))
        for one in sides:
            wanted &= literal_ends(one, kv_pages)
        legal = prefix.legal_ends(kv_pages, sides)
        assert legal.ends == sorted(wanted), (kv_pages, sides)
        assert legal.longest == max(wanted, default=0)
        for one in sides:
            assert legal.hits[one.name] == max(literal_ends(one, kv_pages), default=0)
