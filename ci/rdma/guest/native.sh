#!/bin/bash
# In the guest's files, but on the host's kernel, which is faster: the carriers
# that need no device, with both versions of UCX.
. /out/guest/lib.sh
own=$(ucx_info -v 2>/dev/null | sed -n 's/.*version: //p' | head -n 1)
for carrier in tcp shm; do
    PC_TEST_CARRIER=$carrier run "carriers $carrier $own" 90 $CARRIERS
done
[ -d $OTHER_UCX ] || exit 0
other=$(cat $OTHER_UCX/version)
use_other_ucx
for carrier in tcp shm; do
    PC_TEST_CARRIER=$carrier run "carriers $carrier $other" 90 $CARRIERS
done
