#!/usr/bin/env python3
"""Run the suite of real hosts: each case in namespaces of its own.

Prints a table, one row a case and read path. Exits with 77 and says so where
namespaces are not allowed.
"""

import argparse
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from xml.sax.saxutils import quoteattr

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
UNSHARE = ["unshare", "--net", "--ipc", "--uts", "--mount", "--pid", "--fork"]
UNSHARE += ["--kill-child", "--mount-proc"]
if os.geteuid() != 0:
    UNSHARE += ["--user", "--map-root-user"]
LIMIT_S = 150
PR_SET_PDEATHSIG = 1

# UCX 1.13.1 aborts a process, now and then, when a peer dies while they are
# connecting (docs/design-notes.md); on its own path that gives a case another run.
UCX_ABORT = re.compile(r"\[\S+:\d+ *:\d+:\d+\]\s+\S+\.[ch]:\d+\s+Assertion `")
UCX_RUNS = 3
# Cases run in real time beside each other and beside whatever else the machine
# does: one that failed runs once more, alone. Wrong bytes are never forgiven.
RUNS = 2


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build", help="build folder (build)")
    parser.add_argument("--jobs", type=int, default=4, help="cases at a time (4)")
    parser.add_argument("--path", action="append", help="only these read paths")
    parser.add_argument("--list", action="store_true", help="names of the cases")
    parser.add_argument("--junit", help="write the rows there as JUnit XML")
    parser.add_argument("--keep", help="folder for the logs, which are kept")
    parser.add_argument("--long", action="store_true", help="the library's own times")
    parser.add_argument("--inside", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("case", nargs="*", help="only these cases")
    return parser.parse_args()


# ---- Inside of the namespaces: one case -------------------------------------


def run_inside(options):
    from cases import CASES
    from cluster import DEFAULT, SHORT, Cluster, Failed, Gone, Skipped

    name, path, folder = options.inside
    programs = pathlib.Path(options.build).resolve() / "netns"
    cluster = Cluster(path, folder, programs, DEFAULT if options.long else SHORT)
    verdict = "ok"
    try:
        CASES[name](cluster)
        cluster.finish()
    except Skipped as skipped:
        verdict = f"skipped: {skipped}"
    except (Failed, Gone) as failed:
        verdict = f"FAILED: {failed}"
        traceback.print_exc(file=sys.stdout)
        add_what_is_left(cluster)
    except Exception as failed:  # The suite's own fault is a verdict too.
        verdict = f"FAILED: {failed!r}"
        traceback.print_exc(file=sys.stdout)
    sums = cluster.sums
    result = {
        "case": name,
        "path": path,
        "calls": sums.calls,
        "bytes": sums.bytes,
        "wrong": sums.wrong,
        "longest_s": sums.longest_s,
        "starved_s": sums.starved_s,
        "late": len(sums.late),
        "statuses": sums.statuses,
        "notes": cluster.notes,
        "verdict": verdict,
    }
    pathlib.Path(folder, "result.json").write_text(json.dumps(result))


def add_what_is_left(cluster):
    """The sums of a failed case, as far as its nodes can still tell."""
    for node in cluster.up():
        try:
            node.resume()
            cluster.sums.add(node, node.ask("report", 5))
        except Exception as failed:
            cluster.trace(f"no report of {node.name}: {failed}")


# ---- Outside: all of them ---------------------------------------------------


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Run:
    """One case on one path, in a process of its own."""

    def __init__(self, options, folder, name, path, number=1):
        self.options, self.base = options, folder
        self.name, self.path, self.number = name, path, number
        label = re.sub(r"\W+", "_", f"{name} {path} {number}")
        self.folder = folder / label
        self.folder.mkdir()
        self.log = self.folder / "case.log"
        words = [sys.executable, str(HERE / "run.py"), "--build", options.build]
        words += ["--long"] if options.long else []
        words += ["--inside", name, path, str(self.folder)]
        self.begin = time.monotonic()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*UNSHARE, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )

    def is_over(self):
        limit = LIMIT_S * (3 if self.options.long else 1)
        if self.process.poll() is None and time.monotonic() - self.begin > limit:
            self.stop()
        return self.process.poll() is not None

    def stop(self):
        """unshare takes the first process of the namespaces along, and the
        kernel all others."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def result(self):
        file = self.folder / "result.json"
        took = time.monotonic() - self.begin
        if file.exists():
            result = json.loads(file.read_text())
        else:
            result = dict.fromkeys(("calls", "bytes", "wrong", "late"), 0)
            result.update(case=self.name, path=self.path, longest_s=0.0)
            result.update(starved_s=0.0, statuses={}, notes=[])
            result["verdict"] = f"FAILED: no verdict after {took:.0f} s, see {self.log}"
        result.update(took_s=took, runs=self.number, folder=str(self.folder))
        return result

    def aborted_in_ucx(self):
        if self.path != "one-sided":
            return False
        logs = self.folder.glob("h*/*.log")
        return any(UCX_ABORT.search(log.read_text(errors="replace")) for log in logs)

    def why_again(self, result):
        """The reason for which a failed case gets another run, or None."""
        if not has_failed(result) or result["wrong"]:
            return None
        if self.number < UCX_RUNS and self.aborted_in_ucx():
            return "UCX aborted a node"
        if self.number < RUNS:
            return result["verdict"].removeprefix("FAILED: ")
        return None


def rows_to_run(options, cases, only_long, also_auto, paths):
    wanted = options.case or [
        name for name in cases if options.long or name not in only_long
    ]
    unknown = set(wanted) - set(cases)
    if unknown:
        sys.exit(f"no such case: {', '.join(sorted(unknown))}; --list names them")
    rows = []
    for path in options.path or paths:
        for name in wanted:
            if path != "auto" or name in also_auto or options.path:
                rows.append((name, path))
    # The longest first, so that it overlaps with all others.
    return sorted(rows, key=lambda row: row[0] not in ("stopped", "long_cut"))


def schedule(options, folder, rows):
    waiting, running, results, again = list(rows), [], [], []
    try:
        while waiting or running or again:
            while waiting and len(running) < options.jobs:
                running.append(Run(options, folder, *waiting.pop(0)))
            if again and not running:
                running.append(Run(options, folder, *again.pop(0)))
            for run in [one for one in running if one.is_over()]:
                running.remove(run)
                result = run.result()
                why = run.why_again(result)
                if why:
                    print(f"RERUN {run.name}, {run.path}: {why} (logs: {run.folder})")
                    again.append((run.name, run.path, run.number + 1))
                    continue
                results.append(result)
                print_row(result)
            time.sleep(0.05)
    finally:
        for run in running:
            run.stop()
    return results


# ---- What is printed --------------------------------------------------------

FORMAT = "{:<20} {:<12} {:>7} {:>10} {:>6} {:>9} {:>6}  {}"


def print_head():
    print(
        FORMAT.format(
            "case", "read path", "calls", "MB checked", "wrong", "longest s", "took s",
            "verdict",
        )
    )


def print_row(result):
    verdict = result["verdict"]
    if result["runs"] > 1:
        verdict += f" (run {result['runs']})"
    if result["starved_s"] > 0:
        verdict += f" (a process got no processor for {result['starved_s']:.1f} s)"
    print(
        FORMAT.format(
            result["case"],
            result["path"],
            result["calls"],
            f"{result['bytes'] / 1e6:.1f}",
            result["wrong"],
            f"{result['longest_s']:.2f}",
            f"{result['took_s']:.0f}",
            verdict,
        )
    )
    for note in result["notes"]:
        print(f"{'':<21}{note}")
    sys.stdout.flush()


def has_failed(result):
    return result["verdict"].startswith("FAILED")


def write_junit(file, results):
    failed = sum(map(has_failed, results))
    lines = [f'<testsuite name="hosts" tests="{len(results)}" failures="{failed}">']
    for result in results:
        name = quoteattr(f"hosts.{result['case']} ({result['path']})")
        took = f"{result['took_s']:.1f}"
        lines.append(f'<testcase name={name} classname="hosts" time="{took}">')
        if result["verdict"] != "ok":
            kind = "failure" if has_failed(result) else "skipped"
            lines.append(f"<{kind} message={quoteattr(result['verdict'])}/>")
        lines.append("</testcase>")
    pathlib.Path(file).write_text("\n".join([*lines, "</testsuite>", ""]))


def skip_unless_allowed():
    probe = "mount -t sysfs sysfs /sys && ip link add x type bridge && ip link del x"
    done = subprocess.run(
        [*UNSHARE, "sh", "-c", probe], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"skipped: namespaces of hosts are not allowed here ({why})")
        sys.exit(77)


def main():
    options = parse()
    if options.inside:
        run_inside(options)
        return
    from cases import ALSO_AUTO, CASES, LONG
    from cluster import PATHS

    if options.list:
        for name, function in CASES.items():
            print(f"{name:<20} {function.__doc__}")
        return
    skip_unless_allowed()
    modules = pathlib.Path(options.build).resolve() / "lib/peercache"
    for name in ("ucx", "tls"):
        module = modules / f"libpeercache_{name}.so"
        os.environ[f"PEERCACHE_{name.upper()}_MODULE"] = str(module)
    paths = list(PATHS)
    if not (modules / "libpeercache_tls.so").exists():
        paths.remove("served, TLS")
        print("not run: served, TLS (this build has no TLS)")
    for name in [name for name in os.environ if name.startswith("UCX_")]:
        del os.environ[name]
    folder = pathlib.Path(options.keep or tempfile.mkdtemp(prefix="peercache-hosts-"))
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print_head()
    rows = rows_to_run(options, CASES, LONG, ALSO_AUTO, paths)
    try:
        results = schedule(options, folder, rows)
    except BaseException:
        if not options.keep:
            shutil.rmtree(folder)
        raise
    if options.junit:
        write_junit(options.junit, results)
    n_failed = sum(map(has_failed, results))
    n_passed = sum(result["verdict"] == "ok" for result in results)
    print(f"{n_passed} passed, {n_failed} failed, {len(rows) - n_passed - n_failed} skipped")
    n_again = sum(result["runs"] > 1 for result in results)
    if n_failed + n_again == 0 and not options.keep:
        shutil.rmtree(folder)
    else:
        print(f"logs: {folder}")
    sys.exit(1 if n_failed else 0)


if __name__ == "__main__":
    main()
