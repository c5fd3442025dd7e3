#!/bin/bash
# Measure one-sided reads between two hosts with RDMA cards, beside what the
# cards themselves can do, and pack a report.
#
# On the first host:   ci/rdma/hardware.sh serve DEVICE
# On the second:       ci/rdma/hardware.sh drive DEVICE FIRST-HOST [BIN-FOLDER]
#
# DEVICE is as in device_name, mlx5_0 or mlx5_0:1; several with commas for
# multi-rail. BIN-FOLDER has the programs of the build (build/bin unless given).
# Needs rdma-core (ibv_devinfo), perftest (ib_read_bw), ucx-utils
# (ucx_perftest), and the ports that it names to be open between the hosts. The
# network between the two must be one that nobody else reaches: without a key the
# nodes trust whoever connects.
#
# This script has not been run on hardware yet.
set -u
HERE=$PWD # Where the report goes.
cd "$(dirname "$0")/../.." || exit 2
BW_PORT=18515 UCX_PORT=13337 NODE_PORT=19530
PAGE=131072 PAGES=8192 SECONDS_EACH=10

usage() { sed -n '2,17s/^# \?//p' "$0" && exit 2; }
[ $# -ge 2 ] || usage
ROLE=$1 DEVICES=$2 HOST=${3:-} BIN=${4:-build/bin}
case $ROLE in
serve) ;;
drive) [ -n "$HOST" ] || usage ;;
*) usage ;;
esac
FIRST=${DEVICES%%,*} CARD=${FIRST%%:*}
PORT=1
[ "$FIRST" = "$CARD" ] || PORT=${FIRST#*:}
ALL=
for device in ${DEVICES//,/ }; do
    case $device in *:*) ;; *) device=$device:1 ;; esac
    ALL=${ALL:+$ALL,}$device
done
FOLDER=$(mktemp -d) || exit 2
REPORT=$FOLDER/peercache-rdma-$(hostname -s)
mkdir -p "$REPORT"
pids=()
finish() { # whatever ends it: the report is packed
    local pid programs=
    for pid in "${pids[@]+"${pids[@]}"}"; do
        programs="$programs $(pgrep -P "$pid" | tr '\n' ' ')" # What the loop runs now.
    done
    # shellcheck disable=SC2086 # One word a process.
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" $programs 2>/dev/null
    pack
    rm -rf "$FOLDER"
}
trap finish EXIT
trap 'exit 130' INT TERM
problems=0
n_missing=0
problem() {
    echo "PROBLEM: $*" | tee -a "$REPORT/problems"
    problems=$((problems + 1))
}
missing() { # without this nothing can be measured
    problem "$@"
    n_missing=$((n_missing + 1))
}

# ---- What has to be right before anything is measured -------------------

