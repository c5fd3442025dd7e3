"""A node on a host: the process netns_worker, and what it was made to do."""

import json
import os
import select
import signal
import subprocess
import time


class Gone(Exception):
    """The process ended, or does not answer, though nobody made it so."""


class Node:
    def __init__(self, host, name, worker, settings):
        self.host = host
        self.name = name
        self.worker = worker
        self.settings = settings
        self.process = None
        self.starts = 0
        self.log = None
        self.last_report = None

    # ---- The process ----------------------------------------------------

    def spawn(self):
        """Start its process, which has no node yet."""
        self.starts += 1
        self.log = self.host.folder / f"{self.name}-{self.starts}.log"
        environment = dict(os.environ, XDG_RUNTIME_DIR=str(self.host.run_folder))
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*self.host.enter(), self.worker],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                bufsize=0,
            )

    def start(self, **more):
        """Start process and node; "OK", or what the node says instead."""
        self.spawn()
        settings = {**self.settings, **more}
        words = " ".join(f"{name}={value}" for name, value in settings.items())
        return self.ask(f"start {words}")

    @property
    def is_up(self):
        return self.process is not None

    def kill(self):
        """As kill -9 does, without a word."""
        self.process.kill()
        self._reap()

    def end(self):
        """Leave the cluster in good order."""
        self.last_report = None
        answer = self.ask("end", 30)
        status = self._reap()
        if answer != "OK" or status != 0:
            raise Gone(f"{self.name} ended with {answer}, {status}: {self.log}")

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def _reap(self):
        self.process.stdin.close()
        self.process.stdout.close()
        status = self.process.wait()
        self.process = None
        return status

    # ---- Asking it ------------------------------------------------------

    def say(self, line):
        try:
            self.process.stdin.write(line.encode() + b"\n")
        except BrokenPipeError:
            self._fail("took no command")

    def hear(self, seconds=20, plain=False):
        until = time.monotonic() + seconds
        length = b""
        while not length.endswith(b"\n"):
            length += self._read(1, until)
        left = int(length)
        text = b""
        while len(text) < left:
            text += self._read(left - len(text), until)
        return text.decode() if plain else json.loads(text)

    def ask(self, line, seconds=20, plain=False):
        self.say(line)
        return self.hear(seconds, plain)

    def _read(self, n, until):
        left = max(0, until - time.monotonic())
        ready, _, _ = select.select([self.process.stdout], [], [], left)
        data = self.process.stdout.read(n) if ready else b""
        if not data:
            self._fail("is gone" if ready else "does not answer")
        return data

    def _fail(self, what):
        status = None
        try:
            status = self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        raise Gone(f"{self.name} {what}, exit status {status}: {self.log}")

    # ---- What it sees ---------------------------------------------------

    def info(self):
        return self.ask("info")

    def members(self):
        """{id: incarnation} of its view."""
        return {one["id"]: one["incarnation"] for one in self.info()["members"]}

    def is_joined(self):
        return self.info()["cluster"]["joined"]

    def serves_discovery(self):
        return any(seed["ours"] for seed in self.info()["cluster"]["seeds"])

    def metrics(self):
        """{name and labels of the series: value}, labels of the node left out."""
        values = {}
        for line in self.ask("metrics", plain=True).splitlines():
            if line.startswith("peercache_"):
                name, value = line.rsplit(" ", 1)
                values[name[len("peercache_") :]] = float(value)
        return values

    def sum_of(self, metric):
        """Of all series of the family."""
        values = self.metrics().items()
        return sum(value for name, value in values if name.split("{")[0] == metric)
