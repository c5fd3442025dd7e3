#!/bin/bash
# Build PeerCache, install it into a folder of this repository, build the demo
# against that and run it: four nodes as four processes share the KV pages of a
# chat, and one of them is killed.
#
# usage: ci/demo.sh [--trace FILE] [option of peercache-demo ...]
#
# The last line is "demo: ok ..." (exit status 0) or "demo: FAILED ...".
set -u
cd "$(dirname "$0")/.." || exit 2
ROOT=$PWD
BUILD=$ROOT/build-demo
JOBS=${JOBS:-2}
BUILD_S=150 # Seconds that each of these may take.
RUN_S=120

fail() {
    echo "demo: FAILED ($*)"
    exit 1
}

# Run quietly with a limit; show the end of what it said if it fails.
step() { # what, seconds, command ...
    local what=$1 limit=$2 begin=$SECONDS status
    shift 2
    echo "$what ..."
    timeout --kill-after=5 "$limit" "$@" >"$BUILD/step.log" 2>&1
    status=$?
    if [ $status -ne 0 ]; then
        tail -n 30 "$BUILD/step.log"
        fail "$what, status $status"
    fi
    echo "  $((SECONDS - begin)) s"
}

# The path of a trace is meant from where the user stands.
arguments=()
before=
for argument in "$@"; do
    if [ "$before" = --trace ] && [ -f "$OLDPWD/$argument" ]; then
        argument=$OLDPWD/$argument
    fi
    arguments+=("$argument")
    before=$argument
done

mkdir -p "$BUILD"
ci/deps.sh --no-venv || fail "packages are missing"

launcher=
command -v ccache >/dev/null && launcher=-DCMAKE_C_COMPILER_LAUNCHER=ccache
# shellcheck disable=SC2086 # Nothing, when there is no launcher.
step "configure" 60 cmake -S . -B "$BUILD/library" -G Ninja \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$BUILD/stage" \
    -DPEERCACHE_TESTS=OFF -DPEERCACHE_TOOLS=OFF $launcher
step "build the library" $BUILD_S ninja -C "$BUILD/library" -j "$JOBS" install
step "configure the demo" 60 cmake -S examples -B "$BUILD/examples" -G Ninja \
    -DCMAKE_PREFIX_PATH="$BUILD/stage"
step "build the demo" 60 ninja -C "$BUILD/examples" -j "$JOBS" peercache-demo

echo "run (the nodes' logs are in build-demo/logs)"
timeout --kill-after=5 $RUN_S "$BUILD/examples/demo/peercache-demo" \
    --logs "$BUILD/logs" "${arguments[@]+"${arguments[@]}"}"
status=$?
case $status in
124 | 137) fail "not done after $RUN_S s" ;;
0 | 1) exit $status ;; # It has said so itself.
*) fail "status $status" ;;
esac
