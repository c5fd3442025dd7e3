#!/bin/bash
# UCX 1.23 with verbs, out of a wheel of PyPI, as a folder that stands in for
# the guest's own: Debian's packages of that version come without verbs.
#
# usage: ci/rdma/ucx_wheel.sh TARGET
#
# In the guest: LD_LIBRARY_PATH=TARGET UCX_MODULE_DIR=TARGET/ucx
# Exits with 77, and a line that says why, where the wheel cannot be had.
set -eu
cd "$(dirname "$0")/../.."
WHEEL=nixl-cu12==1.5.1
TARGET=$1
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/peercache/rdma-wheel/$WHEEL

if [ ! -d "$CACHE/libs" ]; then
    rm -rf "$CACHE"
    mkdir -p "$CACHE/new"
    if [ -x .venv/bin/pip ]; then pip=.venv/bin/pip; else pip="python3 -m pip"; fi
    $pip download -q --disable-pip-version-check --no-deps \
        --only-binary=:all: --python-version 3.12 -d "$CACHE" "$WHEEL" || {
        echo "skipped: $WHEEL cannot be downloaded"
        exit 77
    }
    python3 -m zipfile -e "$CACHE"/*.whl "$CACHE/new"
    mv "$CACHE"/new/*.libs "$CACHE/libs"
    rm -rf "$CACHE/new" "$CACHE"/*.whl
fi

rm -rf "$TARGET"
mkdir -p "$TARGET/ucx"
cp -a "$CACHE"/libs/libuc[mpst]-*.so* "$TARGET/"
cp -a "$CACHE"/libs/ucx/libuct_ib.so.0.* "$CACHE"/libs/ucx/libuct_cma.so.0.* "$TARGET/ucx/"
for lib in ucp uct ucs ucm; do
    (cd "$TARGET" && ln -s lib$lib-*.so.* lib$lib.so.0)
done
for module in ib cma; do
    (cd "$TARGET/ucx" && ln -s libuct_$module.so.0.* libuct_$module.so.0)
done
# The wheel's own libibverbs does not know rxe: its name leads to the guest's.
name=$(readelf -d "$TARGET/ucx/libuct_ib.so.0" |
    sed -n 's/.*\[\(libibverbs-[^]]*\)\].*/\1/p')
ln -s /usr/lib/x86_64-linux-gnu/libibverbs.so.1 "$TARGET/$name"
# The libraries say it only when they run.
grep -aoE -m 1 '1\.[0-9]+\.[0-9]+' "$TARGET/libucp.so.0" | head -n 1 >"$TARGET/version"
