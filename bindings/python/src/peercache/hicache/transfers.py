"""Pages between host pools and the node: the v1 and v2 calls."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping
from typing import Any, Optional

from peercache.hicache import pools
from peercache.hicache.guard import Journal, count_of
from peercache.hicache.numbers import Numbers
from peercache.hicache.pools import HostPool
from peercache.hicache.prefix import leading_run
from peercache.hicache.traffic import Group, Statuses, Traffic
from peercache.hicache.types import plain


@dataclasses.dataclass
class Job:
    """One transfer: pages of one pool. answer: known without asking anybody."""

    name: Any
    n_keys: int
    pool: Optional[HostPool] = None
    groups: list[Group] = dataclasses.field(default_factory=list)
    answer: Optional[bool] = None


class Transfers:
    """Answers have one bool a key, always. Any thread."""

    def __init__(self, traffic: Traffic, numbers: Numbers, journal: Journal) -> None:
        self._traffic = traffic
        self._numbers = numbers
        self._journal = journal

    def get(self, pool: Optional[HostPool], keys: Any, indices: Any) -> list[bool]:
        """Read pages. True up to the first miss, and never after it."""
        job = self._job("kv", pool, keys, indices, reads=True)
        return self._run_gets([job])[0]

    def set(self, pool: Optional[HostPool], keys: Any, indices: Any) -> list[bool]:
        """Store pages. True for each that is stored, now or before."""
        job = self._job("kv", pool, keys, indices, reads=False)
        return self._run_sets([job])[0]

    def get_all(self, known: Mapping[str, HostPool], transfers: Any) -> dict[Any, list[bool]]:
        """Read pages of several pools, all at the same time."""
        jobs = self._jobs(known, transfers, reads=True)
        return _by_name(jobs, self._run_gets(jobs))

    def set_all(
        self, known: Mapping[str, HostPool], transfers: Any, by_others: bool
    ) -> dict[Any, list[bool]]:
        """Store pages of several pools. by_others: another rank stores the pages
        of pools that are not sharded; they count as stored."""
        jobs = self._jobs(known, transfers, reads=False, by_others=by_others)
        return _by_name(jobs, self._run_sets(jobs))

    # ---- What is to be done ----

    def _jobs(
        self, known: Mapping[str, HostPool], transfers: Any, reads: bool, by_others: bool = False
    ) -> list[Job]:
        jobs = []
        for transfer in transfers or ():
            name = getattr(transfer, "name", None)
            keys = getattr(transfer, "keys", None)
            pool = known.get(plain(name))
            stores = pool is not None and pool.how != pools.NONE
            if by_others and pool is not None and stores and not pool.sharded:
                jobs.append(Job(name, count_of(keys), answer=True))
                continue
            indices = getattr(transfer, "host_indices", None)
            jobs.append(self._job(name, pool, keys, indices, reads))
        return jobs

    def _job(
        self, name: Any, pool: Optional[HostPool], keys: Any, indices: Any, reads: bool
    ) -> Job:
        """What is wrong with one transfer costs that transfer, not the call."""
        n_keys = count_of(keys)
        if pool is None or pool.how == pools.NONE:
            self._journal.count(f"no pool {plain(name)}")
            return Job(name, n_keys, answer=False)
        if pool.how == pools.LOGICAL:
            return Job(name, n_keys, answer=True)
        if n_keys == 0:
            return Job(name, 0, answer=False)
        try:
            groups = (pool.incoming if reads else pool.outgoing)(keys, indices)
        except Exception as error:
            what = f"pool {pool.name}: its pages cannot be {'read' if reads else 'stored'}"
            self._journal.problem(f"pages of {pool.name}", what, error)
            return Job(name, n_keys, answer=False)
        return Job(name, n_keys, pool, groups, None if groups else False)

    # ---- Doing it ----

    def _run_gets(self, jobs: list[Job]) -> list[list[bool]]:
        return self._run_all(jobs, reads=True)

    def _run_sets(self, jobs: list[Job]) -> list[list[bool]]:
        return self._run_all(jobs, reads=False)

    def _run_all(self, jobs: list[Job], reads: bool) -> list[list[bool]]:
        """All groups of all jobs in one go; per job a bool for each of its keys."""
        groups = [group for job in jobs for group in job.groups]
        started = time.monotonic()
        answers = iter(self._move(groups, reads) if groups else ())
        elapsed = time.monotonic() - started
        results = []
        n_pages = n_bytes = 0
        for job in jobs:
            if job.pool is None or job.answer is not None:
                results.append([bool(job.answer)] * job.n_keys)
                continue
            statuses = [next(answers) for _ in job.groups]
            if reads:
                good = [True] * self._arrived(job.pool, job.groups, _run(statuses))
            else:
                good = _stored(statuses)
            n = sum(good)
            n_pages, n_bytes = max(n_pages, n), n_bytes + n * job.pool.page_bytes
            results.append(good + [False] * (job.n_keys - len(good)))
        (self._numbers.read if reads else self._numbers.written)(n_pages, n_bytes, elapsed)
        return results

    def _move(self, groups: list[Group], reads: bool) -> Statuses:
        return self._traffic.get(groups) if reads else self._traffic.put(groups)

    def _arrived(self, pool: HostPool, groups: list[Group], n: int) -> int:
        try:
            pool.arrived(groups, n)
        except Exception as error:
            what = f"pool {pool.name}: its pages cannot be put back"
            self._journal.problem(f"pages of {pool.name}", what, error)
            return 0
        return n


def _run(statuses: Statuses) -> int:
    """Pages before the first one of which a value is missing."""
    return min(map(leading_run, statuses))


def _stored(statuses: Statuses) -> list[bool]:
    """For each page whether all its values are stored."""
    if len(statuses) == 1:
        return [status == 0 for status in statuses[0]]
    return [not any(page) for page in zip(*statuses)]


def _by_name(jobs: Iterable[Job], results: Iterable[list[bool]]) -> dict[Any, list[bool]]:
    answer: dict[Any, list[bool]] = {}
    for job, result in zip(jobs, results):
        # A pool may come twice; both parts are told.
        answer[job.name] = answer[job.name] + result if job.name in answer else result
    return answer
