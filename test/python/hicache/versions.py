"""What the releases of SGLang that we test against offer to a storage backend."""

from __future__ import annotations

from dataclasses import dataclass

_BASE = ("model_name", "is_mla_model", "is_page_first_layout", "tp_rank", "tp_size")
_PP = ("pp_rank", "pp_size")
_CP = ("attn_cp_rank", "attn_cp_size")
_0_5_12 = ("enable_storage_metrics", "should_split_heads", "tp_lcm_size")

_POOLS_12 = ("kv", "mamba", "swa", "indexer", "deepseek_v4_c4", "deepseek_v4_c128")
_POOLS_16 = (*_POOLS_12, "draft")
_POOLS_21 = (*_POOLS_16, "draft_indexer", "draft_swa", "deepseek_v4_swa")

_TRANSFER = (
    "name",
    "host_indices",
    "device_indices",
    "keys",
    "hit_policy",
    "nodes_to_load",
    "indices_from_pool",
)


@dataclass(frozen=True)
class Version:
    """One release; the order of the fields is part of what changes."""

    name: str
    config_fields: tuple[str, ...]
    pool_names: tuple[str, ...] = ()
    hit_policies: tuple[str, ...] = ("all_pages", "trailing_pages")
    transfer_fields: tuple[str, ...] = ()
    result_fields: tuple[str, ...] = ()
    metrics_module: str = "observability.metrics_collector"
    server_args_module: str = "server_args"
    passes_extra_info_to_v2: bool = False
    sums_v2_answers: bool = False
    has_hash_seed: bool = False
    tells_registered: bool = False
    group_as_pool: bool = False
    none_prefix_tuple: bool = False
    draft_key: str = ""

    @property
    def has_v2(self) -> bool:
        return bool(self.transfer_fields)

    @property
    def has_restorable(self) -> bool:
        return "restorable_prefix_pages" in self.result_fields


VERSIONS = (
    Version(
        "0.5.6",
        ("tp_rank", "tp_size", "is_mla_model", "is_page_first_layout", "model_name")
        + ("extra_config",),
        metrics_module="metrics.collector",
        none_prefix_tuple=True,
    ),
    Version(
        "0.5.9",
        ("tp_rank", "tp_size", *_PP, "is_mla_model", "is_page_first_layout", "model_name")
        + ("extra_config",),
        metrics_module="metrics.collector",
        none_prefix_tuple=True,
    ),
    Version(
        "0.5.12",
        ("tp_rank", "tp_size", *_PP, *_CP, *_BASE[:3], *_0_5_12, "extra_config"),
        pool_names=_POOLS_12,
        transfer_fields=_TRANSFER,
        result_fields=("kv_hit_pages", "extra_pool_hit_pages"),
        sums_v2_answers=True,
        group_as_pool=True,
        draft_key="d:{}",
    ),
    Version(
        "0.5.16",
        (*_BASE, *_PP, *_CP, *_0_5_12, "extra_config"),
        pool_names=_POOLS_16,
        transfer_fields=_TRANSFER,
        result_fields=("kv_hit_pages", "extra_pool_hit_pages"),
        server_args_module="runtime_context",
        sums_v2_answers=True,
        group_as_pool=True,
        draft_key="{}.draft",
    ),
    Version(
        "0.5.21",
        (*_BASE[:3], *_PP, *_BASE[3:], "dp_rank", *_CP, *_0_5_12, "extra_config"),
        pool_names=_POOLS_21,
        transfer_fields=(*_TRANSFER, "anchor_index_parts"),
        result_fields=("kv_hit_pages", "extra_pool_hit_pages", "restorable_prefix_pages"),
        server_args_module="runtime_context",
        passes_extra_info_to_v2=True,
        has_hash_seed=True,
    ),
    Version(
        "0.5.23",
        ("extra_config", *_CP, *_BASE, "dp_rank", *_PP, "dcp_size", "dcp_rank")
        + ("logical_page_size", *_0_5_12),
        pool_names=(*_POOLS_21, "auxiliary_swa"),
        hit_policies=("all_pages", "trailing_pages", "block_groups"),
        transfer_fields=(*_TRANSFER, "block_pages", "group_pages"),
        result_fields=("restorable_prefix_pages", "kv_hit_pages", "extra_pool_hit_pages"),
        server_args_module="runtime_context",
        passes_extra_info_to_v2=True,
        has_hash_seed=True,
        tells_registered=True,
    ),
)

BY_NAME = {version.name: version for version in VERSIONS}
NEWEST = VERSIONS[-1]
WITH_V2 = tuple(version for version in VERSIONS if version.has_v2)
