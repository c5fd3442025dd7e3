"""Our own metrics as text: labels on every series, and the adapter's counters."""

from __future__ import annotations

import pytest
from peercache.hicache import metrics
from peercache.hicache.instance import Instance, Place
from peercache.hicache.numbers import Numbers, Totals

LABELS = {"role": "member", "tp_rank": "1"}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("keys 3", 'keys{role="member",tp_rank="1"} 3'),
        ("keys{} 3", 'keys{role="member",tp_rank="1"} 3'),
        ('keys{a="b"} 3', 'keys{role="member",tp_rank="1",a="b"} 3'),
        ('keys{role="x"} 3', 'keys{tp_rank="1",role="x"} 3'),
        ('keys{a=",role=\\"x"} 3', 'keys{role="member",tp_rank="1",a=",role=\\"x"} 3'),
        ('keys{a="{b} 4"} 3 99', 'keys{role="member",tp_rank="1",a="{b} 4"} 3 99'),
        ('keys{a="b\u2028c"} 3', 'keys{role="member",tp_rank="1",a="b\u2028c"} 3'),
        ("# HELP keys {of} us", "# HELP keys {of} us"),
        ("", ""),
    ],
)
def test_labels_go_to_every_series_and_replace_none(line: str, wanted: str) -> None:
    assert metrics.labelled(line + "\n", LABELS) == wanted + "\n"


def test_what_a_label_must_not_hold_is_escaped() -> None:
    assert metrics.labelled("a 1", {"model": 'x"y\\z\n'}) == 'a{model="x\\"y\\\\z\\n"} 1'


def test_no_text_stays_none() -> None:
    assert metrics.labelled("", LABELS) == ""


def test_ranks_of_groups_that_are_none_are_left_out() -> None:
    alone = metrics.labels_of(Instance(), "n", "member")
    assert alone == {"node": "n", "role": "member", "model": "", "tp_rank": "0", "pp_rank": "0"}
    ranks = Instance(model="m", tp=Place(1, 2), pp=Place(2, 3), cp=Place(3, 4), dp_rank=0)
    assert metrics.labels_of(ranks, "n", "client") == {
        "node": "n",
        "role": "client",
        "model": "m",
        "tp_rank": "1",
        "pp_rank": "2",
        "dp_rank": "0",
        "attn_cp_rank": "3",
    }


def test_the_adapters_families_have_their_heads_and_labels() -> None:
    totals = {"read": Totals(2, 300, 0.5)}
    lines = metrics.adapter_text({"breaker": 7}, totals, LABELS).splitlines()
    assert "# TYPE peercache_adapter_pages_total counter" in lines
    own = 'role="member",tp_rank="1"'
    assert f'peercache_adapter_pages_total{{{own},direction="read"}} 2' in lines
    assert f'peercache_adapter_bytes_total{{{own},direction="read"}} 300' in lines
    assert f'peercache_adapter_seconds_total{{{own},direction="read"}} 0.5' in lines
    assert f'peercache_adapter_events_total{{{own},event="breaker"}} 7' in lines
    heads = [line.split()[2] for line in lines if line.startswith("# HELP ")]
    assert len(heads) == len(set(heads)) == 4


def test_totals_count_though_nobody_asks_for_stats() -> None:
    numbers = Numbers(None)
    numbers.read(3, 30, 0.25)
    numbers.read(0, 0, 9.0)
    numbers.written(1, 10, 0.5)
    assert numbers.totals() == {"read": Totals(3, 30, 0.25), "written": Totals(1, 10, 0.5)}
