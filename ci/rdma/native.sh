#!/bin/bash
# Run the tests that need no RDMA device in the guest's files, on this kernel.
#
# usage: ci/rdma/native.sh IMAGE-FOLDER OUT-FOLDER LOG SECONDS
set -u
IMAGE=$1 OUT=$2 LOG=$3 LIMIT=$4
mkdir -p "$IMAGE/root/dev/shm"
export IMAGE OUT
timeout --kill-after=5 "$LIMIT" unshare --mount --pid --fork --kill-child \
    --propagation private bash -eu -c '
    mount --bind "$OUT" "$IMAGE/root/out"
    mount -o remount,bind,ro "$IMAGE/root/out"
    mount -t proc proc "$IMAGE/root/proc"
    mount -t sysfs -o ro sys "$IMAGE/root/sys"
    mount -t tmpfs tmpfs "$IMAGE/root/dev/shm"
    mount -t tmpfs tmpfs "$IMAGE/root/tmp"
    exec chroot "$IMAGE/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C \
        HOME=/root bash /out/guest/native.sh' </dev/null >"$LOG" 2>&1
