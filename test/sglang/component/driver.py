"""One SGLang instance without its scheduler: real pools, controller, threads, factory.

The methods do what the scheduler does around the controller: write nodes back and to the
storage, ask it for a prompt, fetch what it has, load that to the device and look at it.
"""

from __future__ import annotations

import logging
import os
import random
import time
from dataclasses import dataclass
from queue import Empty
from pathlib import Path
from typing import Any, Optional

import torch

import hybrid_rigs
import rigs
from ranks import be_rank, join_group
from rigs import Extra, Place, Rig

DEADLINE_S = 20.0


@dataclass
class Pending:
    """A node that the backup thread has not acknowledged yet."""

    host: torch.Tensor
    device: torch.Tensor
    transfers: list[Any]


class Complaints(logging.Handler):
    """Keeps what SGLang or the adapter logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record) if record.exc_info else record.getMessage()
        self.lines.append(f"{record.name}: {text}")

    def follow(self) -> None:
        logging.getLogger().addHandler(self)

    def take(self) -> list[str]:
        """Since the last call."""
        lines, self.lines = self.lines, []
        return lines


def make_rig(name: str, place: Place) -> Rig:
    build = getattr(rigs, name, None) or getattr(hybrid_rigs, name)
    rig: Rig = build(place)
    return rig


def shuffle_pages(pool: Any, page_size: int, seed: int) -> None:
    """Pages anywhere in the host pool, so that every slot has to be right by itself."""
    pages = pool.free_slots.reshape(-1, page_size)
    order = list(range(len(pages)))
    random.Random(seed).shuffle(order)
    pool.free_slots = pages[order].flatten()


class Instance:
    """What a worker process runs; every method's arguments and answers can be pickled."""

    def __init__(self, rank: int = 0, size: int = 1, group_port: int = 0, seed: int = 1) -> None:
        be_rank(rank, size)
        self._rank, self._size, self._seed = rank, size, seed
        self._group = join_group(rank, size, group_port)
        self._rig: Optional[Rig] = None
        self._next_id = 0
        self._n_pending = 0
        self._complaints = Complaints()
        self._complaints.follow()

    @property
    def rig(self) -> Rig:
        assert self._rig is not None, "no rig was made"
        return self._rig

    # ---- Life ---------------------------------------------------------------------

    def make(self, name: str, layout: str) -> None:
        self._rig = make_rig(name, Place(layout, self._rank, self._size, self._group))
        anchor = self.rig.controller.mem_pool_host
        if self.rig.entries:
            anchor = self.rig.entries[0].host_pool
        shuffle_pages(anchor, self.rig.page_size, self._seed)

    def attach(
        self, backend: str, extra: dict[str, Any], model: str = "model", metrics: bool = False
    ) -> float:
        """Seconds that it took."""
        begin = time.monotonic()
        self.rig.controller.enable_storage_metrics = metrics
        more = {"host_pools": self.rig.entries} if self.rig.entries else {}
        self.rig.controller.attach_storage_backend(
            storage_backend=backend, prefetch_threshold=1, model_name=model,
            storage_backend_extra_config=dict(extra), **more,
        )
        return time.monotonic() - begin

    def detach(self) -> float:
        begin = time.monotonic()
        self.rig.controller.detach_storage_backend()
        return time.monotonic() - begin

    def threads_alive(self) -> bool:
        names = ("prefetch_thread", "prefetch_io_aux_thread", "prefetch_sync_thread",
                 "backup_thread")
        return all(getattr(self.rig.controller, name).is_alive() for name in names)

    def belongings(self) -> dict[str, int]:
        """Threads and descriptors of the process."""
        return {
            "threads": len(os.listdir("/proc/self/task")),
            "descriptors": len(os.listdir("/proc/self/fd")),
        }

    def reset(self) -> None:
        self.rig.controller.reset()

    def stats(self) -> dict[str, list[float]]:
        found = self.rig.controller.storage_backend.get_stats()
        return {name: list(value) for name, value in vars(found).items()}

    def complaints(self) -> list[str]:
        return self._complaints.take()

    def poison(self) -> None:
        """Everything, but not host pages that are being stored."""
        self._poison_device()
        if self._n_pending == 0:
            for side in self.rig.sides():
                side.poison_host()

    def _poison_device(self) -> None:
        for side in self.rig.sides():
            side.poison_device()

    # ---- Keys -----------------------------------------------------------------------

    def _tokens(self, prompt: int, n_pages: int) -> list[int]:
        source = random.Random(prompt)
        return [source.randrange(1 << 17) for _ in range(n_pages * self.rig.page_size)]

    def _keys(self, prompt: int, n_pages: int) -> list[str]:
        from sglang.srt.mem_cache.utils import get_hash_str

        page = self.rig.page_size
        keys = get_hash_str(self._tokens(prompt, n_pages), None, page_size=page)
        return list(keys)

    # ---- To the storage ---------------------------------------------------------------

    def write(self, prompt: int, first: int, last: int) -> int:
        """Make pages first to last - 1 of a prompt on the device, as one node, and store
        them; returns the pages that the controller believes stored."""
        return self.finish_write(self.begin_write(prompt, first, last))

    def begin_write(self, prompt: int, first: int, last: int) -> Pending:
        rig, keys = self.rig, self._keys(prompt, last)[first:last]
        device = rig.allocator.alloc(len(keys) * rig.page_size)
        if rig.kv:
            rig.kv.fill(keys, device)
        transfers = self._fill_extras(keys, device)
        more = {"extra_pools": transfers} if transfers else {}
        host = rig.controller.write(device, **more)
        tokens = self._tokens(prompt, last)[first * rig.page_size :]
        # The bytes are on the host: what is stored comes from there, and a read that is
        # compared meanwhile finds nothing on the device but its own pages.
        self._poison_device()
        self._n_pending += 1
        rig.controller.write_storage(host, tokens, keys, **more)
        return Pending(host, device, transfers)

    def finish_write(self, pending: Pending) -> int:
        done = self.rig.controller.ack_backup_queue.get(timeout=DEADLINE_S)
        self._n_pending -= 1
        self._free(pending.host, pending.device, pending.transfers)
        return int(done.completed_tokens) // self.rig.page_size

    def _fill_extras(self, keys: list[str], device: torch.Tensor) -> list[Any]:
        """Fill all pools beside the KV pool; the transfers that write them back."""
        slots, transfers = {"kv": device}, []
        for extra in self.rig.extras:
            own = keys[-extra.trailing :] if extra.trailing else keys
            if not extra.source:
                slots[extra.side.pool] = extra.alloc.alloc(len(own) * extra.side.page_size)
            extra.side.fill(own, slots[extra.source or extra.side.pool])
            transfers.append(
                self._transfer(
                    extra, keys=own if extra.trailing else None,
                    device_indices=None if extra.source else slots[extra.side.pool],
                )
            )
        return transfers

    def _transfer(self, extra: Extra, **more: Any) -> Any:
        from sglang.srt.mem_cache.hicache_storage import PoolHitPolicy, PoolName, PoolTransfer

        if extra.trailing:
            more["hit_policy"] = PoolHitPolicy.TRAILING_PAGES
        if extra.source:
            more["indices_from_pool"] = PoolName(extra.source)
        return PoolTransfer(name=extra.entry.name, **more)

    def _free(self, host: torch.Tensor, device: torch.Tensor, transfers: list[Any]) -> None:
        controller = self.rig.controller
        controller.ack_write_queue.clear()
        controller.ack_load_queue.clear()
        controller.mem_pool_host.free(host)
        self.rig.allocator.free(device)
        for extra, transfer in zip(self.rig.extras, transfers):
            if not extra.source and transfer.host_indices is not None:
                extra.entry.host_pool.free(transfer.host_indices)
                if transfer.device_indices is not None:
                    extra.alloc.free(transfer.device_indices)

    # ---- From the storage ---------------------------------------------------------------

    def read(self, prompt: int, n_pages: int) -> dict[str, int]:
        """Fetch what is there of a prompt and compare it on the device.

        Returns pages hit, pages fetched, and bytes compared; AssertionError for a wrong
        byte, or if anything beside the pages was written.
        """
        keys = self._keys(prompt, n_pages)
        operation = self._query(prompt, n_pages, keys)
        hit = int(operation.storage_hit_count) // self.rig.page_size
        if hit == 0:
            return {"hit": 0, "fetched": 0, "bytes": 0}
        host = self.rig.controller.mem_pool_host.alloc(hit * self.rig.page_size)
        fetched = self._fetch(operation, host)
        n_bytes = self._load_and_compare(keys[:fetched], host, operation) if fetched else 0
        if not fetched:
            self.rig.controller.mem_pool_host.free(host)
        return {"hit": hit, "fetched": fetched, "bytes": n_bytes}

    def _query(self, prompt: int, n_pages: int, keys: list[str]) -> Any:
        rig = self.rig
        self._next_id += 1
        name, tokens = f"r{self._next_id}", self._tokens(prompt, n_pages)
        if not rig.entries:
            rig.controller.prefetch(name, tokens, None)
        else:
            from sglang.srt.mem_cache.base_prefix_cache import CacheRequestHandle

            transfers = [
                self._transfer(extra, keys=keys[-extra.trailing :] if extra.trailing else None)
                for extra in rig.extras
            ]
            handle = CacheRequestHandle(name, 0)
            rig.controller.prefetch(handle, tokens, None, extra_pools=transfers or None)
        return rig.controller.prefetch_hit_queue.get(timeout=DEADLINE_S)

    def _fetch(self, operation: Any, host: torch.Tensor) -> int:
        """Usable pages: all pools agreed on them."""
        rig = self.rig
        operation.host_indices = host
        hit = len(operation.hash_value)
        for extra, transfer in zip(rig.extras, getattr(operation, "pool_transfers", None) or []):
            if not extra.source:
                n_tokens = min(extra.trailing, hit) * extra.side.page_size
                transfer.host_indices = extra.entry.host_pool.alloc(n_tokens)
        if rig.extras:
            rig.controller._resolve_sidecar_kv_derived_pool_transfers(operation)
        rig.controller.prefetch_buffer.put(operation)
        return self._drain(operation, hit)

    def _drain(self, operation: Any, hit: int) -> int:
        rig, fetched, pool_hits = self.rig, 0, None
        while True:
            ack = rig.controller.ack_prefetch_queue.get(timeout=DEADLINE_S)
            assert ack.operation is operation, "an answer for another request"
            if ack.completed_tokens is not None:
                fetched = int(ack.completed_tokens) // rig.page_size
            if ack.pool_hits is not None:
                pool_hits = ack.pool_hits
            if ack.completed_req:
                break
        for extra in rig.extras:
            if extra.trailing:
                wanted = min(extra.trailing, hit)
                if pool_hits is None or pool_hits.get(extra.side.pool, 0) < wanted:
                    return 0
        return fetched

    def _load_and_compare(self, keys: list[str], host: torch.Tensor, operation: Any) -> int:
        rig = self.rig
        n_tokens = len(keys) * rig.page_size
        transfers = getattr(operation, "pool_transfers", None) or []
        more = {"extra_pools": transfers} if transfers else {}
        device = rig.controller.load(host[:n_tokens], **more)
        rig.controller.start_loading()
        n_bytes = 0
        if rig.kv:
            n_bytes += rig.kv.compare(keys, device)
            assert rig.kv.all_poison_but(device), "the KV pool was written elsewhere too"
        for extra, transfer in zip(rig.extras, transfers):
            side = extra.side
            side_keys = keys[-extra.trailing :] if extra.trailing else keys
            n_bytes += side.compare(side_keys, transfer.device_indices)
            assert side.all_poison_but(transfer.device_indices), f"{side.pool} written elsewhere"
        self._free(host, device, transfers)
        self.poison()
        return n_bytes

    # ---- Traffic of the scheduler's thread ------------------------------------------------

    def read_until(self, prompt: int, n_pages: int, wanted: int, limit_s: float) -> dict[str, int]:
        """Read again until at least `wanted` pages came; the last answer."""
        end = time.monotonic() + limit_s
        while True:
            answer = self.read(prompt, n_pages)
            if answer["fetched"] >= wanted or time.monotonic() > end:
                return answer

    def busy(
        self, prompts: list[int], n_pages: int, seconds: float, sign: str = ""
    ) -> dict[str, float]:
        """Query, fetch and store at the same time, and poll as the scheduler does.

        Makes the file `sign` when the first prompt is done: from then on it is at work.
        Counts rounds, pages and bytes; `kept` are the nodes of its own that it found again,
        `longest_s` is the longest time of a read and a write together.
        """
        end = time.monotonic() + seconds
        report = {"rounds": 0.0, "pages": 0.0, "bytes": 0.0, "kept": 0.0, "longest_s": 0.0}
        while time.monotonic() < end:
            for prompt in prompts:
                begin = time.monotonic()
                fresh = self._fresh_prompt()
                pending = self.begin_write(fresh, 0, n_pages)
                answer = self.read(prompt, n_pages)
                stored = self.finish_write(pending)
                report["longest_s"] = max(report["longest_s"], time.monotonic() - begin)
                mine = self.read(fresh, n_pages)
                report["kept"] += mine["fetched"] >= stored
                self.rig.controller.storage_backend.get_stats()
                report["pages"] += answer["fetched"]
                report["bytes"] += answer["bytes"]
                if sign:
                    Path(sign).touch()
            report["rounds"] += 1
        return report

    def _fresh_prompt(self) -> int:
        self._next_id += 1
        return (self._seed << 32) + self._next_id

    def idle_queues(self) -> bool:
        """Nothing is left over in the controller's queues."""
        controller = self.rig.controller
        for queue in (controller.ack_prefetch_queue, controller.ack_backup_queue,
                      controller.prefetch_hit_queue):
            try:
                queue.get_nowait()
            except Empty:
                continue
            return False
        return True
