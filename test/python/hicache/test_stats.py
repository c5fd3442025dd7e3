"""What get_stats hands over."""

from __future__ import annotations

from typing import Callable

import pytest

from hicache.content import page_hashes
from hicache.controller import AT_ONCE_S, Controller, within
from hicache.versions import VERSIONS

Attach = Callable[..., Controller]
every_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name, indirect=True)
NAMES = ("prefetch_pgs", "backup_pgs", "prefetch_bandwidth", "backup_bandwidth")


@every_version
def test_stats_are_of_the_releases_own_class_and_fresh(attach: Attach) -> None:
    store = attach(enable_storage_metrics=True)
    keys = page_hashes(5)
    store.put(keys, range(5))
    store.fetch(keys, range(5, 10))
    first, second = store.stats(), store.stats()
    assert type(first) is store.sglang.StorageMetrics
    assert type(second) is type(first) and second is not first
    assert sum(first.prefetch_pgs) == 5 and sum(first.backup_pgs) == 5
    assert len(first.prefetch_bandwidth) == len(first.prefetch_pgs)
    assert len(first.backup_bandwidth) == len(first.backup_pgs)
    for name in NAMES:
        assert type(getattr(first, name)) is list
        assert getattr(second, name) == [], "lists are handed over, not copied"
    assert all(0 < value < 1000 for value in first.prefetch_bandwidth + first.backup_bandwidth)
    assert all(type(n) is int for n in first.prefetch_pgs + first.backup_pgs)


def test_the_class_given_away_may_be_changed(attach: Attach) -> None:
    store = attach(enable_storage_metrics=True)
    store.stats().prefetch_pgs.append(7)
    store.stats().of_the_main_thread = 1
    assert store.stats().prefetch_pgs == []


def test_the_generic_path_counts_too(attach: Attach) -> None:
    store = attach(v1=False, enable_storage_metrics=True)
    keys = page_hashes(3)
    store.kv.fill(range(3), keys)
    store.set_pages(keys, range(3))
    store.get_pages(keys, range(3))
    stats = store.stats()
    assert sum(stats.backup_pgs) == 3 and sum(stats.prefetch_pgs) == 3


def test_our_metrics_name_model_and_ranks_in_every_series(attach: Attach) -> None:
    model = 'a "tiny" model'
    store = attach(model_name=model, tp_rank=1, tp_size=2, pp_rank=2, pp_size=4, dp_rank=3)
    keys = page_hashes(4)
    store.put(keys, range(4))
    assert store.fetch(keys, range(8, 12)) == 4
    with within(AT_ONCE_S, "metrics_text"):
        text = store.store.metrics_text()
    series = [line for line in text.splitlines() if line and not line.startswith("#")]
    own = ('model="a \\"tiny\\" model"', 'tp_rank="1"', 'pp_rank="2"', 'dp_rank="3"', 'role="')
    assert all(line.count(label) == 1 for line in series for label in own), series
    assert not any("attn_cp_rank" in line for line in series)
    assert [line for line in series if line.startswith("peercache_read_hits_total{")]
    assert any("adapter_pages_total" in s and s.endswith('"read"} 4') for s in series)
    heads = [line for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(heads) == len(set(heads))
    families = tuple(line.split()[2] for line in heads)
    assert all(line.startswith(families) for line in series)


def test_metrics_of_a_closed_store_are_no_text(attach: Attach) -> None:
    store = attach()
    store.close()
    assert store.store.metrics_text() == ""


def test_what_nobody_polls_does_not_grow(attach: Attach) -> None:
    store = attach(enable_storage_metrics=False)
    keys = page_hashes(1)
    store.put(keys, [0])
    for _ in range(3000):
        assert store.get(keys, [1]) == [True]
    stats = store.stats()
    assert stats is None or len(stats.prefetch_pgs) <= 2048
