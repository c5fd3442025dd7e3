"""The same random calls to our backend and to SGLang's, and the same answers.

Where the contract allows answers to differ, this is how they are compared:

- Eviction: ours may evict, the oracle does not. The pool is too large for it to happen.
- v1 calls: the file backend has none; its v2 calls with the KV pool stand for them.
- v1 and v2 gets: ours are monotone (nothing after the first miss), the oracle's are not.
  SGLang looks at the leading run only, and so do we; what lies in pages after it is free.
- Positive answers that need no bytes: extra_pool_hit_pages of ours also has pools with 0
  pages, and pools behind one that left no legal length; the oracle leaves those out.
- Lengths: a key has one length here, as in SGLang. Asked for another one, ours misses; the
  oracle raises or gives the first bytes. Generic draft keys meet v2 pages of the pool
  "draft" in the file backend; here they have other hashes.
- Life: what an instance alone holds goes with it; the oracle's files stay. They are
  removed for it. For some time after that what the other holds may be missed: we wait.
- Time: a call of ours may time out where the machine stalls; then it is made again.
- Calls that the oracle answers by raising (unknown pools, policies) are not made.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from backends import Instance, Pair, transfer
from host_memory import SLOTS, fill, same_bytes
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

CHAIN = 6  # Pages of the prompt: few, so that calls meet.
TRIES = 3
REATTACHES = 1

who = st.integers(0, 1)
pages = st.integers(0, CHAIN - 1)
# Mostly what SGLang does: a prefix from its beginning.
prefixes = st.integers(1, CHAIN).map(lambda n: list(range(n)))
page_set = prefixes | st.lists(pages, min_size=1, max_size=CHAIN, unique=True)
asked = prefixes | st.lists(pages, max_size=CHAIN + 2)
spare = st.randoms(use_true_random=False)
# Keys that are no pages, and their bytes. The file backend makes file names of them.
OPAQUE = {"one": 1, "a b": 640, "x" * 150: 4097, "large": 300_000}
opaque = st.sampled_from(sorted(OPAQUE))
DRAFT_BYTES = 1536
draft_forms = st.sampled_from(["d:{}", "{}.draft"])


def leading_run(answers: Sequence[bool]) -> int:
    return next((i for i, good in enumerate(answers) if not good), len(answers))


class Calls(RuleBasedStateMachine):
    """One sequence. Subclasses give `pair`."""

    pair: Pair

    def __init__(self) -> None:
        super().__init__()
        self.pair.begin()
        prompt = self.pair.next_content()
        name = f"{self.pair.model}|{prompt}"
        self.keys = [hashlib.sha256(f"{name}|{i}".encode()).hexdigest() for i in range(CHAIN)]
        self.draft_keys = [key[::-1] for key in self.keys]
        self.reattached = 0

    # ---- Both, and whether they agree ---------------------------------------------

    def ours(self, instance: Instance, call: Callable[[], Any], right: Any) -> Any:
        """Our answer; again if it is another one because of a timeout."""
        for _ in range(TRIES):
            before = instance.timeouts()
            answer = call()
            if answer == right or instance.timeouts() == before:
                break
        return answer

    def slots(self, order: Any, n: int) -> list[int]:
        """Pages anywhere in a host pool. The first one is not SGLang's to give away."""
        return order.sample(range(1, SLOTS), n)

    def fill(self, instance: Instance, pool: str, slots: list[int]) -> None:
        for slot in slots:
            content = self.pair.next_content()
            instance.our_memory.fill(pool, slot, content)
            instance.file_memory.fill(pool, slot, content)

    def reuse(self, instance: Instance, pool: str, slots: list[int]) -> None:
        """SGLang gives the pages to somebody else."""
        instance.our_memory.poison(pool, slots)
        instance.file_memory.poison(pool, slots)

    @invariant()
    def host_memory_is_alike(self) -> None:
        for number, instance in enumerate(self.pair.instances):
            assert not instance.our_memory.differs(instance.file_memory), f"instance {number}"

    @invariant()
    def the_prompt_is_found_alike(self) -> None:
        everything = list(range(CHAIN))
        for n in range(len(self.pair.instances)):
            self.batch_exists(n, everything)
            if self.pair.model.trailing:
                self.batch_exists_v2(n, everything)

    def teardown(self) -> None:
        """All pages, one by one, from both sides."""
        order = random.Random(0)
        for pool, key in self.pair.holder:
            for n in range(len(self.pair.instances)):
                if pool in self.pair.instances[n].our_memory.pools:
                    v1 = self.pair.model.interface_v1
                    if v1 or pool != "kv":
                        self.fetch(n, [(pool, [key])], order, v1=v1 and pool == "kv")

    # ---- Pages by token index ---------------------------------------------------------

    @initialize(n=who, at=st.lists(page_set | st.just([]), min_size=3, max_size=3), order=spare)
    def something_is_stored(self, n: int, at: list[list[int]], order: Any) -> None:
        """From an empty store, most sequences would only meet misses."""
        parts = self.parts(at)
        if parts:
            self.store(n, parts, order, v1=False)

    def store(self, n: int, parts: list[tuple[str, list[str]]], order: Any, v1: bool) -> None:
        """Pages of pools (name, keys) with new bytes, in one call."""
        instance = self.pair.instances[n]
        places = [self.slots(order, len(keys)) for _, keys in parts]
        for (pool, _), slots in zip(parts, places):
            self.fill(instance, pool, slots)
        transfers = [
            transfer(pool, keys, instance.our_memory.indices(pool, slots))
            for (pool, keys), slots in zip(parts, places)
        ]
        right = instance.file.batch_set_v2(transfers)
        if v1:
            (one,) = transfers
            call = lambda: {one.name: instance.ours.batch_set_v1(one.keys, one.host_indices)}
        else:
            call = lambda: instance.ours.batch_set_v2(transfers)
        assert self.ours(instance, call, right) == right
        for (pool, keys), slots in zip(parts, places):
            self.reuse(instance, pool, slots)
            self.pair.stored(pool, keys, n)

    def fetch(self, n: int, parts: list[tuple[str, list[str]]], order: Any, v1: bool) -> None:
        instance = self.pair.instances[n]
        places = [self.slots(order, len(keys)) for _, keys in parts]
        transfers = [
            transfer(pool, keys, instance.our_memory.indices(pool, slots))
            for (pool, keys), slots in zip(parts, places)
        ]
        found = instance.file.batch_get_v2(transfers)
        right = {t.name: leading_run(found[t.name]) for t in transfers}

        def call() -> dict[Any, int]:
            if v1:
                (one,) = transfers
                answers = {one.name: instance.ours.batch_get_v1(one.keys, one.host_indices)}
            else:
                answers = instance.ours.batch_get_v2(transfers)
            for t in transfers:
                assert [type(good) for good in answers[t.name]] == [bool] * len(t.keys)
                assert True not in answers[t.name][leading_run(answers[t.name]) :], "a gap"
            return {name: leading_run(answer) for name, answer in answers.items()}

        assert self.ours(instance, call, right) == right
        for t, (pool, _), slots in zip(transfers, parts, places):
            self.reuse(instance, pool, slots[right[t.name] :])
            self.host_memory_is_alike()
            self.reuse(instance, pool, slots)

    @precondition(lambda self: self.pair.model.interface_v1)
    @rule(n=who, at=page_set | prefixes, order=spare)
    def set_v1(self, n: int, at: list[int], order: Any) -> None:
        self.store(n, [("kv", [self.keys[i] for i in at])], order, v1=True)

    @precondition(lambda self: self.pair.model.interface_v1)
    @rule(n=who, at=asked, order=spare)
    def get_v1(self, n: int, at: list[int], order: Any) -> None:
        self.fetch(n, [("kv", [self.keys[i] for i in at])], order, v1=True)

    @precondition(lambda self: self.pair.model.trailing)
    @rule(n=who, at=st.lists(page_set, min_size=3, max_size=3), order=spare)
    def set_v2(self, n: int, at: list[list[int]], order: Any) -> None:
        self.store(n, self.parts(at), order, v1=False)

    @precondition(lambda self: self.pair.model.trailing)
    @rule(n=who, at=st.lists(asked, min_size=3, max_size=3), order=spare)
    def get_v2(self, n: int, at: list[list[int]], order: Any) -> None:
        self.fetch(n, self.parts(at), order, v1=False)

    def parts(self, at: list[list[int]]) -> list[tuple[str, list[str]]]:
        """Side pools, and the KV pool where v2 calls use its form."""
        names = [name for name, _ in self.pair.model.trailing]
        if self.pair.model.interface_v1:
            names.append("kv")
        return [(name, [self.keys[i] for i in some]) for name, some in zip(names, at)]

    @precondition(lambda self: self.pair.model.trailing)
    @rule(n=who, at=page_set, reads=st.booleans(), order=spare)
    def a_transfer_without_indices(self, n: int, at: list[int], reads: bool, order: Any) -> None:
        """It fails; the one beside it does not."""
        instance = self.pair.instances[n]
        keys, pool = [self.keys[i] for i in at], self.pair.model.trailing[0][0]
        bad = transfer("kv", keys, None)
        slots = self.slots(order, len(keys))
        self.fill(instance, pool, slots)
        good = transfer(pool, keys, instance.our_memory.indices(pool, slots))
        verb = "batch_get_v2" if reads else "batch_set_v2"
        right = getattr(instance.file, verb)([bad, good])
        answer = self.ours(instance, lambda: getattr(instance.ours, verb)([bad, good]), right)
        assert answer[bad.name] == right[bad.name]
        assert leading_run(answer[good.name]) == leading_run(right[good.name])
        self.reuse(instance, pool, slots)
        if not reads:
            self.pair.stored(pool, keys, n)

    # ---- Queries ------------------------------------------------------------------------

    @rule(n=who, at=asked)
    def query(self, n: int, at: list[int]) -> None:
        self.batch_exists(n, at)

    @precondition(lambda self: self.pair.model.trailing)
    @rule(n=who, at=asked)
    def query_v2(self, n: int, at: list[int]) -> None:
        self.batch_exists_v2(n, at)

    def batch_exists(self, n: int, at: list[int]) -> None:
        instance, keys = self.pair.instances[n], [self.keys[i] for i in at]
        right = instance.file.batch_exists(keys)
        answer = self.ours(instance, lambda: instance.ours.batch_exists(keys), right)
        assert type(answer) is int and answer == right

    def batch_exists_v2(self, n: int, at: list[int]) -> None:
        instance, keys = self.pair.instances[n], [self.keys[i] for i in at]
        sides = [
            transfer(name, keys[-trailing:] if trailing else None, None, trailing)
            for name, trailing in self.pair.model.trailing
        ]
        right = instance.file.batch_exists_v2(keys, sides)
        ours = self.ours(instance, lambda: instance.ours.batch_exists_v2(keys, sides), right)
        assert ours.kv_hit_pages == right.kv_hit_pages
        assert ours.restorable_prefix_pages == (right.restorable_prefix_pages or [])
        found = {name: pages for name, pages in ours.extra_pool_hit_pages.items() if pages}
        if right.restorable_prefix_pages:
            assert found == right.extra_pool_hit_pages
        else:
            assert found.items() >= right.extra_pool_hit_pages.items()

    # ---- Values in tensors ----------------------------------------------------------------

    def set_values(self, n: int, keys: list[str], values: list[Any]) -> None:
        instance = self.pair.instances[n]
        right = instance.file.batch_set(keys, values)
        answer = self.ours(instance, lambda: instance.ours.batch_set(keys, values), right)
        assert answer is right is True
        self.pair.stored("generic", keys, n)

    def get_values(self, n: int, keys: list[str], make: Callable[[], Any]) -> None:
        """make: a fresh target."""
        instance = self.pair.instances[n]
        right = instance.file.batch_get(keys, [make() for _ in keys])
        targets = [make() for _ in keys]

        def call() -> list[bool]:
            nonlocal found
            found = instance.ours.batch_get(keys, targets)
            return [value is not None for value in found]

        found: list[Any] = []
        there = [value is not None for value in right]
        assert self.ours(instance, call, there) == there
        for target, ours, wanted in zip(targets, found, right):
            if wanted is not None:
                assert ours is target and same_bytes(ours, wanted), "other bytes"

    def pages_are_generic(self) -> bool:
        return self.pair.model.generic_pages

    @precondition(pages_are_generic)
    @rule(n=who, at=page_set, order=spare)
    def batch_set_pages(self, n: int, at: list[int], order: Any) -> None:
        """Views of the host pool, as SGLang passes them."""
        instance, slots = self.pair.instances[n], self.slots(order, len(at))
        keys = [self.keys[i] for i in at]
        self.fill(instance, "kv", slots)
        self.set_values(n, keys, [instance.our_memory.page("kv", slot) for slot in slots])
        self.reuse(instance, "kv", slots)
        for key in keys:  # They are pages of the KV pool.
            self.pair.holder.setdefault(("kv", key), self.pair.holder.pop(("generic", key)))

    @precondition(pages_are_generic)
    @rule(n=who, at=asked)
    def batch_get_pages(self, n: int, at: list[int]) -> None:
        memory = self.pair.instances[n].our_memory
        self.get_values(n, [self.keys[i] for i in at], lambda: memory.empty_page("kv"))

    @rule(n=who, at=page_set, form=draft_forms)
    def batch_set_drafts(self, n: int, at: list[int], form: str) -> None:
        values = [torch.empty(DRAFT_BYTES // 2, dtype=torch.bfloat16) for _ in at]
        for value in values:
            fill(value, self.pair.next_content())
        self.set_values(n, [form.format(self.draft_keys[i]) for i in at], values)

    @rule(n=who, at=asked, form=draft_forms)
    def batch_get_drafts(self, n: int, at: list[int], form: str) -> None:
        keys = [form.format(self.draft_keys[i]) for i in at]
        self.get_values(n, keys, lambda: torch.zeros(DRAFT_BYTES // 2, dtype=torch.bfloat16))

    @rule(n=who, key=opaque)
    def set_one(self, n: int, key: str) -> None:
        instance, value = self.pair.instances[n], torch.empty(OPAQUE[key], dtype=torch.uint8)
        fill(value, self.pair.next_content())
        right = instance.file.set(key, value)
        assert self.ours(instance, lambda: instance.ours.set(key, value), right) is right
        value.fill_(0)
        self.pair.stored("generic", [key], n)

    @rule(n=who, key=opaque)
    def get_one(self, n: int, key: str) -> None:
        instance = self.pair.instances[n]
        right = instance.file.get(key, torch.zeros(OPAQUE[key], dtype=torch.uint8))
        target = torch.zeros(OPAQUE[key], dtype=torch.uint8)
        there = right is not None
        call = lambda: instance.ours.get(key, target) is target
        assert self.ours(instance, call, there) is there
        assert right is None or same_bytes(target, right)

    @rule(n=who, key=opaque, more=st.sampled_from([1, 4096]))
    def a_get_of_another_length_misses(self, n: int, key: str, more: int) -> None:
        target = torch.zeros(OPAQUE[key] + more, dtype=torch.uint8)
        assert self.pair.instances[n].ours.get(key, target) is None

    @rule(n=who, key=opaque | st.tuples(draft_forms | st.just("{}"), pages))
    def exists(self, n: int, key: Any) -> None:
        if isinstance(key, tuple):
            form, i = key
            key = self.keys[i] if form == "{}" else form.format(self.draft_keys[i])
        instance = self.pair.instances[n]
        right = instance.file.exists(key)
        assert self.ours(instance, lambda: instance.ours.exists(key), right) is right

    @rule(n=who, at=asked, form=draft_forms)
    def batch_exists_of_drafts(self, n: int, at: list[int], form: str) -> None:
        instance, keys = self.pair.instances[n], [form.format(self.draft_keys[i]) for i in at]
        right = instance.file.batch_exists(keys)
        assert self.ours(instance, lambda: instance.ours.batch_exists(keys), right) == right

    # ---- Life -----------------------------------------------------------------------------

    @rule()
    def clear(self) -> None:
        self.pair.clear()

    @rule(n=who)
    def clear_of_one(self, n: int) -> None:
        """It drops what it holds, whoever else is there."""
        self.pair.instances[n].ours.clear()
        self.pair.forget(n)

    @precondition(lambda self: self.reattached < REATTACHES)
    @rule(n=who)
    def attach_again(self, n: int) -> None:
        self.reattached += 1
        self.pair.reattach(n)

    @rule(n=who)
    def stats(self, n: int) -> None:
        """The oracle has none; ours hands over a new object each time."""
        instance = self.pair.instances[n]
        assert instance.ours.get_stats() is not instance.ours.get_stats()
