"""Two real SGLang servers on this machine's CPU over one PeerCache cluster.

    python run.py [--cases NAME,...] [--python PATH] [--path FOLDER]... [--logs FOLDER]

Prints a line per case and at the end `servers: ok ...` or `servers: FAILED ...`;
the exit status is 0 or 1. A case in which something was late, and nothing wrong, runs
once more at the end, alone (`RERUN ...`). What each case shows is in steps.py. The interpreter
given (this one by default) has SGLang 0.5.23; `--path` folders, such as one with
the package under test, come first on PYTHONPATH, after the shims for a CPU in
../shims. Two cores and 6 GB of memory are enough.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Optional

import tiny_model
from cases import CASES, Case
from processes import LateError, StepError, free_port
from server import Setup
from steps import Proof

HERE = Path(__file__).resolve().parent
# Longest time of a whole run; a single hang ends earlier, by its own deadline.
TOTAL_S = 840.0


@dataclass
class Result:
    """One case, and how far it is. Starting a server takes all of two cores, so
    the next case starts its servers while this one starts one again; nothing
    whose time counts runs beside a start, and nothing of two cases at once."""

    case: Case
    # In front of the names of its logs.
    name: str
    # Steps that were right, and their seconds.
    done: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: str = ""
    # The error is that something was late.
    late: bool = False
    seconds: float = 0.0
    # Its first servers are up; or it has ended, as with the next two.
    up: threading.Event = field(default_factory=threading.Event)
    # The next case may start its servers,
    half: threading.Event = field(default_factory=threading.Event)
    # and may go on.
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def failed(self) -> bool:
        return bool(self.error) or "end" not in self.done

    def line(self) -> str:
        text = f"{self.name}: " + (f"FAILED {self.error}" if self.error else "ok")
        if self.notes:
            text += f"; {'; '.join(self.notes)}"
        steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.done.items())
        return f"{text} ({self.seconds:.0f} s: {steps})"


class Runner:
    """Runs the cases, each in a thread."""

    def __init__(self, setup: Setup, file_backend: bool) -> None:
        self.setup = setup
        self.file_backend = file_backend
        self.print_lock = threading.Lock()
        self.proofs: list[Proof] = []
        self.threads: list[threading.Thread] = []
        self.stopped = False

    def say(self, text: str) -> None:
        with self.print_lock:
            print(text, flush=True)

    def _proof(self, result: Result) -> Proof:
        discovery = f"127.0.0.1:{free_port()}"
        if self.file_backend:
            proof = Proof(result.name, self.setup, result.case.file_launch(), None)
        else:
            proof = Proof(result.name, self.setup, result.case.launch(discovery), discovery)
        self.proofs.append(proof)
        return proof

    @staticmethod
    def _do(result: Result, *steps: Callable[[], None]) -> None:
        for step in steps:
            begin = time.monotonic()
            step()
            name = step.__name__.replace("step_", "")
            result.done[name] = time.monotonic() - begin

    def _steps(
        self, proof: Proof, result: Result, before: Optional[Result], after: Optional[Result]
    ) -> None:
        self._do(result, proof.start)
        result.up.set()
        if before is not None:
            before.ended.wait()
        self._do(
            result,
            proof.step_share,
            proof.step_meaning,
            proof.step_extend,
            proof.step_flush,
            proof.step_bystander_dies,
            proof.step_b_dies,
        )
        result.half.set()
        self._do(result, proof.restart)
        if after is not None:
            after.up.wait()
        self._do(result, proof.step_again, proof.step_clear, proof.step_holder_dies, proof.end)

    def run_all(self, results: Sequence[Result], until: float) -> None:
        """The cases, as Result says."""
        threads = []
        for before, result, after in zip([None, *results], results, [*results[1:], None]):
            thread = threading.Thread(target=self.run, args=(result, before, after), daemon=True)
            thread.start()
            threads.append(thread)
        self.threads += threads
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def run(
        self, result: Result, before: Optional[Result] = None, after: Optional[Result] = None
    ) -> None:
        """One case from start to end, between two others; the result is filled,
        nothing is raised."""
        if before is not None:
            before.half.wait()
        if self.stopped:
            result.error = "not run"
        else:
            self._run(result, before, after)
            self.say(result.line())
        for event in (result.up, result.half, result.ended):
            event.set()

    def _run(self, result: Result, before: Optional[Result], after: Optional[Result]) -> None:
        proof = self._proof(result)
        begin = time.monotonic()
        try:
            self._steps(proof, result, before, after)
        except StepError as error:
            result.error = str(error)
            result.late = isinstance(error, LateError)
        except Exception as error:  # A bug of the driver must fail the case, too.
            result.error = f"{type(error).__name__}: {error}"
            result.late = isinstance(error, TimeoutError)
        finally:
            result.seconds = time.monotonic() - begin
            result.notes = proof.notes
            if result.error and not self.stopped:
                self.say(proof.tails())
            proof.kill_all()

    def stop(self) -> None:
        """End every process of every case, now."""
        self.stopped = True
        for proof in self.proofs:
            proof.kill_all()
        for thread in self.threads:
            thread.join(30)


def _options(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    names = [case.name for case in CASES]
    parser.add_argument("--cases", default=",".join(names), help="of " + ", ".join(names))
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--path", action="append", default=[], type=Path)
    parser.add_argument("--shims", default=HERE.parent / "shims", type=Path)
    parser.add_argument("--logs", type=Path, help="keep the logs here (default: a new folder)")
    parser.add_argument(
        "--file-backend", action="store_true", help="SGLang's file storage instead of ours"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.cases.split(",")) - set(names)
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    return options


def _setup(options: argparse.Namespace) -> Setup:
    logs = options.logs or Path(tempfile.mkdtemp(prefix="peercache-servers-"))
    logs.mkdir(parents=True, exist_ok=True)
    for old in logs.glob("*.log"):
        old.unlink()
    model = logs / "model"
    tiny_model.write(model)
    env = {}
    if options.file_backend:
        store = tempfile.mkdtemp(prefix="file-storage-", dir=logs)
        env["SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR"] = store
    paths = [options.shims, *options.path]
    return Setup(options.python, model, logs, [path.resolve() for path in paths], env)


def _end_by_signal(number: int, frame: Optional[FrameType]) -> None:
    raise SystemExit(128 + number)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    options = _options(arguments)
    setup = _setup(options)
    signal.signal(signal.SIGTERM, _end_by_signal)
    wanted = options.cases.split(",")
    results = [Result(case, case.name) for case in CASES if case.name in wanted]
    runner = Runner(setup, options.file_backend)
    print(f"logs: {setup.logs}", flush=True)
    begin = time.monotonic()
    until = begin + TOTAL_S
    try:
        runner.run_all(results, until)
        for i, result in enumerate(results):
            if result.late and time.monotonic() < until:
                runner.say(f"RERUN {result.name}, alone: {result.error}")
                results[i] = Result(result.case, f"{result.name}-second")
                runner.run_all([results[i]], until)
    finally:
        runner.stop()
    seconds = time.monotonic() - begin
    failed = [result.name for result in results if result.failed]
    if failed:
        print(f"servers: FAILED {', '.join(failed)} of {len(results)} cases, {seconds:.0f} s")
        return 1
    print(f"servers: ok, {len(results)} cases, {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
