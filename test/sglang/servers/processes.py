"""Child processes with a log each, a deadline for everything, and a sure end.

A child leads a process group of its own, because a server starts further
processes: signals go to that group and to nothing else.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


class StepError(Exception):
    """A step did not end as it must; the text says which and how."""


class LateError(StepError):
    """All that was seen was right, but came too late: on a busy machine that
    proves nothing, and the case may run once more when nothing else does."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(what: str, seconds: float, ready: Callable[[], bool], every: float = 0.1) -> float:
    """Ask until `ready()` holds. Returns the seconds it took; LateError when
    `seconds` have passed."""
    begin = time.monotonic()
    while not ready():
        if time.monotonic() - begin > seconds:
            raise LateError(f"{what}: not within {seconds:g} s")
        time.sleep(every)
    return time.monotonic() - begin


class Child:
    """One process and what it starts. Its output goes to `log`."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str], *, talk: bool
    ) -> None:
        """`talk`: standard input and output are pipes (the log has the errors);
        otherwise input is empty and both outputs are in the log."""
        self.name = name
        self.log = log
        self._reaping = threading.Lock()
        pipe = subprocess.PIPE if talk else None
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                list(command),
                stdin=pipe if talk else subprocess.DEVNULL,
                stdout=pipe if talk else out,
                stderr=out,
                env=dict(env),
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether the leader runs. It is not reaped here: until `kill` does that,
        its number, which is that of the group, belongs to nobody else."""
        if self.process.returncode is not None:
            return False
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.process.pid, flags) is None

    def kill(self) -> None:
        """SIGKILL to all of its processes, at once, as a crash would look."""
        with self._reaping:
            if self.process.returncode is not None:
                return
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def ask_to_end(self) -> None:
        """SIGTERM to the leader, which takes the others along."""
        if self.alive:
            os.kill(self.process.pid, signal.SIGTERM)

    def end(self, grace: float) -> bool:
        """Wait for the end, `grace` seconds at most, and kill all that are left.
        False when the leader had to be killed."""
        deadline = time.monotonic() + grace
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.05)
        in_time = not self.alive
        self.kill()
        return in_time

    def tail(self, after: str = "", lines: int = 40) -> str:
        """The end of its log, for people; what comes after `after`, if that occurs."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        if after:
            text = text.rpartition(after)[2]
        return "\n".join(f"   {self.name} | {line}" for line in text.splitlines()[-lines:])
