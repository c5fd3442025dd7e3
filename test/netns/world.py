"""Hosts on one machine: each has its own network, memory sharing, name and boot
id, and all are plugged into a bridge.

A world lives in namespaces that its own process tree holds and nobody else has a
name for, so nothing can be left behind: when the processes are gone, so are
devices, bridges and mounts, whatever ended them.
"""

import pathlib
import subprocess
import uuid

# What a host does before it is one. Nodes share memory with those of the same
# boot id and IPC namespace; UCX looks for devices in /sys; the automatic id of a
# node comes from the machine's.
SETUP = """
set -e
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /dev/shm
mount --bind {folder}/boot_id /proc/sys/kernel/random/boot_id
mount --bind {folder}/machine-id /etc/machine-id
mount --bind {folder}/../names /etc/hosts
hostname {name}
ip link set lo up
echo ready
exec cat
"""


class Skipped(Exception):
    """This machine cannot do what the case needs."""


def sh(*words):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def kernel_has_netem():
    """To be asked inside of a world's namespaces."""
    done = subprocess.run(
        ["tc", "qdisc", "replace", "dev", "lo", "root", "netem", "delay", "1ms"],
        capture_output=True,
        check=False,
    )
    if done.returncode == 0:
        sh("tc", "qdisc", "del", "dev", "lo", "root")
    return done.returncode == 0


class Host:
    """Processes in it are started by Worker; cables are the world's."""

    def __init__(self, folder, number):
        self.number = number
        self.name = f"h{number}"
        self.ip = f"10.77.0.{number}"
        self.folder = pathlib.Path(folder) / self.name
        self.run_folder = self.folder / "run"
        self.run_folder.mkdir(parents=True)
        (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        (self.folder / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
        setup = SETUP.format(folder=self.folder, name=self.name)
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--ipc", "--uts", "--mount", "sh", "-c", setup],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.holder.stdout.readline() != "ready\n":
            raise RuntimeError(f"no host {self.name}")

    def enter(self):
        """The words before a command that shall run on this host."""
        pid = str(self.holder.pid)
        return ["nsenter", "-t", pid, "--net", "--ipc", "--uts", "--mount", "--"]

    def sh(self, *words):
        return sh(*self.enter(), *words)


class World:
    """A bridge for everybody and one for who is cut off."""

    def __init__(self, folder, wire):
        self.folder = folder
        self.wire = wire
        self.hosts = []
        self.wires = []
        self.names = pathlib.Path(folder, "names")
        self.names.write_text("127.0.0.1 localhost\n")
        sh("ip", "link", "set", "lo", "up")
        for bridge in ("main", "apart"):
            sh("ip", "link", "add", bridge, "type", "bridge")
            sh("ip", "link", "set", bridge, "up")

    def add_host(self, slow=None):
        """slow: (delay in ms each way, loss in percent, Mbit/s)"""
        host = Host(self.folder, len(self.hosts) + 1)
        if slow is None or kernel_has_netem():
            self._plug(host)
        else:
            self._plug_by_wire(host, *slow)
        if slow is not None and kernel_has_netem():
            self._slow_down(host, *slow)
        sh("ip", "link", "set", host.name, "master", "main", "up")
        host.sh("ip", "addr", "add", f"{host.ip}/24", "dev", "eth0")
        host.sh("ip", "link", "set", "eth0", "up")
        self.hosts.append(host)
        return host

    def name(self, name, *hosts):
        """What the name resolves to on every host from now on."""
        lines = [f"{host.ip} {name}" for host in hosts]
        # The file is mounted: it must stay the same one.
        self.names.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))

    def _plug(self, host):
        pid = str(host.holder.pid)
        peer = ["peer", "name", "eth0", "netns", pid]
        sh("ip", "link", "add", host.name, "type", "veth", *peer)

    def _slow_down(self, host, delay_ms, loss_percent, mbits):
        netem = ["netem", "delay", f"{delay_ms}ms", "loss", f"{loss_percent}%"]
        netem += ["rate", f"{mbits}mbit", "limit", "512"]
        sh("tc", "qdisc", "replace", "dev", host.name, "root", *netem)
        host.sh("tc", "qdisc", "replace", "dev", "eth0", "root", *netem)

    def _plug_by_wire(self, host, delay_ms, loss_percent, mbits):
        words = [self.wire, host.holder.pid, "eth0", host.name]
        words += [int(delay_ms * 1000), int(loss_percent * 10000), int(mbits * 1e6)]
        wire = subprocess.Popen(
            [str(word) for word in words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if wire.stdout.readline() != "ready\n":
            raise Skipped("neither netem nor /dev/net/tun")
        self.wires.append(wire)

    @staticmethod
    def cut(*hosts):
        """They hear each other, and nobody else hears or is heard by them.
        Nobody is told: frames just vanish."""
        for host in hosts:
            sh("ip", "link", "set", host.name, "master", "apart")

    @staticmethod
    def heal(*hosts):
        for host in hosts:
            sh("ip", "link", "set", host.name, "master", "main")

    @staticmethod
    def unplug(host):
        sh("ip", "link", "set", host.name, "nomaster")

    @staticmethod
    def make_deaf(host, on=True):
        """What is sent to it vanishes; what it says arrives."""
        verb = ["replace", "dev", host.name, "root", "blackhole"]
        sh("tc", "qdisc", *(verb if on else ["del", *verb[1:-1]]))

    @staticmethod
    def make_mute(host, on=True):
        """What it sends vanishes; what others say arrives."""
        verb = ["replace", "dev", "eth0", "root", "blackhole"]
        host.sh("tc", "qdisc", *(verb if on else ["del", *verb[1:-1]]))
