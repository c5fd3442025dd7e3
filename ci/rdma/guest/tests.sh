#!/bin/bash
# In the guest: over verbs, with both versions of UCX.
. /out/guest/lib.sh
own=$(ucx_info -v | sed -n 's/.*version: //p' | head -n 1)
export PC_TEST_CARRIER=verbs
[ ! -d $OTHER_UCX ] || export PC_TEST_OTHER_UCX=$OTHER_UCX
run "conformance verbs $own" 120 $CONFORMANCE verbs
run "carriers verbs $own" 90 $CARRIERS
[ -d $OTHER_UCX ] || exit 0
other=$(cat $OTHER_UCX/version)
use_other_ucx
unset PC_TEST_OTHER_UCX
run "processes verbs $other" 60 $CONFORMANCE processes verbs
run "carriers verbs $other" 90 $CARRIERS
