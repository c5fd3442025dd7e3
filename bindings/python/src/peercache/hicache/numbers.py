"""What get_stats hands over: pages and GB/s of each call since the last time.

And the sums of all calls, for our own metrics.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, Optional

# Nobody may ever ask: then the oldest calls are forgotten.
_CALLS_MAX = 4096


@dataclasses.dataclass(frozen=True)
class Totals:
    """All calls of one direction that moved pages."""

    pages: int = 0
    bytes: int = 0
    seconds: float = 0.0


class _Direction:
    """Calls of one direction."""

    def __init__(self) -> None:
        self.pages: list[int] = []
        self.gb_per_s: list[float] = []

    def add(self, pages: int, gb_per_s: float) -> None:
        if len(self.pages) >= _CALLS_MAX:
            del self.pages[: _CALLS_MAX // 2]
            del self.gb_per_s[: _CALLS_MAX // 2]
        self.pages.append(pages)
        self.gb_per_s.append(gb_per_s)


class Numbers:
    """Collects in the threads that read and write; the main thread takes."""

    def __init__(self, kind: Optional[Any]) -> None:
        """kind: SGLang's StorageMetrics, or None where there is none."""
        self._kind = kind
        self._lock = threading.Lock()
        self._read = _Direction()
        self._written = _Direction()
        self._totals = {"read": Totals(), "written": Totals()}

    def read(self, pages: int, n_bytes: int, elapsed: float) -> None:
        """A get brought pages; elapsed in seconds."""
        self._add("read", pages, n_bytes, elapsed)

    def written(self, pages: int, n_bytes: int, elapsed: float) -> None:
        """A set stored pages; elapsed in seconds."""
        self._add("written", pages, n_bytes, elapsed)

    def totals(self) -> dict[str, Totals]:
        """Sums by direction: "read", "written"."""
        with self._lock:
            return dict(self._totals)

    def _add(self, direction: str, pages: int, n_bytes: int, elapsed: float) -> None:
        if pages == 0:
            return
        gb_per_s = n_bytes / max(elapsed, 1e-9) / 1e9
        with self._lock:
            old = self._totals[direction]
            self._totals[direction] = Totals(
                old.pages + pages, old.bytes + n_bytes, old.seconds + elapsed
            )
            if self._kind is not None:
                (self._read if direction == "read" else self._written).add(pages, gb_per_s)

    def take(self) -> Optional[Any]:
        """A new StorageMetrics with everything since the last take, or None."""
        if self._kind is None:
            return None
        with self._lock:
            read, self._read = self._read, _Direction()
            written, self._written = self._written, _Direction()
        metrics = self._kind()
        metrics.prefetch_pgs = read.pages
        metrics.prefetch_bandwidth = read.gb_per_s
        metrics.backup_pgs = written.pages
        metrics.backup_bandwidth = written.gb_per_s
        return metrics
