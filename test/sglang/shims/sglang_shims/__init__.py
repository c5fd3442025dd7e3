"""Stand-ins for what SGLang finds on CUDA machines only.

`install` hooks into the import of the modules concerned; nothing is imported, and nothing
costs time, in a process that does not import SGLang.
"""

from sglang_shims import copies, host_memory, torchvision_ops
from sglang_shims.hooks import after_import, before_import

POOL_MODULES = ("sglang.srt.mem_cache.pool_host", "sglang.srt.mem_cache.memory_pool_host")


def install() -> None:
    """Register the hooks; done once a process by sitecustomize."""
    before_import("torchvision", torchvision_ops.define)
    for name in POOL_MODULES:
        after_import(name, copies.fill_in)
        after_import(name, host_memory.unpin)
