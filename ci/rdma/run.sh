#!/bin/bash
# One-sided reads on RDMA verbs without hardware: build a guest with a software
# RDMA device and the library for it, run the tests there, and show a table of
# tests, carriers and versions of UCX.
#
# usage: ci/rdma/run.sh [--junit FILE] [--logs FOLDER] [--slow N]
#
# Bounded: 3 minutes for the image, when it is not there yet, 3 for the build,
# 2 for what needs no guest, 4 for the guest; --slow multiplies the last two, for a
# machine that is busy. Exits with 77, and a last line that says why, where a guest
# cannot be had. README.md beside this file says what is shown there.
set -u
cd "$(dirname "$0")/../.." || exit 2
JUNIT= LOGS=build/logs SLOW=1
while [ $# -gt 0 ]; do
    case $1 in
    --junit) JUNIT=$2 && shift 2 ;;
    --logs) LOGS=$2 && shift 2 ;;
    --slow) SLOW=$2 && shift 2 ;;
    *) sed -n '2,14s/^# \?//p' "$0" && exit 2 ;;
    esac
done
OUT=$PWD/build/rdma
HOST_CARRIERS=build/test/integration/test_integration_carriers
mkdir -p "$OUT" "$LOGS"

step() { # what, seconds, command
    local what=$1 limit=$2 begin=$SECONDS status
    shift 2
    timeout --kill-after=5 "$limit" "$@"
    status=$?
    echo "-- $what: $((SECONDS - begin)) s, status $status"
    return $status
}

step image 180 ci/rdma/image.sh >"$LOGS/rdma_image.log" 2>&1
status=$?
cat "$LOGS/rdma_image.log"
if [ $status -ne 0 ]; then
    [ $status -ne 77 ] || grep "^skipped" "$LOGS/rdma_image.log"
    exit $status
fi
IMAGE=$(grep '^/' "$LOGS/rdma_image.log")

step "UCX of a wheel" 120 ci/rdma/ucx_wheel.sh "$OUT/ucx-other"
status=$?
if [ $status -eq 77 ]; then
    rm -rf "$OUT/ucx-other"
elif [ $status -ne 0 ]; then
    exit $status
fi
step build 180 ci/rdma/build.sh "$IMAGE" >"$LOGS/rdma_build.log" 2>&1 || {
    tail -n 30 "$LOGS/rdma_build.log"
    exit 1
}
tail -n 1 "$LOGS/rdma_build.log"
echo "$SLOW" >"$OUT/guest/slow"

step "without the guest" $((120 * SLOW)) ci/rdma/native.sh "$IMAGE" "$OUT" \
    "$LOGS/rdma_native.log" $((115 * SLOW))
logs=("$LOGS/rdma_native.log")
if [ -x $HOST_CARRIERS ]; then
    (
        . ci/rdma/guest/lib.sh
        export PEERCACHE_UCX_MODULE=$PWD/build/lib/peercache/libpeercache_ucx.so
        carrier() {
            PC_TEST_CARRIER=$1 run "carriers $1 $(pkg-config --modversion ucx)" 90 \
                $HOST_CARRIERS
        }
        host_tcp() { carrier tcp; }
        host_shm() { carrier shm; }
        try host_tcp
        try host_shm
        again
    ) >"$LOGS/rdma_host.log" 2>&1
    logs+=("$LOGS/rdma_host.log")
fi
step guest $((245 * SLOW)) ci/rdma/boot.sh "$IMAGE" "$OUT" "$LOGS/rdma_guest.log" \
    $((240 * SLOW))
logs+=("$LOGS/rdma_guest.log")
grep -h "guest: " "$LOGS/rdma_guest.log"
python3 ci/rdma/results.py ${JUNIT:+--junit "$JUNIT"} "${logs[@]}"
