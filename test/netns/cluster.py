"""A cluster of a case: its nodes, the sets of keys that they put, what was
promised, and the sum of all that was called."""

import os
import pathlib
import re
import time

from node import Gone, Node
from world import Skipped, World

# Short times, so that a case ends in seconds. A case of --long takes the
# library's own.
SHORT = {"heartbeat_interval": 0.5, "member_ttl": 2, "settle": 2}
DEFAULT = {"heartbeat_interval": 2, "member_ttl": 6, "settle": 10}

PORT = 7000
SET_KEYS = 48
DEADLINE_MS = 1500
# A call may end so much after its deadline.
SLACK_S = 0.5

PATHS = {
    "served": {"read_mode": "served", "allow_insecure": "true"},
    "served, TLS": {"read_mode": "served", "cluster_key_file": "{key}"},
    "one-sided": {
        "read_mode": "one-sided",
        "ucx_tcp": "eth0",
        "allow_insecure": "true",
    },
    "auto": {"read_mode": "auto", "allow_insecure": "true"},
}
# How values may come from other nodes, by the metric's label.
MODES = {
    "served": {"served"},
    "served, TLS": {"served"},
    "one-sided": {"one_sided"},
    "auto": {"served", "mapped"},
}


class Failed(Exception):
    """The case says why."""


def require(condition, text):
    if not condition:
        raise Failed(text)


class Sums:
    """What all calls of all nodes came to."""

    def __init__(self):
        self.calls = 0
        self.bytes = 0
        self.wrong = 0
        self.longest_s = 0.0
        self.late = []
        self.starved_s = 0.0
        self.uncaused = []
        self.statuses = {}

    def add(self, node, report):
        for verb in ("put", "get", "exists", "remove"):
            self.calls += report[verb]["calls"]
        self.bytes += report["bytes"]
        self.wrong += report["wrong"]
        self.longest_s = max(self.longest_s, report["longest_ns"] / 1e9)
        for status, n in report["get_statuses"].items():
            self.statuses[status] = self.statuses.get(status, 0) + n
        if report["unlisted"] > 0:
            self.late.append(f"{node.name}: more late calls than can be listed")
        for verb, begin, end, deadline in report["late"]:
            self._add_late(node, report["gaps"], verb, begin, end, deadline)

    def _add_late(self, node, gaps, verb, begin, end, deadline):
        """The time in which its process did not run is not the call's."""
        starved = sum(max(0, min(end, to) - max(begin, at)) for at, to in gaps)
        took_s = (end - begin - starved) / 1e9
        self.longest_s = max(self.longest_s, took_s)
        self.starved_s = max(self.starved_s, starved / 1e9)
        if took_s > deadline / 1e9 + SLACK_S:
            self.late.append(
                f"{verb} of {node.name} took {took_s:.3f} s of {deadline / 1e9:.1f},"
                f" ending at {end / 1e9:.3f}"
            )


