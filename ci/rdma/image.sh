#!/bin/bash
# Build the guest's disk, kernel and initrd: a small Debian 13 with a software
# RDMA device, UCX with verbs, and what building the library needs. Prints the
# folder where they are. Does nothing when they are there.
#
# usage: ci/rdma/image.sh
#
# They are kept outside of the tree, in $XDG_CACHE_HOME/peercache/rdma, in a
# folder that is named by this recipe's hash: a changed recipe builds anew, and
# images that nobody used for two weeks go. Needs root, as debootstrap does.
# Exits with 77, and a last line that says why, where it cannot be built.
set -eu
cd "$(dirname "$0")"
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/peercache/rdma
SUITE=trixie

# The kernel is the whole one: the one for clouds has no rdma_rxe.
GUEST="linux-image-amd64 initramfs-tools zstd kmod udev iproute2 procps
    rdma-core ibverbs-providers ibverbs-utils perftest libucx0 ucx-utils"
# automake is what libltdl-dev asks for by a name that debootstrap cannot resolve.
BUILD="gcc libc6-dev cmake ninja-build pkgconf automake
    libucx-dev libhwloc-dev libmsgpack-c-dev libxxhash-dev libcmocka-dev libssl-dev"

skip() {
    echo "skipped: $*"
    exit 77
}

# This machine's own package source, if it has Debian's $SUITE as well.
find_archive() {
    local url
    for url in $(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' \
        'Label: Debian' 2>/dev/null | sort -u); do
        if /usr/lib/apt/apt-helper download-file \
            "${url%/}/dists/$SUITE/InRelease" "$1/InRelease" >/dev/null 2>&1; then
            echo "${url%/}"
            return
        fi
    done
    return 1
}

# Runs as process 1: finds the tests and hands over.
write_init() { # file
    cat >"$1" <<'INIT'
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/shm /dev/pts /out
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
modprobe -a 9p 9pnet_virtio
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro out /out &&
    bash /out/guest/main.sh
sync
echo o >/proc/sysrq-trigger
sleep 10
INIT
    chmod 755 "$1"
}

build() { # folder
    local archive packages
    archive=$(find_archive "$1") ||
        skip "this machine's package sources do not serve Debian $SUITE"
    packages=$(echo $GUEST $BUILD | tr ' ' ',')
    debootstrap --variant=minbase --include="$packages" $SUITE "$1/root" "$archive" \
        >"$1/debootstrap.log" 2>&1 || {
        tail -n 5 "$1/debootstrap.log" "$1/root/debootstrap/debootstrap.log" || true
        echo "debootstrap has failed"
        exit 1
    }
    rm -rf "$1"/root/var/cache/apt/archives/*.deb "$1"/root/var/lib/apt/lists/* \
        "$1"/root/usr/share/doc/* "$1"/root/usr/share/locale/*
    mkdir -p "$1/root/out" "$1/root/src"
    write_init "$1/root/init-tests"
    cp "$1"/root/boot/vmlinuz-* "$1/vmlinuz"
    cp "$1"/root/boot/initrd.img-* "$1/initrd"
    truncate -s 3G "$1/disk.img"
    mke2fs -q -t ext4 -O ^has_journal -d "$1/root" "$1/disk.img"
}

[ "$(uname -m)" = x86_64 ] || skip "the guest is for x86_64"
[ "$(id -u)" -eq 0 ] || skip "building the guest needs root"
for tool in debootstrap mke2fs qemu-system-x86_64 apt-get unshare; do
    command -v $tool >/dev/null || skip "$tool is not installed"
done

mkdir -p "$CACHE"
exec 9>"$CACHE/lock"
flock 9
hash=$(sha256sum "$(basename "$0")" | cut -c 1-16)
folder=$CACHE/$hash
if [ ! -f "$folder/disk.img" ]; then
    rm -rf "$CACHE/new"
    mkdir -p "$CACHE/new"
    build "$CACHE/new" 9>&-
    rm -rf "$folder"
    mv "$CACHE/new" "$folder"
fi
touch "$folder"
find "$CACHE" -mindepth 1 -maxdepth 1 -type d -mtime +14 -exec rm -rf {} +
echo "$folder"
