"""A store with a KV pool in a process of its own: commands as JSON lines on stdin."""

from __future__ import annotations

import json
import sys
from typing import Any

from hicache import pools
from hicache.controller import Controller
from hicache.fake_sglang import installed
from hicache.versions import BY_NAME


def answer(value: Any) -> None:
    print(json.dumps(value), flush=True)


def make_pool(kind: str) -> pools.PoolDouble:
    return big_pool() if kind == "big" else pools.KV_POOLS[kind]()


def big_pool() -> pools.PoolDouble:
    """Pages of 1.5 MiB, so that a transfer takes a while."""
    return pools.mha(layers=8, heads=8, dim=96, page_size=64, n_pages=16)


def main() -> None:
    version, extra, options = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    kv = make_pool(options.pop("pool", "mha-page_first"))
    with installed(BY_NAME[version]) as sglang:
        controller = Controller(sglang, {"kv": kv}, extra, **options)
        controller.wait_for_pool()
        answer("ready")
        for line in sys.stdin:
            verb, *args = json.loads(line)
            answer(getattr(controller, verb)(*args))


if __name__ == "__main__":
    main()
