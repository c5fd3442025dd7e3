#!/bin/sh
# Install what building and testing needs and is missing, on Debian 12 or later.
# Usage: ci/deps.sh [--no-venv]
# Does nothing, and needs no rights, when all is there.
set -eu
cd "$(dirname "$0")/.."

PACKAGES="
    gcc g++ make cmake ninja-build pkg-config ccache git
    clang clang-format libclang-rt-dev
    libucx-dev ucx-utils libhwloc-dev libmsgpack-dev libxxhash-dev
    libcmocka-dev libjansson-dev libssl-dev openssl
    spin iproute2
    python3 python3-venv python3-dev
"
# For the guest with a software RDMA device; its tests are skipped without them.
GUEST_PACKAGES="debootstrap qemu-system-x86 e2fsprogs seabios ipxe-qemu"
PYTHON_PACKAGES="pytest pytest-rerunfailures numpy mypy scikit-build-core ninja"

# Some packages have other names, or a version in them, on other releases.
is_known() {
    apt-cache show "$1" 2>/dev/null | grep -q '^Package:'
}
alternatives() {
    case $1 in
    libmsgpack-dev) echo "libmsgpack-dev libmsgpack-c-dev" ;;
    libclang-rt-dev)
        version=$(clang -dumpversion 2>/dev/null | cut -d. -f1)
        echo "libclang-rt-${version:-14}-dev libclang-rt-14-dev"
        ;;
    *) echo "$1" ;;
    esac
}
is_installed() {
    dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'
}

missing_packages() {
    for package in $PACKAGES; do
        found=no
        for name in $(alternatives "$package"); do
            is_installed "$name" && found=yes
        done
        [ $found = yes ] || echo "$package"
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "needs root or sudo: $*" >&2
        exit 1
    fi
}

install_packages() {
    as_root apt-get update -q
    names=
    for package in "$@"; do
        for name in $(alternatives "$package"); do
            if is_known "$name"; then
                names="$names $name"
                break
            fi
        done
    done
    echo "installing:$names"
    # shellcheck disable=SC2086 # One word a package.
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends $names
}

missing_python() {
    [ -x .venv/bin/python ] || { echo "$PYTHON_PACKAGES"; return; }
    for package in $PYTHON_PACKAGES; do
        .venv/bin/python -c \
            "import importlib.metadata as m; m.version('$package')" \
            2>/dev/null || echo "$package"
    done
}

if ! command -v apt-get >/dev/null; then
    echo "not a Debian system; install what these packages contain:" $PACKAGES >&2
    exit 1
fi

missing=$(missing_packages)
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086
    install_packages $missing
fi

missing=
for package in $GUEST_PACKAGES; do
    is_installed "$package" || missing="$missing $package"
done
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086
    (install_packages $missing) ||
        echo "no guest with an RDMA device: these cannot be installed:$missing"
fi

if [ "${1:-}" != --no-venv ]; then
    missing=$(missing_python)
    if [ -n "$missing" ]; then
        echo "installing into .venv:" $missing
        [ -x .venv/bin/python ] || python3 -m venv .venv
        # shellcheck disable=SC2086
        .venv/bin/pip install -q $missing
    fi
fi
