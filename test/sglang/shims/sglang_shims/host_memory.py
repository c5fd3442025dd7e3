"""Host pools in memory that is not pinned: pinning goes through the CUDA runtime."""

from types import ModuleType
from typing import Any


def _allocate(
    dims: Any, dtype: Any, device: Any, pin_memory: Any, allocator: Any = None, *_: Any, **__: Any
) -> Any:
    if allocator is None:  # SGLang 0.5.6 has none.
        import torch

        return torch.empty(dims, dtype=dtype, device=device)
    return allocator.allocate(dims, dtype=dtype, device=device)


def unpin(module: ModuleType) -> None:
    """In the modules that hold them: other allocation functions, and pools that take
    themselves for unpinned whatever they were told (their dummy pages are pinned too)."""
    if not module.__name__.endswith((".base", ".common", ".memory_pool_host")):
        return
    table = getattr(module, "ALLOC_MEMORY_FUNCS", None)
    if table is not None:
        table["cpu"] = _allocate
        if hasattr(table, "default_factory"):
            table.default_factory = lambda: _allocate
    pool = getattr(module, "HostKVCache", None)
    if pool is not None:
        pool.pin_memory = property(lambda _: False, lambda _, __: None)
