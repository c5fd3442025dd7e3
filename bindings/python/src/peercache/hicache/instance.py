"""Who this instance is: what SGLang's storage configuration says of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Optional


@dataclasses.dataclass(frozen=True)
class Place:
    """Rank in a group of parallel processes."""

    rank: int = 0
    size: int = 1


@dataclasses.dataclass(frozen=True)
class Instance:
    """One scheduler process, as far as keys and memory depend on it."""

    model: Optional[str] = None
    tp: Place = Place()
    pp: Place = Place()
    cp: Place = Place()
    dcp: Place = Place()
    dp_rank: Optional[int] = None
    # SGLang's is_mla_model: the KV pages of all TP ranks are the same.
    replicated: bool = False
    # Share between TP sizes up to this one; None: do not.
    tp_lcm_size: Optional[int] = None
    # Whether SGLang will poll get_stats.
    metrics: bool = True

    @property
    def split(self) -> int:
        """Values per page where heads are shared between TP sizes."""
        return (self.tp_lcm_size or self.tp.size) // self.tp.size

    @property
    def label(self) -> str:
        """Model and ranks, for the log."""
        parts = [self.model or "(no model name)", f"tp {self.tp.rank}/{self.tp.size}"]
        for name, place in (("pp", self.pp), ("cp", self.cp), ("dcp", self.dcp)):
            if place.size > 1:
                parts.append(f"{name} {place.rank}/{place.size}")
        if self.dp_rank is not None:
            parts.append(f"dp {self.dp_rank}")
        return ", ".join(parts)


def _number(config: Any, name: str, default: int) -> int:
    value = getattr(config, name, None)
    try:
        return default if value is None else int(value)
    except (TypeError, ValueError):
        return default


def _place(config: Any, rank: str, size: str) -> Place:
    return Place(max(_number(config, rank, 0), 0), max(_number(config, size, 1), 1))


def _lcm_size(config: Any, tp_size: int) -> Optional[int]:
    lcm = _number(config, "tp_lcm_size", 0)
    return lcm if lcm >= tp_size and lcm % tp_size == 0 else None


def instance_of(config: Any) -> Instance:
    """Read a HiCacheStorageConfig of any release by name; None gives defaults."""
    tp = _place(config, "tp_rank", "tp_size")
    model = getattr(config, "model_name", None)
    dp_rank = getattr(config, "dp_rank", None)
    return Instance(
        model=None if model is None else str(model),
        tp=tp,
        pp=_place(config, "pp_rank", "pp_size"),
        cp=_place(config, "attn_cp_rank", "attn_cp_size"),
        dcp=_place(config, "dcp_rank", "dcp_size"),
        dp_rank=None if dp_rank is None else _number(config, "dp_rank", 0),
        replicated=bool(getattr(config, "is_mla_model", False)),
        tp_lcm_size=_lcm_size(config, tp.size),
        metrics=bool(getattr(config, "enable_storage_metrics", True)),
    )


def extra_of(config: Any) -> dict[str, Any]:
    """The user's extra configuration, a copy; {} if there is none.

    Raises ValueError for something that is not a mapping.
    """
    extra = getattr(config, "extra_config", None)
    if isinstance(extra, str):
        extra = json.loads(extra) if extra.strip() else None
    if extra is None:
        return {}
    if not isinstance(extra, Mapping):
        raise ValueError(f"extra config must be a JSON object, not {type(extra).__name__}")
    return {str(key): value for key, value in extra.items()}
