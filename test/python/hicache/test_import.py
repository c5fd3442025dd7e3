"""What an import needs, and what the doubles rest on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hicache.content import chained_hashes
from hicache.fake_sglang import FACTORY_KEYS, installed
from hicache.versions import NEWEST, VERSIONS, Version

SMALL = {"global_segment_size": "4mb", "disk_enabled": False, "metrics_enabled": False}
VECTOR = [
    "34fb5c825de7ca4aea6e712f19d439c1da0c92c37b423936c5f618545ca4fa1f",
    "c57b445f90651b9a650e516ab2238c965b21af35608a31c303e6d9e407f2915c",
    "e1fd781b60f933e64fe17100c521f3130659b4761e25f7b79abcf81ae5aa23cf",
]


def test_page_hashes_are_those_of_sglang() -> None:
    assert chained_hashes([1, 2, 3, 4, 5], 2) == VECTOR


def test_the_store_imports_without_sglang_and_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = sys.modules['sglang'] = None\n"
        "from peercache.store import PeerCacheStore\n"
        "assert not getattr(PeerCacheStore, '__abstractmethods__', None)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_import_brings_no_torch() -> None:
    program = "import sys, peercache.store; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


OPTIONAL = ["HiCacheStorageConfig", "HiCacheStorageExtraInfo", "PoolName", "PoolHitPolicy"]
OPTIONAL += ["PoolTransfer", "PoolTransferResult"]


@pytest.mark.parametrize("missing", OPTIONAL)
def test_a_missing_name_of_sglang_leaves_the_base_class(missing: str) -> None:
    with installed(NEWEST, fresh=True) as sglang:
        config = sglang.config(extra_config=SMALL)
        delattr(sglang.types, missing)
        from peercache.store import PeerCacheStore

        assert issubclass(PeerCacheStore, sglang.types.HiCacheStorage)
        store = PeerCacheStore(config, {})
        assert store.batch_exists_v2(["a"], []).kv_hit_pages == 0
        store.close()


def test_without_its_metrics_class_there_are_no_stats() -> None:
    with installed(NEWEST, fresh=True) as sglang:
        path = f"sglang.srt.{NEWEST.metrics_module}"
        vars(sys.modules[path]).pop("StorageMetrics")
        store = sglang.create_backend({**FACTORY_KEYS, **SMALL})
        assert store.get_stats() is None
        store.close()


@pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name)
def test_nothing_of_a_fake_sglang_stays(version: Version) -> None:
    before = set(sys.modules)
    with installed(version) as sglang:
        sglang.create_backend({**FACTORY_KEYS, **SMALL}).close()
    after = {name for name in sys.modules if name.startswith(("sglang", "peercache.store"))}
    assert after <= before and not {n for n in after if n.startswith("sglang")}
