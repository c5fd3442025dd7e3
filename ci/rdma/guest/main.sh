#!/bin/bash
# In the guest: make the devices, run the tests, say when what began.
say() { echo "guest: $* at $(cut -d' ' -f1 /proc/uptime) s"; }

ulimit -l unlimited
ulimit -c 0
say "up, kernel $(uname -r)"
modprobe -a rdma_rxe ib_uverbs dummy
ip link set lo up
# rxe0 works; rxe1's port is down.
ip link add nic0 type dummy
ip link set nic0 mtu 4500 up
ip addr add 10.0.9.1/24 dev nic0
ip link add nic1 type dummy
rdma link add rxe0 type rxe netdev nic0
rdma link add rxe1 type rxe netdev nic1
for _ in $(seq 50); do
    [ -e /dev/infiniband/uverbs0 ] && [ -e /dev/infiniband/uverbs1 ] && break
    sleep 0.1
done
rdma link
say ready
# All that is used for the first time takes long under emulation, longer than the
# library waits for a port.
. /out/guest/lib.sh
printf '%s\n' 'start protocol=rdma' 'end' |
    PC_TEST_CARRIER=verbs PEERCACHE_TEST_LOG=1 timeout 60 $CARRIERS peer 2>&1 | grep ucx:
say warm
bash /out/guest/tests.sh
say done
dmesg | grep -iE "rxe|rdma|segfault|oom|BUG|WARN" | tail -n 20
