# Read by the other scripts: how a program of tests is run, and what is said
# around it, for ci/rdma/results.py to read.
OUT=/out
export PEERCACHE_UCX_MODULE=$OUT/lib/peercache/libpeercache_ucx.so
CONFORMANCE=$OUT/test/conformance/test_conformance_fabric_ucx
CARRIERS=$OUT/test/integration/test_integration_carriers
OTHER_UCX=$OUT/ucx-other
SLOW=$(cat $OUT/guest/slow 2>/dev/null || echo 1)

run() { # name, seconds, command
    local name=$1 limit=$2 begin status
    shift 2
    echo "== begin $name"
    begin=$(date +%s%N)
    timeout --kill-after=5 $((limit * SLOW)) "$@" </dev/null 2>&1
    status=$?
    echo "== end $name status $status after $((($(date +%s%N) - begin) / 1000000)) ms"
    return $status
}

# Functions that run() programs, side by side; results.py takes their lines
# apart again.
lanes() { # functions
    local lane
    for lane in "$@"; do
        ($lane) | sed -u "s/^/$lane| /" &
    done
    wait
}

# What is not simply late fails twice, the second time with the machine to
# itself.
FAILED=$(mktemp)
try() { # function that runs one program
    "$1" || echo "$1" >>"$FAILED"
}
again() {
    local program
    for program in $(cat "$FAILED"); do
        ($program)
    done
    rm -f "$FAILED"
}

# Programs that follow take the other version of UCX.
use_other_ucx() {
    export LD_LIBRARY_PATH=$OTHER_UCX UCX_MODULE_DIR=$OTHER_UCX/ucx
}
