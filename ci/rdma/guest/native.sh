#!/bin/bash
# In the guest's files, but on the host's kernel, which is faster: the carriers
# that need no device, with both versions of UCX side by side.
. /out/guest/lib.sh
own=$(ucx_info -v 2>/dev/null | sed -n 's/.*version: //p' | head -n 1)

carrier() { # name, version
    PC_TEST_CARRIER=$1 run "carriers $1 $2" 90 $CARRIERS
}
tcp_own() { carrier tcp "$own"; }
shm_own() { carrier shm "$own"; }
tcp_other() {
    use_other_ucx
    carrier tcp "$(cat $OTHER_UCX/version)"
}
shm_other() {
    use_other_ucx
    carrier shm "$(cat $OTHER_UCX/version)"
}
own_ucx() {
    try tcp_own
    try shm_own
}
# In the other order: one waits where the other works.
other_ucx() {
    try shm_other
    try tcp_other
}

if [ -d $OTHER_UCX ]; then
    lanes own_ucx other_ucx
else
    lanes own_ucx
fi
again
