#!/bin/bash
# Build the library and its tests for the guest, with the guest's own compiler
# and UCX, in build/rdma.
#
# usage: ci/rdma/build.sh IMAGE-FOLDER [further targets ...]
set -eu
cd "$(dirname "$0")/../.."
IMAGE=$1
shift
OUT=$PWD/build/rdma
TARGETS="peercache_ucx peercache_tls test_conformance_fabric_ucx test_integration_carriers"
mkdir -p "$OUT/guest"
cp ci/rdma/guest/*.sh "$OUT/guest/"
export OUT IMAGE JOBS="${JOBS:-2}" TARGETS="$TARGETS $*"

# In a mount namespace of its own: nothing stays mounted, however this ends. The
# tests find everything under /out, here and in the guest.
exec unshare --mount --propagation private bash -eu -c '
    mount --bind "$PWD" "$IMAGE/root/src"
    mount -o remount,bind,ro "$IMAGE/root/src"
    mount --bind "$OUT" "$IMAGE/root/out"
    mount -t proc proc "$IMAGE/root/proc"
    run="chroot $IMAGE/root env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C"
    [ -f "$OUT/build.ninja" ] || $run cmake -S /src -B /out -G Ninja \
        -DCMAKE_BUILD_TYPE=Release -DPEERCACHE_CHECKED=ON -DPEERCACHE_TOOLS=OFF
    $run ninja -C /out -j "$JOBS" $TARGETS'
