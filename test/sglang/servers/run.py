"""Two real SGLang servers on this machine's CPU over one PeerCache cluster.

    python run.py [--cases NAME,...] [--python PATH] [--path FOLDER]... [--logs FOLDER]

Prints a line per case and at the end `servers: ok ...` or `servers: FAILED ...`;
the exit status is 0 or 1. A case in which something was late, and nothing wrong, runs
once more at the end (`RERUN ...`). What each case shows is in steps.py. The interpreter
given (this one by default) has SGLang 0.5.23; `--path` folders, such as one with
the package under test, come first on PYTHONPATH, after the shims for a CPU in
../shims. Two cores and 6 GB of memory are enough.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
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
# No case starts later. A single hang ends by its own deadline.
TOTAL_S = 1000.0


@dataclass
class Result:
    """One case, and how far it is."""

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
    """Runs the cases one after another: a server that waits for requests takes a
    core for itself, and a start beside it takes three times as long."""

    def __init__(self, setup: Setup, file_backend: bool) -> None:
        self.setup = setup
        self.file_backend = file_backend
        self.proof: Optional[Proof] = None

    def _proof(self, result: Result) -> Proof:
        discovery = f"127.0.0.1:{free_port()}"
        if self.file_backend:
            return Proof(result.name, self.setup, result.case.file_launch(), None)
        return Proof(result.name, self.setup, result.case.launch(discovery), discovery)

    @staticmethod
    def _steps(proof: Proof, result: Result) -> None:
        for step in (
            proof.start,
            proof.step_share,
            proof.step_meaning,
            proof.step_extend,
            proof.step_flush,
            proof.step_bystander_dies,
            proof.step_b_dies,
            proof.restart,
            proof.step_again,
            proof.step_clear,
            proof.step_holder_dies,
            proof.end,
        ):
            begin = time.monotonic()
            step()
            name = step.__name__.replace("step_", "")
            result.done[name] = time.monotonic() - begin

    def run(self, result: Result) -> None:
        """One case from start to end; the result is filled, nothing is raised."""
        proof = self.proof = self._proof(result)
        begin = time.monotonic()
        try:
            self._steps(proof, result)
        except StepError as error:
            result.error = str(error)
            result.late = isinstance(error, LateError)
        except Exception as error:  # A bug of the driver must fail the case, too.
            result.error = f"{type(error).__name__}: {error}"
            result.late = isinstance(error, TimeoutError)
        finally:
            result.seconds = time.monotonic() - begin
            result.notes = proof.notes
            if result.error:
                print(proof.tails(), flush=True)
            proof.kill_all()
        print(result.line(), flush=True)

    def stop(self) -> None:
        """End every process that is left, now."""
        if self.proof is not None:
            self.proof.kill_all()


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


def _run_all(runner: Runner, results: list[Result], until: float) -> None:
    """Each case, and then once more those in which something was late. None
    starts after `until`."""
    for result in results:
        if time.monotonic() < until:
            runner.run(result)
    for i, result in enumerate(results):
        if result.late and time.monotonic() < until:
            print(f"RERUN {result.name}: {result.error}", flush=True)
            results[i] = Result(result.case, f"{result.name}-second")
            runner.run(results[i])


def main(arguments: Optional[Sequence[str]] = None) -> int:
    options = _options(arguments)
    setup = _setup(options)
    signal.signal(signal.SIGTERM, _end_by_signal)
    wanted = options.cases.split(",")
    results = [Result(case, case.name) for case in CASES if case.name in wanted]
    runner = Runner(setup, options.file_backend)
    print(f"logs: {setup.logs}", flush=True)
    begin = time.monotonic()
    try:
        _run_all(runner, results, begin + TOTAL_S)
    finally:
        runner.stop()
    seconds = time.monotonic() - begin
    failed = [result.name for result in results if result.failed]
    if failed:
        # Again, at the end, where it is not lost between logs.
        for result in results:
            print(result.line(), flush=True)
        print(f"servers: FAILED {', '.join(failed)} of {len(results)} cases, {seconds:.0f} s")
        return 1
    print(f"servers: ok, {len(results)} cases, {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
