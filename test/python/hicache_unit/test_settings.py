"""From the extra configuration to settings of the node."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from types import SimpleNamespace

import peercache
import pytest
from peercache.hicache.claim import Claim
from peercache.hicache.config import (
    DEFAULTS,
    node_settings,
    own_node_id,
    parse_size,
    share_of_pool,
    start_node,
)
from peercache.hicache.instance import Instance, Place, extra_of, instance_of
from peercache.hicache.traffic import seconds

TABLE = Path(__file__).parents[3] / "docs" / "configuration.md"
GIB = 1 << 30


def test_the_table_is_that_of_the_documentation() -> None:
    rows = re.findall(r"^\| `(\w+)`(?: \(c\))? \| \w+ \| (\S+) \|", TABLE.read_text(), re.M)
    documented = {name: "" if value == "empty" else value.strip("`") for name, value in rows}
    assert documented == DEFAULTS


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 * GIB), ("16mb", 16 << 20), (4096, 4096), ("1.5g", 3 * GIB // 2), ("x", None)],
)
def test_sizes_are_read_as_the_library_reads_them(text: object, size: object) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2.0), ("500ms", 0.5), ("3s", 3.0), ("2min", 120.0), ("50us", 5e-5), ("soon", None)],
)
def test_times_are_read_as_the_library_reads_them(text: str, value: object) -> None:
    assert seconds(text) == (None if value is None else pytest.approx(value))


def rank(tp: int, size: int, replicated: bool = False) -> Instance:
    return Instance(tp=Place(tp, size), replicated=replicated)


def test_ranks_share_the_memory_of_the_host() -> None:
    assert {share_of_pool(8 * GIB, rank(i, 8)) for i in range(8)} == {GIB}


def test_rank_0_of_a_replicated_model_has_the_share_of_the_host() -> None:
    assert share_of_pool(8 * GIB, rank(0, 8, True)) == 8 * GIB
    others = [share_of_pool(8 * GIB, rank(i, 8, True)) for i in range(1, 8)]
    assert sum(others) <= GIB
    assert min(others) > 0


def test_a_chosen_node_id_differs_by_rank_and_auto_stays() -> None:
    instance = Instance(tp=Place(1, 2), pp=Place(0, 2), dp_rank=3)
    assert own_node_id("a", instance) == "a-tp1-pp0-dp3"
    assert own_node_id("a", Instance()) == "a"
    assert "node_id" not in node_settings({"node_id": "AUTO"}, instance)


def test_processes_that_cannot_be_told_apart_get_numbers() -> None:
    first, second = Claim("cluster", "unit-a"), Claim("cluster", "unit-a")
    other = Claim("another cluster", "unit-a")
    assert (first.name, second.name, other.name) == ("unit-a", "unit-a-2", "unit-a")
    first.close()
    again = Claim("cluster", "unit-a")
    assert again.name == "unit-a"
    for claim in (second, other, again):
        claim.close()


def test_foreign_keys_pass_with_a_word_about_the_nearest(caplog: pytest.LogCaptureFixture) -> None:
    extra = {"backend_name": "x", "interface_v1": 1, "op_timout": 3, "vnodes": None, "mode": "p2p"}
    with caplog.at_level(logging.WARNING):
        settings = node_settings(extra, Instance())
    assert set(settings) == {"mode", "global_segment_size", "disk_size"}
    assert [record.getMessage() for record in caplog.records] == [
        'extra config: unknown setting "op_timout"; did you mean "op_timeout"?; ignored'
    ]


def test_all_reasons_are_told_at_once() -> None:
    with pytest.raises(peercache.ConfigError) as error:
        start_node({"role": ["x", 1], "mode": "zz", "vnodes": -1})
    lines = str(error.value).splitlines()
    assert sorted(line.split(" ")[0] for line in lines) == ["mode", "role", "vnodes"]


def test_a_config_of_any_release_is_read_by_name() -> None:
    assert instance_of(None) == Instance()
    config = SimpleNamespace(tp_rank=1, tp_size=2, is_mla_model=True, tp_lcm_size=8, new_field=3)
    instance = instance_of(config)
    assert (instance.tp, instance.replicated, instance.split) == (Place(1, 2), True, 4)
    assert instance_of(SimpleNamespace(tp_size=4, tp_lcm_size=6)).tp_lcm_size is None


def test_the_extra_config_is_copied_and_must_be_an_object() -> None:
    extra = {"mode": "p2p"}
    found = extra_of(SimpleNamespace(extra_config=extra))
    assert found == extra and found is not extra
    with pytest.raises(ValueError):
        extra_of(SimpleNamespace(extra_config=[1]))


def test_the_keyword_form_of_the_configuration() -> None:
    config = peercache.PeerCacheConfig(mode="hybrid", vnodes=3)
    assert (config.mode, config.vnodes, config.heartbeat_interval) == ("hybrid", 3, "2")
    assert config.is_hybrid and not config.is_centralized
    assert config.effective_role == "inference"
    assert config.settings() == {"mode": "hybrid", "vnodes": 3}
    with pytest.raises(peercache.ConfigError, match="did you mean"):
        peercache.PeerCacheConfig(vnode=3)
    extra = {"backend_name": "peercache", "mode": "hybrid", "vnodes": 3}
    assert peercache.PeerCacheConfig.from_extra_config(extra) == config
