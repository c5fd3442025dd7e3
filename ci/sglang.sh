#!/bin/bash
# Tests with the real SGLang, on a CPU. Opt-in: the environment takes 2.5 GB.
#
# usage: ci/sglang.sh install [VENV]      make the environment; quick if it is there
#        ci/sglang.sh package [VENV]      build and install only our package again
#        ci/sglang.sh STAGE [ARGUMENT...] run test/sglang/STAGE, such as component
#
# VENV is build/sglang-venv, or what PEERCACHE_SGLANG_VENV says. Beside it lie
# VENV-old (the unpacked older releases) and VENV-build (our package's build).
# Exit status 77: skipped, with the reason, for want of Python 3.11 or an index.
set -u
cd "$(dirname "$0")/.." || exit 2
ROOT=$PWD
SGLANG=0.5.23
OLD_RELEASES="0.5.6.post2 0.5.12.post1"
REQUIREMENTS=$ROOT/ci/sglang-requirements.txt
export PIP_DISABLE_PIP_VERSION_CHECK=1

skip() {
    echo "skipped: $*" >&2
    exit 77
}

fail() {
    echo "ci/sglang.sh: $*" >&2
    exit 1
}

# ---- What the system must have ----------------------------------------------

find_python() {
    local found
    for found in ${PEERCACHE_PYTHON311:-python3.11 /usr/bin/python3.11}; do
        if "$found" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 11))' \
            2>/dev/null; then
            echo "$found"
            return
        fi
    done
    return 1
}

has_glibc() { # at least 2.34, which the wheel asks for
    local version
    version=$(getconf GNU_LIBC_VERSION 2>/dev/null | awk '{ print $2 }')
    [ "$(printf '%s\n' 2.34 "${version:-0}" | sort -V | head -n 1)" = 2.34 ]
}

# SGLang hashes pages with a C++ extension that it builds at its first use.
need_compiler() {
    if command -v g++ >/dev/null && command -v ninja >/dev/null &&
        echo '#include <openssl/sha.h>' | g++ -E -x c++ - >/dev/null 2>&1; then
        return
    fi
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q &&
            DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
                --no-install-recommends g++ libssl-dev ninja-build && return
    fi
    skip "g++, ninja and OpenSSL's headers are needed (g++ ninja-build libssl-dev)"
}

# ---- The environment --------------------------------------------------------

# The first thing asked of the index: without it there is nothing to test.
fetch_wheels() { # pip, folder
    local pip=$1 folder=$2 version
    for version in $SGLANG $OLD_RELEASES; do
        ls "$folder"/sglang-"$version"-*.whl >/dev/null 2>&1 && continue
        "$pip" download -q --no-deps -d "$folder" "sglang==$version" ||
            return 1
    done
}

unpack_old() { # python, folder of wheels, folder to unpack into
    local version
    for version in $OLD_RELEASES; do
        [ -d "$3/$version/sglang" ] && continue
        rm -rf "$3/$version" && mkdir -p "$3/$version" &&
            "$1" -m zipfile -e "$2"/sglang-"$version"-*.whl "$3/$version" ||
            return 1
    done
}

# Proof that SGLang, its factory and its page hash work (the hash is compiled here,
# once in a user's account).
check_environment() { # python
    PYTHONPATH=$ROOT/test/sglang/shims "$1" -W ignore - <<'EOF'
from sglang.srt.mem_cache.storage.backend_factory import StorageBackendFactory
from sglang.srt.mem_cache.utils import get_hash_str

first = get_hash_str([1, 2, 3, 4], None, 2)[0]
assert first.startswith("34fb5c825de7ca4a"), first
print("SGLang's factory and page hash work:", StorageBackendFactory.__name__)
EOF
}

stamp() {
    cat "$REQUIREMENTS" "$ROOT/ci/sglang.sh" | sha256sum
}

install_environment() { # venv
    local venv=$1 python wheels=$1-old/wheels
    if [ "$(stamp)" = "$(cat "$venv/peercache-stamp" 2>/dev/null)" ]; then
        echo "$venv is complete"
        return
    fi
    python=$(find_python) || skip "no Python 3.11 (with venv) was found"
    has_glibc || skip "SGLang $SGLANG needs glibc 2.34 or later"
    need_compiler
    [ -x "$venv/bin/pip" ] || "$python" -m venv "$venv" || fail "no venv in $venv"
    mkdir -p "$wheels"
    fetch_wheels "$venv/bin/pip" "$wheels" ||
        skip "no package index has SGLang $SGLANG and $OLD_RELEASES"
    unpack_old "$venv/bin/python" "$wheels" "$venv-old" || fail "bad wheel in $wheels"
    "$venv/bin/pip" install -q -r "$REQUIREMENTS" || fail "requirements not installed"
    # Its own list is CUDA wheels that a CPU has no use for.
    "$venv/bin/pip" install -q --no-deps "$wheels"/sglang-$SGLANG-*.whl ||
        fail "SGLang not installed"
    check_environment "$venv/bin/python" || fail "the environment in $venv is not usable"
    stamp >"$venv/peercache-stamp"
}

# ---- Our package ------------------------------------------------------------

sources_stamp() {
    find CMakeLists.txt cmake lib transports bindings/python -type f \
        -not -path '*/build/*' -not -name '*.pyc' -print0 | sort -z |
        xargs -0 sha256sum | sha256sum
}

# As stage_package of ci/test.sh, with a build folder of its own.
install_package() { # venv
    local now
    now=$(sources_stamp)
    if [ "$now" = "$(cat "$1/package-stamp" 2>/dev/null)" ]; then
        return
    fi
    "$1/bin/pip" install -q --no-build-isolation --no-deps --force-reinstall \
        --config-settings=build-dir="$1-build" ./bindings/python ||
        fail "bindings/python not installed"
    echo "$now" >"$1/package-stamp"
}

# ---- Stages -----------------------------------------------------------------

run_stage() { # venv, stage, further arguments
    local venv=$1 stage=$2
    shift 2
    if [ ! -e "$venv/peercache-stamp" ]; then
        skip "$stage: no environment in $venv; make it with: ci/sglang.sh install"
    fi
    install_package "$venv"
    export PEERCACHE_SGLANG_OLD=$venv-old
    export PYTHONPATH=$ROOT/test/sglang/shims${PYTHONPATH:+:$PYTHONPATH}
    # Two processes of a few threads each share two cores.
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    exec "$venv/bin/python" -m pytest -q -p no:cacheprovider -W ignore --reruns 1 -r fER \
        "test/sglang/$stage" "$@"
}

verb=${1:-}
[ $# -eq 0 ] || shift
VENV=${PEERCACHE_SGLANG_VENV:-$ROOT/build/sglang-venv}
case $verb in
install)
    install_environment "$(realpath -m "${1:-$VENV}")"
    install_package "$(realpath -m "${1:-$VENV}")"
    ;;
package)
    install_package "$(realpath -m "${1:-$VENV}")"
    ;;
*)
    if [ -z "$verb" ] || [ ! -d "test/sglang/$verb" ]; then
        sed -n '2,11s/^# \?//p' "$0"
        exit 2
    fi
    run_stage "$(realpath -m "$VENV")" "$verb" "$@"
    ;;
esac
