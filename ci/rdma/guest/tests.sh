#!/bin/bash
# In the guest: the tests, each within its time.
export PEERCACHE_UCX_MODULE=/out/lib/peercache/libpeercache_ucx.so
ucx_info -v | head -1
run() { # name, seconds, command
    local name=$1 limit=$2 begin status
    shift 2
    echo "== begin $name"
    begin=$(date +%s%N)
    timeout --kill-after=5 "$limit" "$@" </dev/null 2>&1
    status=$?
    echo "== end $name status $status after $((($(date +%s%N) - begin) / 1000000)) ms"
}
run pingpong 20 bash -c 'ibv_devices; show_gids; (timeout 15 ibv_rc_pingpong -d rxe0 -g 1 -n 20 >/dev/null &) ; sleep 1; ibv_rc_pingpong -d rxe0 -g 1 -n 20 10.0.9.1'
run conformance-1.18 150 /out/test/conformance/test_conformance_fabric_ucx verbs
