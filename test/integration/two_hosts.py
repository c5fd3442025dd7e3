"""peercache-bench serve and drive: two processes, as on two hosts.

Usage: two_hosts.py PEERCACHE-BENCH
"""

import json
import os
import socket
import subprocess
import sys

PAGES = 64


def main():
    bench = sys.argv[1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        seed = "127.0.0.1:%d" % free.getsockname()[1]
    env = os.environ | {"PEERCACHE_READ_MODE": "served", "PEERCACHE_DISK_ENABLED": "false"}
    server = subprocess.Popen(
        [bench, "serve", seed, str(PAGES)], stdout=subprocess.PIPE, env=env, text=True
    )
    try:
        line = server.stdout.readline()
        assert line == f"serving {PAGES} pages of 131072 bytes\n", line
        done = subprocess.run(
            [bench, "drive", seed, str(PAGES), "0.5"],
            stdout=subprocess.PIPE,
            env=env,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.returncode
        figures = json.loads(done.stdout)
        assert figures["pages"] >= 32 and figures["one_sided"] == 0, figures
        rate = figures["pages"] * 131072 / figures["seconds"]
        assert abs(figures["bytes_per_s"] / rate - 1) < 0.01, figures
        # What is not there is said, not counted.
        more = [bench, "drive", seed, str(2 * PAGES), "0.5"]
        assert subprocess.run(more, env=env, timeout=100).returncode == 1
    finally:
        server.terminate()
        server.wait()
    assert subprocess.run([bench, "serve", seed]).returncode == 2
    print(done.stdout)


main()
