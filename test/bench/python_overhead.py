"""What a call costs in Python, over the same call in C.

exists and get_into of 128 keys with values of 64 bytes on one node: the
library does little, so what is left is the binding. C and Python run in
processes of their own, in turns. Prints microseconds a key and the ratio.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import peercache

HERE = Path(__file__).resolve().parent
N_KEYS = 128
VALUE_LEN = 64
SETTINGS = {
    "global_segment_size": "64mb",
    "region_size": "64mb",
    "disk_enabled": "false",
    "metrics_enabled": "false",
    "protocol": "tcp",
    "log_level": "error",
}


def median_us(call: Callable[[], list[bool]], n_rounds: int) -> float:
    times = []
    for _ in range(n_rounds):
        begin = time.perf_counter_ns()
        answer = call()
        times.append(time.perf_counter_ns() - begin)
        if not all(answer):
            raise SystemExit("a key is missing")
    return statistics.median(times) / 1000 / N_KEYS


def measure_python(n_rounds: int) -> dict[str, float]:
    keys = [f"layer-0/page-{k}" for k in range(N_KEYS)]
    buffers = [bytearray(VALUE_LEN) for _ in keys]
    with peercache.Node(**SETTINGS) as node:
        node.wait_ready(30)
        node.put(keys, buffers)
        return {
            "exists": median_us(lambda: node.exists(keys), n_rounds),
            "get_into": median_us(lambda: node.get_into(keys, buffers), n_rounds),
        }


def build_c(folder: Path) -> Path:
    """batch_c, linked with the library that the package has loaded."""
    library = sorted(Path(peercache.__file__).parent.glob("libpeercache.so*"))[0]
    program = folder / "batch_c"
    subprocess.run(
        [
            shutil.which("cc") or "cc", "-std=gnu11", "-O2", "-o", str(program),
            str(HERE / "batch_c.c"), f"-I{HERE.parent.parent / 'lib' / 'include'}",
            str(library), f"-Wl,-rpath,{library.parent}",
        ],
        check=True,
    )  # fmt: skip
    return program


def run_json(command: list[str]) -> dict[str, float]:
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {name: float(value) for name, value in json.loads(output).items()}


def compare(n_pairs: int, n_rounds: int) -> None:
    rows: dict[str, list[tuple[float, float]]] = {"exists": [], "get_into": []}
    with tempfile.TemporaryDirectory() as folder:
        texts = [f"{name}={value}" for name, value in SETTINGS.items()]
        in_c = [str(build_c(Path(folder))), str(n_rounds), *texts]
        in_python = [sys.executable, __file__, "--child", "--rounds", str(n_rounds)]
        for _ in range(n_pairs):
            c, python = run_json(in_c), run_json(in_python)
            for name, row in rows.items():
                row.append((c[name], python[name]))
    print(f"{'us a key':<10}{'C':>8}{'Python':>8}{'over C':>8}{'ratio':>8}")
    for name, row in rows.items():
        c_us = statistics.median(pair[0] for pair in row)
        python_us = statistics.median(pair[1] for pair in row)
        over = statistics.median(pair[1] - pair[0] for pair in row)
        print(f"{name:<10}{c_us:8.3f}{python_us:8.3f}{over:8.3f}{python_us / c_us:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10, help="runs of C and of Python")
    parser.add_argument("--rounds", type=int, default=2000, help="calls a run")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure_python(options.rounds)))
    else:
        compare(options.pairs, options.rounds)


if __name__ == "__main__":
    main()
