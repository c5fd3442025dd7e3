"""Who a process is, where no server tells SGLang."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch.distributed


def be_rank(rank: int, size: int) -> None:
    """Answer SGLang's questions for the rank in this process; one rank a process."""
    from sglang.srt.managers import cache_controller
    from sglang.srt.mem_cache import memory_pool
    from sglang.srt.mem_cache.hybrid_cache import hybrid_cache_controller

    answer = SimpleNamespace(
        tp_rank=rank, tp_size=size, pp_rank=0, pp_size=1, attn_tp_rank=rank, attn_tp_size=size,
        attn_dp_rank=0, attn_dp_size=1, attn_cp_rank=0, attn_cp_size=1, attn_dcp_size=1,
        attn_dcp_rank=0, dcp_enabled=False,
    )
    for module in (cache_controller, memory_pool, hybrid_cache_controller):
        module.get_parallel = lambda: answer
    cache_controller.is_dp_attention_enabled = lambda: False


def join_group(rank: int, size: int, port: int) -> Any:
    """A gloo group over `size` processes of this host; None for a single one."""
    if size == 1:
        return None
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size
    )
    return torch.distributed.new_group(list(range(size)), backend="gloo")
