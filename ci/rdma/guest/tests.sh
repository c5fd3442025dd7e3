#!/bin/bash
# In the guest: over verbs, with both versions of UCX side by side.
. /out/guest/lib.sh
own=$(ucx_info -v | sed -n 's/.*version: //p' | head -n 1)
export PC_TEST_CARRIER=verbs

conformance_own() { run "conformance verbs $own" 180 $CONFORMANCE verbs; }
carriers_own() {
    [ ! -d $OTHER_UCX ] || export PC_TEST_OTHER_UCX=$OTHER_UCX
    run "carriers verbs $own" 150 $CARRIERS
}
conformance_other() {
    use_other_ucx
    run "conformance verbs $(cat $OTHER_UCX/version)" 180 $CONFORMANCE verbs
}
carriers_other() {
    use_other_ucx
    run "carriers verbs $(cat $OTHER_UCX/version)" 150 $CARRIERS
}
own_ucx() {
    try conformance_own
    try carriers_own
}
other_ucx() {
    try carriers_other
    try conformance_other
}

if [ -d $OTHER_UCX ]; then
    lanes own_ucx other_ucx
else
    lanes own_ucx
fi
again