check() {
    local tool device limit
    for tool in ibv_devinfo ib_read_bw ucx_perftest ucx_info "$BIN/peercache-bench"; do
        command -v "$tool" >/dev/null || missing "$tool is not there"
    done
    ibv_devinfo -v >"$REPORT/ibv_devinfo" 2>&1
    ucx_info -v >"$REPORT/ucx_version" 2>&1
    UCX_NET_DEVICES=$ALL ucx_info -d >"$REPORT/ucx_devices" 2>&1
    lscpu >"$REPORT/lscpu" 2>&1
    uname -a >"$REPORT/uname"
    for device in ${ALL//,/ }; do
        check_port "$device"
    done
    limit=$(ulimit -l)
    echo "memlock $limit" >>"$REPORT/limits"
    [ "$limit" = unlimited ] || [ "$limit" -ge $((4 << 20)) ] ||
        problem "locked memory is limited to $limit KiB (ulimit -l unlimited)"
}

check_port() { # device:port
    local base=/sys/class/infiniband/${1%:*} port gid numa n_gids=0
    port=$base/ports/${1#*:}
    if [ ! -d "$base" ]; then
        missing "there is no RDMA device ${1%:*} (/sys/class/infiniband has: $(
            ls /sys/class/infiniband 2>/dev/null | tr '\n' ' '))"
        return
    fi
    grep -q ACTIVE "$port/state" 2>/dev/null || missing "the port $1 is not active"
    numa=$(cat "$base/device/numa_node" 2>/dev/null)
    echo "$1 numa_node ${numa:-?} rate $(cat "$port/rate" 2>/dev/null)" |
        tee -a "$REPORT/placement"
    for gid in "$port"/gids/*; do
        grep -vq '^[0:]*$' "$gid" 2>/dev/null || continue
        n_gids=$((n_gids + 1))
        echo "$1 gid $(basename "$gid") $(cat "$gid") $(
            cat "$port/gid_attrs/types/$(basename "$gid")" 2>/dev/null)" >>"$REPORT/gids"
    done
    [ $n_gids -gt 0 ] || missing "the port $1 has no GID"
}

near_card() { # command: on the card's NUMA node, where numactl knows how
    local numa
    numa=$(cat "/sys/class/infiniband/$CARD/device/numa_node" 2>/dev/null || echo -1)
    if [ "$numa" -ge 0 ] && command -v numactl >/dev/null; then
        numactl --cpunodebind="$numa" --membind="$numa" "$@"
    else
        "$@"
    fi
}

settings() {
    export PEERCACHE_PROTOCOL=rdma PEERCACHE_PROTOCOL_STRICT=true \
        PEERCACHE_READ_MODE=one-sided PEERCACHE_DEVICE_NAMES=$DEVICES \
        PEERCACHE_ALLOW_INSECURE=true PEERCACHE_LOG_LEVEL=info
}

# ---- The first host ------------------------------------------------------

serve() {
    trap 'exit 0' INT TERM
    echo "serving; end with Ctrl-C when the other host is done"
    (while :; do
        near_card ib_read_bw -d "$CARD" -i "$PORT" -p $BW_PORT -s $PAGE -F \
            --report_gbits -D $SECONDS_EACH >>"$REPORT/ib_read_bw" 2>&1 || sleep 1
    done) &
    pids+=($!)
    (while :; do
        UCX_NET_DEVICES=$ALL UCX_TLS=rc,ud near_card ucx_perftest -p $UCX_PORT \
            >>"$REPORT/ucx_perftest" 2>&1 || sleep 1
    done) &
    pids+=($!)
    settings
    near_card "$BIN/peercache-bench" serve "$(hostname -I | cut -d" " -f 1):$NODE_PORT" \
        $PAGES 2>&1 | tee "$REPORT/peercache_serve"
}

# ---- The second host -----------------------------------------------------

last_number() { # file, column of the last line of figures, in units of 1e6 B/s
    awk -v column="$2" '$1 ~ /^[0-9]+$/ { value = $column } END { print value + 0 }' "$1"
}

drive() {
    local round raw ucx ours
    for round in 1 2 3; do
        # Interleaved, so that what changes on the way changes for all.
        near_card ib_read_bw -d "$CARD" -i "$PORT" -p $BW_PORT -s $PAGE -F \
            --report_gbits -D $SECONDS_EACH "$HOST" >"$REPORT/ib_read_bw.$round" 2>&1 ||
            problem "ib_read_bw has failed"
        UCX_NET_DEVICES=$ALL UCX_TLS=rc,ud near_card ucx_perftest -t ucp_get \
            -s $PAGE -O 32 -n 100000 -p $UCX_PORT "$HOST" \
            >"$REPORT/ucx_perftest.$round" 2>&1 || problem "ucx_perftest has failed"
        (
            settings
            near_card "$BIN/peercache-bench" drive "$HOST:$NODE_PORT" $PAGES \
                $SECONDS_EACH
        ) >"$REPORT/peercache_drive.$round" 2>&1 || problem "peercache-bench drive has failed"
        raw=$(last_number "$REPORT/ib_read_bw.$round" 4)
        ucx=$(awk '/^Final:/ { print $(NF - 3) * 8 * 1.048576 / 1000 }' \
            "$REPORT/ucx_perftest.$round")
        ours=$(sed -n 's/.*"bytes_per_s": *\([0-9.e+]*\).*/\1/p' \
            "$REPORT/peercache_drive.$round" | tail -n 1)
        awk -v raw="${raw:-0}" -v ucx="${ucx:-0}" -v ours="${ours:-0}" -v n=$round 'BEGIN {
            ours = ours * 8 / 1e9
            printf "round %d: ib_read_bw %.1f, ucx_perftest %.1f, peercache %.1f Gbit/s", n, raw, ucx, ours
            if (raw > 0) printf "; of ib_read_bw: %.3f (goal 0.94)", ours / raw
            print ""
        }' | tee -a "$REPORT/ratios"
    done
}

pack() {
    local archive=$HERE/${REPORT##*/}.tar.gz
    dmesg 2>/dev/null | grep -iE "mlx|rdma|infiniband" | tail -n 50 >"$REPORT/dmesg"
    tar -C "$FOLDER" -czf "$archive" "${REPORT##*/}" && echo "report: $archive"
}

check
if [ $n_missing -gt 0 ]; then
    echo "not measured: $n_missing of the above would have to be there first"
    exit 1
fi
"$ROLE"
[ $problems -eq 0 ]
