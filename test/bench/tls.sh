#!/bin/bash
# What a cluster key costs: each measurement without and with one, in turn, and
# the median of the quotients.
# Usage: test/bench/tls.sh FOLDER-OF-PROGRAMS [ROUNDS]      (default 5)
# Never part of the tests: times depend on the machine.
set -eu
[ $# -ge 1 ] || { echo "usage: $0 FOLDER-OF-PROGRAMS [ROUNDS]" >&2; exit 2; }
bench=$1/peercache-bench
rounds=${2:-5}
key=$(mktemp)
trap 'rm -f "$key"' EXIT
openssl rand -hex 32 >"$key"
# Neither mapped reads nor looks at mapped headers: all goes over the link.
export PEERCACHE_UCX_MODULE=none

# flags...: microseconds of a call's median, or GB a second.
measure() {
    "$bench" "$@" --pairs 8 --warmup 0.2 --out-dir "" --json |
        python3 -c '
import json, sys
ours = json.load(sys.stdin)["results"][0]
assert ours["ok"] and ours["wrong_pages"] == 0
print(ours["latency_us"]["p50"] if ours["name"] == "latency" else ours["gbps"])'
}

row() { # name, unit, flags...
    local name=$1 unit=$2 plain=() with=() i
    shift 2
    for ((i = 0; i < rounds; i++)); do
        plain+=("$(measure "$@")")
        with+=("$(measure "$@" --set "cluster_key_file=$key")")
    done
    python3 - "$name" "$unit" "${plain[*]}" "${with[*]}" <<'END'
import statistics, sys
name, unit, plain, tls = sys.argv[1:]
plain, tls = ([float(x) for x in text.split()] for text in (plain, tls))
quotients = sorted(t / p for p, t in zip(plain, tls))
print(f"| {name} | {statistics.median(plain):.4g} | {statistics.median(tls):.4g} "
      f"| {unit} | {statistics.median(quotients):.2f} "
      f"({quotients[0]:.2f} to {quotients[-1]:.2f}) |")
END
}

echo "| | no key | a key | | key / no key |"
echo "|---|--:|--:|---|--:|"
row "exists of 128 keys, one call" "us" latency --op exists --batch-size 128 \
    --working-set 4096
row "served get, 128 KiB, one by one" "us" latency --read-mode served \
    --batch-size 1 --working-set 512
row "served get, 32 x 128 KiB, 1 reader" "GB/s" throughput --read-mode served \
    --concurrency 1 --working-set 512
