"""An instance of an older SGLang: its own pools, controller and threads, KV pool only.

In these releases the host pages of a request are taken before the query, and a miss gives
them back through a queue; there is no acknowledgement of a fetch but a counter.
"""

from __future__ import annotations

import hashlib
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from driver import DEADLINE_S, Complaints, shuffle_pages
from pattern import as_bytes, piece_bytes, poison
from rigs import HOST_RATIO, LAYERS, PAGE, PAGES, Place
from sides import Side


def page_keys(tokens: list[int], page: int) -> list[str]:
    """The page hashes that every release makes of these tokens."""
    keys, digest = [], b""
    for at in range(0, len(tokens), page):
        ids = b"".join(t.to_bytes(4, "little") for t in tokens[at : at + page])
        digest = hashlib.sha256(digest + ids).digest()
        keys.append(digest.hex())
    return keys


def _tolerate_known_names() -> None:
    """Older releases register models that today's transformers knows by itself."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = type(CONFIG_MAPPING)
    register = kind.register
    kind.register = lambda self, key, value, exist_ok=False: register(self, key, value, True)


def load(release: str) -> None:
    """Import the SGLang in the folder `release`, as rank 0 of 1."""
    sys.path.insert(0, release)
    _tolerate_known_names()
    from sglang.srt.managers import cache_controller

    assert str(Path(cache_controller.__file__)).startswith(release), "another release"
    cache_controller.get_tensor_model_parallel_rank = lambda: 0
    cache_controller.get_tensor_model_parallel_world_size = lambda: 1
    cache_controller.is_dp_attention_enabled = lambda: False


class OldInstance:
    """Like driver.Instance, after `load`."""

    def __init__(self, seed: int) -> None:
        torch.distributed.init_process_group(
            "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
        )
        self._seed = seed
        self._complaints = Complaints()
        self._complaints.follow()

    def make(self, kind: str, layout: str) -> None:
        from sglang.srt.mem_cache import memory_pool, memory_pool_host

        self._place = Place(layout)
        size = PAGES * PAGE
        if kind == "mha":
            self._device = memory_pool.MHATokenToKVPool(
                size, PAGE, torch.bfloat16, 4, 16, LAYERS, "cpu", False
            )
            host_type, rank = memory_pool_host.MHATokenToKVPoolHost, "0 of 1"
            tensors = [(f"k{i}", t) for i, t in enumerate(self._device.k_buffer)]
            tensors += [(f"v{i}", t) for i, t in enumerate(self._device.v_buffer)]
        else:
            self._device = memory_pool.MLATokenToKVPool(
                size, PAGE, torch.bfloat16, 48, 16, LAYERS, "cpu", False
            )
            host_type, rank = memory_pool_host.MLATokenToKVPoolHost, "all"
            tensors = [(f"latent{i}", t) for i, t in enumerate(self._device.kv_buffer)]
        self._host = host_type(self._device, HOST_RATIO, 0, PAGE, layout, pin_memory=False)
        self._side = Side("kv", rank, tensors, PAGE, host_tensors=[self._host.kv_buffer])
        shuffle_pages(self._host, PAGE, self._seed)

    def attach(self, backend: str, extra: dict[str, Any], model: str) -> None:
        from sglang.srt.managers.cache_controller import HiCacheController
        from sglang.srt.mem_cache.allocator import PagedTokenToKVPoolAllocator

        self._allocator = PagedTokenToKVPoolAllocator(
            self._device.size, PAGE, torch.bfloat16, "cpu", self._device, False
        )
        self._controller = HiCacheController(
            self._allocator, self._host, PAGE, torch.distributed.group.WORLD, threading.Event(),
            write_policy="write_through", io_backend=self._place.io_backend,
            storage_backend=backend, prefetch_threshold=PAGE, model_name=model,
            storage_backend_extra_config=dict(extra),
        )

    def detach(self) -> None:
        """As these releases do where they can, and at exit where they cannot."""
        if hasattr(self._controller, "detach_storage_backend"):
            self._controller.detach_storage_backend()
        else:
            self._controller.stop_event.set()
            self._controller.prefetch_thread.join()
            self._controller.backup_thread.join()
            self._controller.storage_backend.close()

    def poison(self) -> None:
        self._side.poison_device()
        self._side.poison_host()

    def complaints(self) -> list[str]:
        return self._complaints.take()

    def threads_alive(self) -> bool:
        found = (self._controller.prefetch_thread, self._controller.backup_thread)
        return all(thread.is_alive() for thread in found)

    def write(self, prompt: int, n_pages: int) -> int:
        """As driver.Instance.write."""
        tokens = self._tokens(prompt, n_pages)
        keys = page_keys(tokens, PAGE)
        device = self._allocator.alloc(len(tokens))
        self._side.fill(keys, device)
        host = self._controller.write(device)
        self._side.poison_device()
        self._controller.write_storage(host, tokens, keys)
        done = self._controller.ack_backup_queue.get(timeout=DEADLINE_S)
        return int(done.completed_tokens) // PAGE

    def read(self, prompt: int, n_pages: int) -> dict[str, int]:
        """As driver.Instance.read."""
        tokens = self._tokens(prompt, n_pages)
        host = self._host.alloc(len(tokens))
        operation = self._controller.prefetch("r", host, tokens)
        n_tokens = self._wait(operation)
        n_bytes = 0
        if n_tokens:
            device = self._controller.load(host[:n_tokens])
            self._controller.start_loading()
            keys = page_keys(tokens, PAGE)[: n_tokens // PAGE]
            n_bytes = self._side.compare(keys, device)
            assert self._side.all_poison_but(device), "the KV pool was written elsewhere too"
        return {"fetched": n_tokens // PAGE, "bytes": n_bytes}

    # ---- The v2 calls, by hand: no controller of these releases is driven with them -------

    def add_sidecar(self) -> None:
        """Register a second pool, as a model with an indexer has."""
        from sglang.srt.mem_cache import memory_pool, memory_pool_host

        device = memory_pool.MHATokenToKVPool(
            self._device.size, PAGE, torch.bfloat16, 1, 8, 2, "cpu", False
        )
        self._sidecar = memory_pool_host.MHATokenToKVPoolHost(
            device, HOST_RATIO, 0, PAGE, self._place.layout, pin_memory=False
        )
        store = self._controller.storage_backend
        store.register_mem_host_pool_v2(self._host, "kv")
        store.register_mem_host_pool_v2(self._sidecar, "indexer")

    def _transfer(self, keys: list[str], indices: Any = None) -> Any:
        from sglang.srt.mem_cache.hicache_storage import PoolName, PoolTransfer

        return PoolTransfer(name=PoolName.INDEXER, host_indices=indices, keys=keys)

    def write_v2(self, prompt: int, n_pages: int) -> list[bool]:
        """Host pages of the second pool, filled directly; then the KV pages by write()."""
        keys = page_keys(self._tokens(prompt, n_pages), PAGE)
        indices = self._sidecar.alloc(n_pages * PAGE)
        for key, index in zip(keys, indices[::PAGE].tolist()):
            page = self._sidecar.get_data_page(index)
            right = piece_bytes(key, "indexer", "0 of 1", "page", page.nbytes)
            self._sidecar.set_from_flat_data_page(index, right.view(page.dtype))
        store = self._controller.storage_backend
        return list(store.batch_set_v2([self._transfer(keys, indices)])["indexer"])

    def query_v2(self, prompt: int, n_pages: int) -> tuple[str, int]:
        """The type of the answer, and its pages."""
        keys = page_keys(self._tokens(prompt, n_pages), PAGE)
        sidecar = self._transfer(keys)
        sidecar.keys = None
        found = self._controller.storage_backend.batch_exists_v2(keys, [sidecar])
        return type(found).__module__, found.kv_hit_pages

    def read_v2(self, prompt: int, n_pages: int) -> tuple[list[bool], int]:
        """The answer, and the bytes compared on the host."""
        keys = page_keys(self._tokens(prompt, n_pages), PAGE)
        poison(self._sidecar.kv_buffer)
        indices = self._sidecar.alloc(n_pages * PAGE)
        store = self._controller.storage_backend
        answer = list(store.batch_get_v2([self._transfer(keys, indices)])["indexer"])
        n_bytes = 0
        for key, index in zip(keys, indices[::PAGE].tolist()):
            page = as_bytes(self._sidecar.get_data_page(index))
            assert torch.equal(
                page, piece_bytes(key, "indexer", "0 of 1", "page", page.numel())
            ), f"wrong bytes in page {key[:8]}"
            n_bytes += page.numel()
        return answer, n_bytes

    def draft_by_generic_calls(self, write: bool) -> bool:
        """Draft pages under keys of these releases, on the instance that has v1 traffic."""
        keys = [f"d:{key}" for key in page_keys(self._tokens(1, 4), PAGE)]
        values = [piece_bytes(key, "draft", "0 of 1", "page", 96) for key in keys]
        store = self._controller.storage_backend
        if write:
            return bool(store.batch_set(keys, values))
        targets = [torch.zeros(96, dtype=torch.uint8) for _ in keys]
        found = store.batch_get(keys, targets)
        return all(f is not None and torch.equal(f, v) for f, v in zip(found, values))

    def _wait(self, operation: Any) -> int:
        """Tokens fetched: all that were found, or none after a miss."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            if not self._controller.prefetch_revoke_queue.empty():
                self._controller.prefetch_revoke_queue.get()
                return 0
            found = len(operation.hash_value) * PAGE
            if found and operation.completed_tokens == found:
                return found
            time.sleep(0.001)
        raise AssertionError("the fetch did not end")

    def _tokens(self, prompt: int, n_pages: int) -> list[int]:
        source = random.Random(prompt)
        return [source.randrange(1 << 17) for _ in range(n_pages * PAGE)]
