"""A plain PeerCache node beside the servers: member, discovery, directory owner.

As a program it runs the node: one JSON line when it is a member, then one with
its numbers for every line it reads; it ends with its input. In the driver,
`Bystander` is that process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from processes import Child, StepError, wait_for
from server import Setup


class Bystander:
    """The node as a child of the driver."""

    def __init__(self, name: str, setup: Setup, discovery: str) -> None:
        self.child = Child(
            name,
            [setup.python, str(Path(__file__).resolve()), discovery],
            setup.logs / f"{name}.log",
            setup.environment(),
            talk=True,
        )
        self.read()

    def read(self) -> dict[str, Any]:
        """Its next line. The node answers within its own deadlines, or ends."""
        assert self.child.process.stdout is not None
        line = self.child.process.stdout.readline()
        if not line:
            raise StepError(f"{self.child.name} ended")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def numbers(self) -> dict[str, Any]:
        """{"members": live nodes it sees, "records": directory records it keeps}."""
        assert self.child.process.stdin is not None
        self.child.process.stdin.write(b"\n")
        self.child.process.stdin.flush()
        return self.read()

    def wait_members(self, count: int, seconds: float) -> None:
        wait_for(
            f"{count} members in the cluster",
            seconds,
            lambda: int(self.numbers()["members"]) >= count,
        )


def main(discovery: str) -> int:
    import peercache

    with peercache.Node(
        discovery_addr=discovery,
        node_id="bystander",
        protocol="tcp",
        global_segment_size="16mb",
        region_size="16mb",
        disk_enabled=False,
        metrics_enabled=False,
    ) as node:
        if not node.wait_ready(30):
            return 1
        print(json.dumps({"ready": True}), flush=True)
        for _ in sys.stdin:
            stats = node.stats()
            numbers = {"members": stats["members"], "records": stats["directory_records"]}
            print(json.dumps(numbers), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
