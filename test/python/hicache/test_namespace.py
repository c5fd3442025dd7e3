"""Who meets whom in one cluster: the digest of a pool, field by field."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Callable, Optional

import pytest

from hicache import pools
from hicache.content import page_hashes
from hicache.controller import Controller
from hicache.fake_sglang import FakeSGLang, installed
from hicache.tensors import BFLOAT16, FLOAT16, UINT8, TensorDouble
from hicache.versions import BY_NAME, NEWEST

Attach = Callable[..., Controller]
Members = Callable[[int], None]
Maker = Callable[[], pools.PoolDouble]
Sides = dict[str, pools.PoolDouble]


def of(kind: Maker, **attributes: Any) -> Maker:
    """The pool, with attributes set."""

    def make() -> pools.PoolDouble:
        pool = kind()
        for name, value in attributes.items():
            setattr(pool, name, value)
        return pool

    return make


@dataclass(frozen=True)
class Setup:
    """How one of two instances is attached."""

    kv: Maker = pools.mha
    version: str = NEWEST.name
    kv_cache_dtype: str = "auto"
    v1: bool = True
    extra: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


def has(**config: Any) -> Setup:
    return Setup(config=config)


def pair(kv: Maker, other: Maker, **config: Any) -> tuple[Setup, Setup]:
    return Setup(kv, config=config), Setup(other, config=config)


def unequal_kv(key_dim: int) -> Maker:
    """Pages of one length, cut elsewhere."""

    def make() -> pools.PoolDouble:
        pool = pools.unequal()
        total = pool.page_bytes
        first = total * key_dim // 40
        sizes = [first, total - first]
        cut = [pools.Piece(j, 0, size, size) for j, size in enumerate(sizes)]
        more: dict[str, Any] = {"layers": 3, "head_num": 2, "head_dim": 24}
        return pools.PoolDouble("kv", "page_first", 4, cut, **more)

    return make


fp8 = of(lambda: pools.mha(dtype=UINT8))
short_pages = of(lambda: pools.mha(page_size=2, layers=6), layer_num=3, start_layer=0, end_layer=2)

APART: dict[str, tuple[Setup, Setup]] = {
    "model name": (has(model_name="a"), has(model_name="b")),
    "no model name": (has(model_name=None), has(model_name="None")),
    "prefix": (Setup(extra={"prefix": "a"}), Setup(extra={"prefix": "b"})),
    "model and prefix run together": (
        Setup(extra={"prefix": "b"}, config={"model_name": "a"}),
        Setup(extra={"prefix": ""}, config={"model_name": "ab"}),
    ),
    "dtype": pair(pools.mha, lambda: pools.mha(dtype=FLOAT16)),
    "both kinds of fp8": (
        Setup(fp8, kv_cache_dtype="fp8_e4m3"),
        Setup(fp8, kv_cache_dtype="fp8_e5m2"),
    ),
    "both kinds of fp8 on 0.5.12": (
        Setup(fp8, version="0.5.12", kv_cache_dtype="fp8_e4m3"),
        Setup(fp8, version="0.5.12", kv_cache_dtype="fp8_e5m2"),
    ),
    "layout": pair(pools.mha, lambda: pools.mha(layout="page_first_direct")),
    "page size": pair(pools.mha, short_pages),
    "piece sizes": pair(unequal_kv(24), unequal_kv(16)),
    "number of layers": pair(pools.mha, of(pools.mha, layer_num=4)),
    "first layer": pair(pools.mha, of(pools.mha, start_layer=3)),
    "last layer": pair(pools.mha, of(pools.mha, end_layer=5)),
    "tp rank": (has(tp_size=2, tp_rank=0), has(tp_size=2, tp_rank=1)),
    "tp size": (has(tp_size=2), has(tp_size=4)),
    "pp rank": (has(pp_size=2, pp_rank=0), has(pp_size=2, pp_rank=1)),
    "pp size": (has(pp_size=2), has(pp_size=3)),
    "cp rank": (has(attn_cp_size=2, attn_cp_rank=0), has(attn_cp_size=2, attn_cp_rank=1)),
    "cp size": (has(attn_cp_size=2), has(attn_cp_size=4)),
    "dcp rank": (has(dcp_size=2, dcp_rank=0), has(dcp_size=2, dcp_rank=1)),
    "dcp size": (has(dcp_size=2), has(dcp_size=4)),
    "hash epoch": (Setup(version="0.5.16"), Setup(version="0.5.21")),
    "form of layer_first pages": (
        Setup(lambda: pools.mha(layout="layer_first")),
        Setup(lambda: pools.mha(layout="layer_first"), v1=False),
    ),
    "K and V pool beside replicated ones": (
        has(is_mla_model=True, tp_size=2, tp_rank=0),
        has(is_mla_model=True, tp_size=2, tp_rank=1),
    ),
    "pp rank of replicated pools": (
        Setup(pools.mla, config={"is_mla_model": True, "pp_size": 2, "pp_rank": 0}),
        Setup(pools.mla, config={"is_mla_model": True, "pp_size": 2, "pp_rank": 1}),
    ),
    "cp rank of replicated pools": (
        Setup(pools.mla, config={"is_mla_model": True, "attn_cp_size": 2, "attn_cp_rank": 0}),
        Setup(pools.mla, config={"is_mla_model": True, "attn_cp_size": 2, "attn_cp_rank": 1}),
    ),
    "a shard of an MLA-like pool that is not replicated": (
        Setup(pools.mla, config={"tp_size": 2, "tp_rank": 0}),
        Setup(pools.mla, config={"tp_size": 2, "tp_rank": 1}),
    ),
}

TOGETHER: dict[str, tuple[Setup, Setup]] = {
    "equals": (Setup(), Setup()),
    "dp rank": (has(dp_rank=0), has(dp_rank=3)),
    "no dp rank": (has(), has(dp_rank=1)),
    "capacity": pair(pools.mha, lambda: pools.mha(n_pages=31)),
    "versions of one epoch": (Setup(version="0.5.21"), Setup(version="0.5.23")),
    "old versions": (Setup(version="0.5.6"), Setup(version="0.5.16")),
    "metrics": (has(enable_storage_metrics=True), has(enable_storage_metrics=False)),
    "logical page size": (has(logical_page_size=4), has(logical_page_size=None)),
    "extra config": (Setup(extra={"some": "thing", "op_timeout": "1"}), Setup()),
    "node id": (Setup(extra={"node_id": "one"}), Setup(extra={"node_id": "two"})),
    "v1 and generic": (Setup(), Setup(v1=False)),
    "v1 and generic of MLA layer_first": (
        Setup(lambda: pools.mla(layout="layer_first")),
        Setup(lambda: pools.mla(layout="layer_first"), v1=False),
    ),
    "tp ranks of a replicated pool": (
        Setup(pools.mla, config={"is_mla_model": True, "tp_size": 4, "tp_rank": 0}),
        Setup(pools.mla, config={"is_mla_model": True, "tp_size": 4, "tp_rank": 3}),
    ),
    "tp sizes of a replicated pool": (
        Setup(pools.mla, config={"is_mla_model": True, "tp_size": 1}),
        Setup(pools.mla, config={"is_mla_model": True, "tp_size": 8}),
    ),
}


class Cluster:
    """Attaches instances of any release to one cluster."""

    def __init__(self, attach: Attach) -> None:
        self.attach = attach

    def add(
        self, setup: Setup, owner: str = "kv", sides: Optional[Sides] = None
    ) -> Controller:
        kv = setup.kv()
        kv.owner = owner
        with installed(BY_NAME[setup.version]) as sglang:
            sglang.server_args.kv_cache_dtype = setup.kv_cache_dtype
            return self.attach(
                kv, sides, sglang=sglang, extra=setup.extra, v1=setup.v1, **setup.config
            )


@pytest.fixture
def cluster(attach: Attach) -> Cluster:
    return Cluster(attach)


def write(store: Controller, keys: list[str]) -> bool:
    slots = range(len(keys))
    store.kv.fill(slots, keys)
    return all(store.set(keys, slots)) if store.v1 else store.set_pages(keys, slots)


def read(store: Controller, keys: list[str]) -> int:
    """Into other slots; checks the bytes of what came."""
    slots = range(8, 8 + len(keys))
    store.kv.poison(slots)
    n = sum(store.get(keys, slots)) if store.v1 else store.get_pages(keys, slots)
    store.kv.check(slots[:n], keys)
    return n


@pytest.mark.parametrize("case", APART)
def test_what_changes_the_bytes_keeps_apart(cluster: Cluster, members: Members, case: str) -> None:
    one, other = (cluster.add(setup, str(i)) for i, setup in enumerate(APART[case]))
    members(2)
    keys = page_hashes(3)
    assert write(one, keys)
    assert other.exists(keys) == 0 and read(other, keys) == 0
    assert write(other, keys)
    assert read(one, keys) == 3 and read(other, keys) == 3


@pytest.mark.parametrize("case", TOGETHER)
def test_what_does_not_change_the_bytes_is_shared(
    cluster: Cluster, members: Members, case: str
) -> None:
    one, other = (cluster.add(setup) for setup in TOGETHER[case])
    members(2)
    keys = page_hashes(3)
    assert write(one, keys)
    assert other.exists(keys) == 3 and read(other, keys) == 3


def test_every_apart_case_is_of_equal_page_lengths() -> None:
    """Else a length check alone would keep them apart."""
    for case, setups in APART.items():
        lengths = {setup.kv().page_bytes for setup in setups}
        assert len(lengths) == 1, (case, lengths)


def mla_rank(rank: int) -> Setup:
    return Setup(pools.mla, config={"is_mla_model": True, "tp_size": 2, "tp_rank": rank})


@pytest.mark.parametrize(
    ("name", "make", "shared"),
    [
        ("indexer", pools.dsa_indexer, True),
        ("deepseek_v4_c4", pools.v4_state, True),
        ("a pool of the year 2030", pools.mla, True),
        ("draft", pools.mla, True),
        ("mamba", pools.mamba, False),
        ("draft", pools.draft, False),
    ],
)
def test_side_pools_of_replicated_models_are_shared_unless_sharded(
    cluster: Cluster, members: Members, name: str, make: Maker, shared: bool
) -> None:
    one, other = (cluster.add(mla_rank(rank), sides={name: make()}) for rank in (0, 1))
    members(2)
    keys = page_hashes(3)
    assert one.put_side(name, keys, range(3)) == [True] * 3
    other.pools[name].poison(range(3))
    assert other.get_side(name, keys, range(3)) == [shared] * 3
    if shared:
        other.pools[name].check(range(3), keys)


def test_a_rank_above_0_says_true_for_replicated_pools(cluster: Cluster) -> None:
    """Rank 0 has the bytes; a False here would count as not stored."""
    store = cluster.add(mla_rank(1), sides={"indexer": pools.dsa_indexer()})
    keys = page_hashes(3)
    assert store.put_side("indexer", keys, range(3)) == [True] * 3


@pytest.mark.parametrize("name", ["swa", "mamba", "a pool of the year 2030"])
def test_side_pools_of_other_models_carry_the_rank(
    cluster: Cluster, members: Members, name: str
) -> None:
    setups = [has(tp_size=2, tp_rank=rank) for rank in (0, 1)]
    one, other = (cluster.add(setup, sides={name: pools.SIDE_POOLS[name]()}) for setup in setups)
    members(2)
    keys = page_hashes(3)
    assert one.put_side(name, keys, range(3)) == [True] * 3
    assert other.get_side(name, keys, range(3)) == [False] * 3


def test_pools_of_one_instance_stay_apart_by_name(cluster: Cluster) -> None:
    twins = {name: pools.mha(name) for name in ("draft", "auxiliary", "swa")}
    store = cluster.add(Setup(), sides=twins)
    keys = page_hashes(2)
    for name in twins:
        store.put_side(name, keys, [0, 1])
    for name in twins:
        store.pools[name].poison([2, 3])
        assert store.get_side(name, keys, [2, 3]) == [True, True]
        store.pools[name].check([2, 3], keys)
    assert store.exists(keys) == 0


def split(rank: int, size: int, version: str = NEWEST.name, lcm: Any = 4) -> Setup:
    config = {"tp_rank": rank, "tp_size": size, "tp_lcm_size": lcm}
    config["should_split_heads"] = size < 4
    return Setup(lambda: pools.split_heads(rank, size), version=version, config=config)


@pytest.mark.parametrize("release", ["0.5.12", "0.5.23"])
def test_split_heads_are_shared_over_tp_sizes(
    cluster: Cluster, members: Members, release: str
) -> None:
    keys = page_hashes(3)
    writers = [cluster.add(split(rank, 2, release)) for rank in (0, 1)]
    readers = [cluster.add(split(0, 1, release))]
    readers += [cluster.add(split(rank, 4, release)) for rank in range(4)]
    members(7)
    for writer in writers:
        assert all(writer.put(keys, range(3)))
    for reader in readers:
        assert reader.exists(keys) == 3
        assert reader.fetch(keys, range(8, 11)) == 3


def test_a_page_of_split_heads_needs_all_its_shards(cluster: Cluster, members: Members) -> None:
    half, whole = cluster.add(split(1, 2)), cluster.add(split(0, 1))
    members(2)
    keys = page_hashes(3)
    assert all(half.put(keys, range(3)))
    assert whole.exists(keys) == 0 and whole.fetch(keys, range(3)) == 0


def test_a_lcm_as_text_means_the_number(cluster: Cluster, members: Members) -> None:
    one, other = cluster.add(split(0, 1, lcm="4")), cluster.add(split(2, 4))
    members(2)
    keys = page_hashes(2)
    assert all(one.put(keys, [0, 1]))
    assert other.fetch(keys, [0, 1]) == 2


def test_a_prefix_of_the_environment_counts_as_one_of_the_config(
    cluster: Cluster, members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = cluster.add(Setup(extra={"prefix": "tenant a"}))
    monkeypatch.setenv("PEERCACHE_PREFIX", "tenant b")
    other = cluster.add(Setup())
    monkeypatch.setenv("PEERCACHE_PREFIX", "tenant a")
    same = cluster.add(Setup())
    members(3)
    keys = page_hashes(3)
    assert write(one, keys)
    assert other.exists(keys) == 0 and read(other, keys) == 0
    assert same.exists(keys) == 3 and read(same, keys) == 3


def test_temporal_states_of_another_dtype_do_not_meet(cluster: Cluster, members: Members) -> None:
    """A Mamba pool's own dtype is that of its convolutions."""
    stores = []
    for dtype in (BFLOAT16, FLOAT16):
        pool = pools.mamba()
        memory, *convolutions = pool.get_hybrid_pool_buffer()  # type: ignore[attr-defined]
        tensors = [TensorDouble(memory.memory, dtype), *convolutions]
        pool.get_hybrid_pool_buffer = partial(list, tensors)  # type: ignore[attr-defined]
        stores.append(cluster.add(Setup(), sides={"mamba": pool}))
    members(2)
    keys = page_hashes(3)
    assert stores[0].put_side("mamba", keys, range(3)) == [True] * 3
    assert stores[1].get_side("mamba", keys, range(3)) == [False] * 3


def test_a_missing_model_name_warns(
    cluster: Cluster, caplog: pytest.LogCaptureFixture, sglang: FakeSGLang
) -> None:
    cluster.add(has(model_name=None))
    texts = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert any("model" in text for text in texts), texts


def test_a_sharded_pool_beside_replicated_ones_is_named_once(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Only rank 0 writes there, so that L3 cannot hit with TP > 1."""
    store = cluster.add(mla_rank(1), sides={"draft": pools.draft()})
    store.register("draft", store.pools["draft"])
    texts = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len([text for text in texts if "draft" in text]) == 1, texts
