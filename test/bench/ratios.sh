#!/bin/sh
# Measures the design's targets and prints one table of ratios.
# Usage: test/bench/ratios.sh FOLDER-OF-PROGRAMS [flags of peercache-bench]
# Exit status: 0 all rows measured (met or not), 1 a row failed.
# Never part of the tests: times depend on the machine.
set -eu

[ $# -ge 1 ] || { echo "usage: $0 FOLDER-OF-PROGRAMS [flags]" >&2; exit 2; }
programs=$1
shift

# The raw TCP limit should be near what a known program reaches.
if command -v iperf3 >/dev/null; then
    port=$((20000 + $$ % 20000))
    iperf3 -s -1 -B 127.0.0.1 -p "$port" >/dev/null 2>&1 &
    server=$!
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        speed=$(iperf3 -c 127.0.0.1 -p "$port" -t 2 -l 128K -J 2>/dev/null |
            sed -n '/"sum_received"/,/}/s/.*"bits_per_second":[^0-9]*\([0-9.e+]*\).*/\1/p')
        [ -z "$speed" ] || break
    done
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    awk -v bits="${speed:-0}" 'BEGIN {
        printf "iperf3 over loopback, one connection: %.2f GB/s\n", bits / 8e9
    }'
fi

"$programs/peercache-bench" limits --pairs 10 --warmup 0.5 --out-dir ""
echo
exec "$programs/peercache-bench" throughput --matrix "$@"
