"""Instances in processes of their own.

SGLang takes some ten seconds to import: a fork server does it once, and every worker is a
fork of it. Older releases are imported by one process, which then forks its twin.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

TIMEOUT_S = 60.0

# The fork server looks for what it preloads on PYTHONPATH only.
_HERE = os.path.dirname(os.path.abspath(__file__))
os.environ["PYTHONPATH"] = os.pathsep.join([_HERE, *os.environ.get("PYTHONPATH", "").split(":")])
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["preload"])
_spawn = multiprocessing.get_context("spawn")


class Failed(AssertionError):
    """A call raised in the worker."""


# ---- In the worker ----------------------------------------------------------------


def _serve(pipe: Connection, make: Callable[[], Any]) -> None:
    """Call what is asked for on the instance that `make` makes for the first call."""
    instance = None
    while True:
        try:
            name, args, kwargs = pipe.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            if instance is None:
                instance = make()
            pipe.send((True, getattr(instance, name)(*args, **kwargs)))
        except BaseException:
            pipe.send((False, traceback.format_exc()))


def _run(pipe: Connection, environment: dict[str, str], arguments: dict[str, Any]) -> None:
    os.environ.update(environment)
    from driver import Instance

    _serve(pipe, lambda: Instance(**arguments))


def _run_twins(pipes: list[Connection], environment: dict[str, str], release: str) -> None:
    os.environ.update(environment)
    from old_driver import OldInstance, load

    load(release)
    child = os.fork()
    which = 1 if child else 0
    pipes[1 - which].close()
    _serve(pipes[which], lambda: OldInstance(seed=31 + which))
    if not child:
        os._exit(0)
    os.kill(child, signal.SIGKILL)  # Its pipe is closed too, its work is done.
    os.waitpid(child, 0)
    os._exit(0)


# ---- In the test ------------------------------------------------------------------------


class Caller:
    """Calls the methods of an instance in another process by name."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def send(self, name: str, *args: Any, **kwargs: Any) -> None:
        self._pipe.send((name, args, kwargs))

    def answer(self, timeout: float = TIMEOUT_S) -> Any:
        assert self._pipe.poll(timeout), f"no answer in {timeout} s"
        good, value = self._pipe.recv()
        if not good:
            raise Failed(value)
        return value

    def ask(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self.send(name, *args, **kwargs)
        return self.answer()

    def close(self) -> None:
        self._pipe.close()


class Worker(Caller):
    """A process with a `driver.Instance`, made with the arguments given."""

    def __init__(self, environment: dict[str, str], **arguments: Any) -> None:
        ours, theirs = _context.Pipe()
        super().__init__(ours)
        args = (theirs, environment, arguments)
        self.process = _context.Process(target=_run, args=args, daemon=True)
        self.process.start()
        theirs.close()

    def stop(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def end(self) -> None:
        self.close()
        self.process.join(2)
        self.kill()


class Twins:
    """Two processes with an `old_driver.OldInstance` each, of an unpacked SGLang."""

    def __init__(self, environment: dict[str, str], release: str) -> None:
        pipes = [_spawn.Pipe() for _ in range(2)]
        self.callers = [Caller(ours) for ours, _ in pipes]
        theirs = [their for _, their in pipes]
        args = (theirs, environment, release)
        self.process = _spawn.Process(target=_run_twins, args=args)
        self.process.start()
        for their in theirs:
            their.close()

    def end(self) -> None:
        for caller in self.callers:
            caller.close()
        self.process.join(10)
        self.process.kill()
        self.process.join()


def ask_all(workers: list[Any], name: str, *args: Any, **kwargs: Any) -> list[Any]:
    """The same call on all at the same time, as ranks need it."""
    for worker in workers:
        worker.send(name, *args, **kwargs)
    return [worker.answer() for worker in workers]
