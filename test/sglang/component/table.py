"""What was compared, for the end of the run."""

from __future__ import annotations

from collections import defaultdict
from importlib.metadata import version

HEAD = ("pool", "layout", "version", "path", "processes", "bytes compared")


class Ledger:
    def __init__(self) -> None:
        self._rows: dict[tuple[str, ...], int] = defaultdict(int)

    def add(
        self, pool: str, layout: str, path: str, processes: str, n_bytes: int, release: str = ""
    ) -> None:
        """Bytes that came from device pool to device pool and were right."""
        self._rows[(pool, layout, release or version("sglang"), path, processes)] += n_bytes

    def lines(self) -> list[str]:
        if not self._rows:
            return []
        cells = [HEAD, *((*row, f"{n:,}") for row, n in self._rows.items())]
        widths = [max(len(line[i]) for line in cells) for i in range(len(HEAD))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths)) for line in cells]
        total = sum(self._rows.values())
        pools = {row[0] for row in self._rows}
        lines.append(
            f"{len(self._rows)} rows, {len(pools)} kinds of pools, {total:,} bytes compared "
            "from device pool to device pool, none wrong"
        )
        return lines
