"""SGLang's server, with one shim more than ../shims: pages of the generic path.

Without "interface_v1" SGLang allocates a pinned page for each key, and pinning
needs CUDA. Child processes run the body of this file, too, before anything else:
that is how Python's spawn method treats the main program.
"""

import runpy
from types import ModuleType

from sglang_shims.hooks import after_import


def _unpin(module: ModuleType) -> None:
    """Whatever a server asks for, its host pools say that they are not pinned."""
    pool = getattr(module, "HostKVCache", None)
    if pool is not None:
        pool.pin_memory = property(lambda self: False, lambda self, value: None)


after_import("sglang.srt.mem_cache.pool_host.base", _unpin)

if __name__ == "__main__":
    runpy.run_module("sglang.launch_server", run_name="__main__")
