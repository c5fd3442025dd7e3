"""Metrics as text of Prometheus, with the labels by which a fleet is told apart.

The library's series name the node. Who looks at several servers asks for the
model and the ranks as well: they are added to every series, and so are the
adapter's own counters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from peercache.hicache.instance import Instance
from peercache.hicache.numbers import Totals

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
# A quote within a value has a backslash before it: this finds names only.
_LABEL = re.compile(r'[{,](\w+)="')


def labels_of(instance: Instance, node: str, role: str) -> dict[str, str]:
    """Labels of all series of a process, in order."""
    labels = {
        "node": node,
        "role": role,
        "model": instance.model or "",
        "tp_rank": str(instance.tp.rank),
        "pp_rank": str(instance.pp.rank),
    }
    if instance.dp_rank is not None:
        labels["dp_rank"] = str(instance.dp_rank)
    if instance.cp.size > 1:
        labels["attn_cp_rank"] = str(instance.cp.rank)
    return labels


def labelled(text: str, labels: Mapping[str, str]) -> str:
    """Every series of the text with these labels; one that it has stays."""
    pairs = _pairs(labels)
    whole = ",".join(pairs.values())
    lines = [
        line if not line or line.startswith("#") else _with(line, pairs, whole)
        for line in text.split("\n")  # Not splitlines: values hold any letter.
    ]
    return "\n".join(lines)


def adapter_text(
    events: Mapping[str, int], totals: Mapping[str, Totals], labels: Mapping[str, str]
) -> str:
    """What the adapter counts itself. events: by kind. totals: "read", "written"."""
    pages = {direction: total.pages for direction, total in totals.items()}
    n_bytes = {direction: total.bytes for direction, total in totals.items()}
    seconds = {direction: total.seconds for direction, total in totals.items()}
    lines = [
        *_family("pages", "pages moved", labels, "direction", pages),
        *_family("bytes", "bytes of these pages", labels, "direction", n_bytes),
        *_family("seconds", "time of calls that moved pages", labels, "direction", seconds),
        *_family("events", "what went wrong, by kind", labels, "event", events),
    ]
    return "".join(lines)


def _family(
    name: str, about: str, labels: Mapping[str, str], label: str, values: Mapping[str, float]
) -> Iterator[str]:
    """Lines of one family of counters, with a series for each value of the label."""
    full = f"peercache_adapter_{name}_total"
    yield f"# HELP {full} {about}\n# TYPE {full} counter\n"
    for key, value in sorted(values.items()):
        pairs = ",".join(_pairs({**labels, label: key}).values())
        yield f"{full}{{{pairs}}} {value}\n"


def _pairs(labels: Mapping[str, str]) -> dict[str, str]:
    return {name: f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items()}


def _with(line: str, pairs: Mapping[str, str], whole: str) -> str:
    name, brace, rest = line.partition("{")
    if not brace:
        name, _, value = line.partition(" ")
        return f"{name}{{{whole}}} {value}"
    known = set(_LABEL.findall(brace + rest.rpartition("}")[0]))
    missing = [pair for label, pair in pairs.items() if label not in known]
    return f"{name}{{{','.join([*missing, rest])}" if known else f"{name}{{{whole}{rest}"
