"""Reads the text format of Prometheus into a dict."""

from __future__ import annotations

import re
from typing import Union

Number = Union[int, float]
# A family with labels is one dict, by the values of the labels.
Stat = Union[Number, dict[str, Number]]

_LINE = re.compile(r"(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)")
_LABEL = re.compile(r'(?P<name>\w+)="(?P<value>(?:[^"\\]|\\.)*)"')
_PREFIX = "peercache_"
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


def _number(text: str) -> Number:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _labels(text: str | None) -> dict[str, str]:
    found = _LABEL.finditer(text or "")
    return {
        label["name"]: re.sub(r"\\.", lambda m: _ESCAPES.get(m[0], m[0]), label["value"])
        for label in found
    }


def _common(series: list[tuple[str, dict[str, str], Number]]) -> set[tuple[str, str]]:
    """Labels that every line has: they name the node, not the number."""
    sets = [set(labels.items()) for _, labels, _ in series]
    return set.intersection(*sets) if len(sets) > 1 else set()


def parse_metrics(text: str) -> dict[str, Stat]:
    """Names without "peercache_" to numbers, or to dicts where the lines of a
    name differ in labels: {"pool_keys": 3, "read_misses_by_cause_total":
    {"stale": 0, "not_found": 1}}. Several labels are joined with commas."""
    series = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is not None and not line.startswith("#"):
            labels = _labels(match["labels"])
            series.append((match["name"].removeprefix(_PREFIX), labels, _number(match["value"])))
    common = _common(series)
    stats: dict[str, Stat] = {}
    for name, labels, value in series:
        own = [v for k, v in labels.items() if (k, v) not in common]
        family = stats.setdefault(name, {}) if own else None
        if isinstance(family, dict):
            family[",".join(own)] = value
        else:
            stats[name] = value
    return stats