class Cluster:
    def __init__(self, path, folder, programs, times=None):
        self.path = path
        self.folder = pathlib.Path(folder)
        self.programs = programs
        self.times = times or SHORT
        self.world = World(self.folder, programs / "netns_wire")
        self.nodes = []
        self.sets = []
        self.sums = Sums()
        self.notes = []
        self.modes = set()
        self.seeds = ""
        self.begin = time.monotonic()
        self.key_file = self.folder / "cluster.key"
        with open(os.open(self.key_file, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as key:
            key.write(os.urandom(32).hex().encode() + b"\n")

    @property
    def heartbeat(self):
        return self.times["heartbeat_interval"]

    @property
    def ttl(self):
        return self.times["member_ttl"]

    def note(self, text):
        self.notes.append(text)
        self.trace(text)

    def trace(self, text):
        """Into the case's log; logs of nodes have the time of day."""
        now = time.time()
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        print(f"{clock}.{int(now % 1 * 1000):03d} {text}", flush=True)

    # ---- Nodes ----------------------------------------------------------

    def add_node(self, host, name, **settings):
        """A node that was not started yet."""
        common = {
            "node_id": name,
            "discovery_addr": self.seeds,
            "global_segment_size": "32MiB",
            "region_size": "32MiB",
            "disk_enabled": "false",
            "metrics_enabled": "false",
            "log_level": "debug",
            **self.times,
            **PATHS[self.path],
            **settings,
        }
        for key, value in common.items():
            common[key] = str(value).format(key=self.key_file)
        node = Node(host, name, self.programs / "netns_worker", common)
        self.nodes.append(node)
        return node

    def hosts_with_nodes(self, n_hosts, seeds=1, per_host=1):
        """Nodes a, b, c ... on hosts of their own (or some a host); the first
        hosts are the seeds."""
        hosts = [self.world.add_host() for _ in range(n_hosts)]
        self.seeds = ",".join(f"{host.ip}:{PORT}" for host in hosts[:seeds])
        names = iter("abcdefghijklmnop")
        return [
            self.add_node(host, next(names)) for host in hosts for _ in range(per_host)
        ]

    def up(self):
        return [node for node in self.nodes if node.is_up]

    def start(self, *nodes, n_warm=SET_KEYS):
        """Start them at once; each puts its set of keys when all are members."""
        for node in nodes:
            answer = node.start()
            require(answer == "OK", f"{node.name} does not start: {answer}")
        for node in nodes:
            self.wait_ready(node, 15)
        self.wait_members(len(self.up()), 15)
        for node in nodes:
            self.wait("its pool", 20, lambda: not node.info()["pool"]["registering"])
            self.put_set(node)
        if self.path == "one-sided":
            # UCX may abort a process whose peer dies while they connect
            # (docs/design-notes.md), so all have connected before trouble begins.
            self.wait_all_found(self.up(), self.sets, 15, n_warm)

    @staticmethod
    def wait_ready(node, seconds):
        begin = time.monotonic()
        answer = node.ask(f"ready {seconds}", seconds + 10)
        require(answer == "OK", f"{node.name} is no member after {seconds} s: {answer}")
        return time.monotonic() - begin

    def begin_load(self, nodes=None, threads=2, pace_ms=30):
        """Everybody reads what anybody put, and puts keys of its own."""
        for node in nodes or self.up():
            for name in self.sets:
                node.ask(f"know {name} {SET_KEYS}")
            for other in self.nodes:
                node.ask(f"know w.{other.name} 256")
            own = f"w.{node.name}"
            node.ask(f"load {threads} {own} {pace_ms} {DEADLINE_MS}")

    def kill(self, node):
        """kill -9, in the middle of what it does."""
        self.sums.add(node, node.ask("report"))
        node.kill()
        self.trace(f"{node.name} was killed")

    def end(self, node):
        self.audit(node)
        node.end()
        self.trace(f"{node.name} has ended")

    def restart(self, node, load=True):
        """With the same id; its set has another name then."""
        answer = node.start()
        require(answer == "OK", f"{node.name} does not start again: {answer}")
        self.wait_ready(node, 15)
        self.wait("its pool", 20, lambda: not node.info()["pool"]["registering"])
        if load:
            self.begin_load([node])

    # ---- Waiting --------------------------------------------------------

    def wait(self, what, seconds, condition):
        """Look until it holds; how long that took."""
        begin = time.monotonic()
        while not condition():
            if time.monotonic() - begin > seconds:
                raise Failed(f"in vain for {seconds} s: {what}")
            time.sleep(0.02)
        return time.monotonic() - begin

    def wait_members(self, n, seconds, nodes=None):
        nodes = nodes or self.up()

        def all_see():
            return all(len(node.members()) == n for node in nodes)

        try:
            took = self.wait(f"{n} members", seconds, all_see)
        except Failed as failed:
            seen = {node.name: sorted(node.members()) for node in nodes}
            raise Failed(f"{failed}; seen: {seen}") from None
        self.trace(f"{n} members everywhere after {took:.2f} s")
        return took

    def wait_quiet(self, nodes):
        """Nobody has anything to publish, and no former view is asked."""

        def is_quiet():
            return all(node.sum_of("publish_queue_entries") == 0 for node in nodes)

        begin = time.monotonic()
        settle = 1.5 * self.times["settle"]
        self.wait(
            "publishing ends",
            settle + 20,
            lambda: is_quiet() and time.monotonic() - begin > settle,
        )

    def death_known(self, n, since, nodes=None):
        """Everybody sees n members, in time; how long after `since`."""
        self.wait_members(n, self.ttl + 10, nodes)
        took = time.monotonic() - since
        # The second is the machine's, whose two cores run several clusters.
        limit = self.ttl + 2 * self.heartbeat + 1
        require(took <= limit, f"a death was known only after {took:.1f} s")
        return took

    # ---- Keys -----------------------------------------------------------

    def call(self, node, verb, name, n=SET_KEYS, deadline_ms=DEADLINE_MS):
        node.say(f"{verb} {name} 0 {n} {deadline_ms}")
        answer = node.hear(deadline_ms / 1000 + 20)
        self.trace(
            f"{node.name} {verb} {name}: {answer['status']} {answer['items']}"
            f" in {answer['took_ns'] / 1e6:.0f} ms"
        )
        return answer

    def put_set(self, node, name=None, keep=True):
        """Keys that only this node holds."""
        name = name or f"{node.name}.{node.starts}"
        answer = self.call(node, "put", name)
        require(answer["status"] == "OK", f"put of {name} at {node.name}: {answer}")
        if keep:
            self.sets.append(name)
        return name

    def must_find(self, node, name, why, n=SET_KEYS):
        answer = self.call(node, "get", name, n)
        found = answer["items"].count("O")
        require(
            found == n,
            f"{why}: {node.name} finds {found} of {n} of {name}"
            f" ({answer['items']}, {answer['took_ns'] / 1e6:.0f} ms)",
        )
        return answer["took_ns"] / 1e9

    def all_must_find(self, nodes, why):
        """Every set, at the first get; but the first one-sided read of a node that
        is new makes its way, which a busy machine may not manage in time."""
        if self.path == "one-sided":
            self.wait_all_found(nodes, self.sets, 5)
            return
        for node in nodes:
            for name in self.sets:
                self.must_find(node, name, why)

    def must_miss(self, node, name, why):
        answer = self.call(node, "get", name)
        require("O" not in answer["items"], f"{why}: {node.name} finds {name}")
        return answer["took_ns"] / 1e9

    def wait_all_found(self, nodes, names, seconds, n=SET_KEYS):
        """Every one of the nodes finds every key; how long that took."""
        begin = time.monotonic()
        for node in nodes:
            for name in names:
                self.wait(
                    f"{node.name} finds all of {name}",
                    max(0, begin + seconds - time.monotonic()),
                    lambda: set(self.call(node, "get", name, n)["items"]) == {"O"},
                )
        return time.monotonic() - begin

    # ---- The end --------------------------------------------------------

    def audit(self, node):
        """With its load at rest: each miss has one cause."""
        node.ask("quiet", 30)
        report = node.ask("report")
        self.sums.add(node, report)
        for name, value in node.metrics().items():
            mode = re.search(r'^read_mode_hits_total.*mode="(\w+)"', name)
            if mode and value > 0:
                self.modes.add(mode.group(1))
        misses = node.sum_of("read_misses_total")
        causes = node.sum_of("read_misses_by_cause_total")
        seen = report["get"]["items"] - report["get"]["ok"]
        if not misses == causes == seen:
            self.sums.uncaused.append(
                f"{node.name}: {seen} misses seen, {misses:.0f} counted,"
                f" {causes:.0f} with a cause"
            )

    def finish(self):
        """Audit and end whoever is left; the verdict of what always holds."""
        for node in self.up():
            self.audit(node)
        for node in self.up():
            node.end()
        sums = self.sums
        require(sums.wrong == 0, f"{sums.wrong} values are wrong")
        require(not sums.late, f"calls are late: {'; '.join(sums.late[:5])}")
        require(not sums.uncaused, f"misses without cause: {sums.uncaused}")
        require(sums.bytes > 0, "nothing was read")
        require(self.modes <= MODES[self.path], f"values came by {self.modes}")
        for log in sorted(self.folder.glob("*/*.log")):
            text = log.read_text(errors="replace")
            require("TLS" in text or "TLS" not in self.path, f"no TLS: {log}")
            found = re.search(r"WRONG BYTES.*|.*assertion failed.*", text)
            require(found is None, f"{log}: {found and found.group()}")


__all__ = ["DEFAULT", "PATHS", "SHORT", "Cluster", "Failed", "Gone", "Skipped", "require"]
