"""What the fork server imports, once for all workers."""

import warnings

warnings.simplefilter("ignore")

import sglang.srt.managers.cache_controller  # noqa: E402, F401
import sglang.srt.mem_cache.hybrid_cache.hybrid_cache_controller  # noqa: E402, F401
import sglang.srt.mem_cache.memory_pool_host  # noqa: E402, F401
import sglang.srt.mem_cache.pool_host.dsa  # noqa: E402, F401
import sglang.srt.mem_cache.pool_host.mamba  # noqa: E402, F401
from sglang.srt.mem_cache.storage import StorageBackendFactory  # noqa: E402, F401

import driver  # noqa: E402, F401
from sglang.srt.mem_cache.utils import get_hash_str  # noqa: E402

get_hash_str([1, 2], None, 2)  # Loads the compiled hash.
