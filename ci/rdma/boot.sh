#!/bin/bash
# Boot the guest without KVM, run its tests, power it off.
#
# usage: ci/rdma/boot.sh IMAGE-FOLDER OUT-FOLDER LOG SECONDS
#
# OUT-FOLDER is read-only in the guest, the disk is never changed, and there is
# no network but the guest's own. Each line of the log begins with its time.
set -u
IMAGE=$1 OUT=$2 LOG=$3 LIMIT=$4
timeout --kill-after=5 "$LIMIT" qemu-system-x86_64 \
    -accel tcg,thread=multi -cpu max -smp 2 -m 3G -nographic -no-reboot -snapshot \
    -kernel "$IMAGE/vmlinuz" -initrd "$IMAGE/initrd" \
    -append "console=ttyS0 root=/dev/vda rw quiet init=/init-tests${APPEND:+ $APPEND}" \
    -drive "file=$IMAGE/disk.img,if=virtio,format=raw" \
    -virtfs "local,path=$OUT,mount_tag=out,security_model=none,readonly=on" \
    -device virtio-rng-pci -nic none -monitor none -serial stdio \
    </dev/null 2>&1 | python3 -u -c '
import sys, time
begin = time.monotonic()
for line in sys.stdin.buffer:
    text = line.decode("utf-8", "replace").rstrip()
    print(f"{time.monotonic() - begin:7.1f} {text}", flush=True)' >"$LOG"
exit "${PIPESTATUS[0]}"
