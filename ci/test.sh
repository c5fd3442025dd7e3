#!/bin/bash
# Set up, build, test and check. The last line is "N passed, N failed".
#
# usage: ci/test.sh [--ci] [--long]
#   --ci    also what runs long or downloads much: wheels, the real SGLang,
#           sanitizers, a minute of threads against each other, the safety
#           rules taken out one by one, hosts that are cut and killed, reads over
#           RDMA in a guest, the demo
#   --long  also what runs longer still: more simulated seeds, benchmarks
#
# Each stage has a budget in seconds; when it is used up, the stage has failed.
# Logs, one a stage, are in build/logs.
set -u
cd "$(dirname "$0")/.." || exit 2
ROOT=$PWD
LOGS=$ROOT/build/logs
JOBS=${JOBS:-2}
# All stages together take under 30 minutes on two quiet cores; this is where
# something hangs.
TOTAL_S=4800
export ROOT LOGS JOBS

with_ci=no
with_long=no
for option in "$@"; do
    case $option in
    --ci) with_ci=yes ;;
    --long) with_long=yes TOTAL_S=18000 ;;
    *) sed -n '2,12s/^# \?//p' "$0" && exit 2 ;;
    esac
done

# ---- Stages ---------------------------------------------------------------

configure() { # preset, further options
    local preset=$1 launcher=
    shift
    command -v ccache >/dev/null && launcher=-DCMAKE_C_COMPILER_LAUNCHER=ccache
    cmake --preset "$preset" $launcher "$@"
}

run_ctest() { # name of the result, build folder, further options
    local result=$1 folder=$2
    shift 2
    ctest --test-dir "$folder" -j "$JOBS" --output-on-failure --no-tests=error \
        --test-output-size-passed 4000000 --test-output-size-failed 4000000 \
        --output-junit "$LOGS/$result.xml" "$@"
}

stage_setup() {
    ci/deps.sh
}

stage_build() {
    configure release -DCMAKE_INSTALL_PREFIX="$ROOT/build/stage" &&
        ninja -C build -j "$JOBS"
}

# Tests with real processes and real time share their cores with whatever else
# runs there: one that failed gets a second run, and the stage's line says so.
# What is not simply late fails twice.
stage_tests() {
    run_ctest tests build -LE "checks|ucx" --repeat until-pass:2
}

# UCX 1.13.1 aborts the process, now and then, when a peer leaves while its TCP
# carrier is being connected (docs/design-notes.md). These tests start and kill
# many nodes with that carrier, so one that failed gets up to four more runs; the log
# shows all.
stage_ucx() {
    run_ctest ucx build -L ucx --repeat until-pass:5
}

# Without isolation: what the build needs is in .venv already.
stage_package() {
    .venv/bin/pip install --disable-pip-version-check --no-build-isolation \
        --no-deps --force-reinstall -C build-dir="$ROOT/build/python" \
        ./bindings/python
}

# Late may happen on a busy machine, and is run again, with the reason in the log;
# wrong bytes may not.
stage_python() {
    local status=0
    # shellcheck source=ci/crash.sh
    . ci/crash.sh
    run_kept "$LOGS/python.out" .venv/bin/python -m pytest -q -p no:cacheprovider test/python \
        --reruns 2 --rerun-except "wrong bytes|written after" -r fER \
        --junitxml "$LOGS/python.xml" || status=$?
    say_crash "$LOGS/python.out" $status .venv/bin/python
    return $status
}

stage_checks() {
    run_ctest checks build -L checks
}

stage_format() {
    ci/checks/format.sh
}

stage_install() {
    rm -rf build/stage && cmake --install build >/dev/null &&
        cmake -S examples -B build/examples -G Ninja \
            -DCMAKE_PREFIX_PATH="$ROOT/build/stage" &&
        ninja -C build/examples -j "$JOBS"
}

# A port that nobody uses just now, for the nodes of an example to meet at.
free_port() {
    .venv/bin/python -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

# The blocks of a language in a Markdown file, with that port.
blocks() { # language, file, port
    sed -n "/^\`\`\`$1\$/,/^\`\`\`\$/{/^\`\`\`/!p}" "$2" | sed "s/31998/$3/"
}

stage_examples() {
    local flags example
    for example in put_get async_batch; do
        echo "-- $example, by find_package"
        build/examples/$example "127.0.0.1:$(free_port)" || return 1
    done
    export PKG_CONFIG_PATH=$ROOT/build/stage/lib/pkgconfig
    flags=$(pkg-config --cflags --libs peercache) || return 1
    for example in put_get async_batch; do
        echo "-- $example, by pkg-config"
        # shellcheck disable=SC2086 # One word a flag.
        cc -std=c11 -Wall -Wextra "examples/$example.c" \
            -o "build/examples/$example-pc" $flags \
            -Wl,-rpath,"$ROOT/build/stage/lib" &&
            "build/examples/$example-pc" "127.0.0.1:$(free_port)" || return 1
    done
    echo "-- hello.py"
    .venv/bin/python examples/hello.py "127.0.0.1:$(free_port)" || return 1
    echo "-- what README.md shows"
    export PEERCACHE_DISK_ENABLED=false # Else in /data, by default.
    blocks c README.md "$(free_port)" >build/examples/readme.c
    blocks python README.md "$(free_port)" >build/examples/readme.py
    blocks python bindings/python/README.md "$(free_port)" >build/examples/python.py
    # shellcheck disable=SC2086
    cc -std=c11 -Wall -Wextra -Werror build/examples/readme.c -o build/examples/readme \
        $flags -Wl,-rpath,"$ROOT/build/stage/lib" && build/examples/readme || return 1
    for example in readme python; do
        grep -q "assert" "build/examples/$example.py" &&
            .venv/bin/python "build/examples/$example.py" || return 1
    done
}

# One wheel for each Python that is found, each in a fresh environment, with the
# system's UCX, with PyPI's, and with none.
stage_wheels() {
    ci/wheel.sh && JUNIT=$LOGS/wheels.xml ci/wheel_test.sh
}

# The real SGLang on a CPU: pools, controllers, ranks, faults, older releases;
stage_sglang() {
    ci/sglang.sh install || return
    ci/sglang.sh component --junitxml "$LOGS/sglang.xml"
}

# a random sequence of calls beside SGLang's own file backend;
stage_sglang_file() {
    ci/sglang.sh differential --junitxml "$LOGS/sglang_file.xml"
}

# and two of its servers with a made-up model.
stage_sglang_pair() {
    ci/sglang.sh servers --junitxml "$LOGS/sglang_pair.xml"
}

# The protocol's model, and its rules taken out one by one.
stage_model() {
    ci/model.sh
}

# A test that was late may run again; what a sanitizer found, in any run, fails.
# What a test leaves that ended in its middle is not counted as leaked: what
# leaks by itself fails both runs.
run_sanitized() { # as run_ctest
    run_ctest "$@" | tee "$LOGS/$1.out"
    local status=${PIPESTATUS[0]}
    if grep -E "(ERROR|WARNING): [A-Za-z]*Sanitizer|: runtime error: " \
        "$LOGS/$1.out" | grep -vE "LeakSanitizer|thread leak"; then
        echo "found by a sanitizer, see above"
        return 1
    fi
    return "$status"
}

stage_asan() {
    export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1}
    configure asan -DPEERCACHE_TOOLS=OFF &&
        ninja -C build-asan -j "$JOBS" &&
        run_sanitized asan build-asan -LE "checks|ucx" --repeat until-pass:2
}

stage_asan_ucx() {
    export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1}
    run_ctest asan_ucx build-asan -L ucx --repeat until-pass:5
}

# Simulation, codecs and state machines have one thread: nothing to find there.
stage_tsan() {
    export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1}
    configure tsan -DPEERCACHE_TOOLS=OFF &&
        ninja -C build-tsan -j "$JOBS" &&
        run_sanitized tsan build-tsan -LE "checks|sim|fuzz|ucx" \
            --repeat until-pass:2 \
            -E "unit.(sim|proto|cluster|directory_ring|directory_shard)"
}

stage_tsan_ucx() {
    export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1 suppressions=$ROOT/ci/tsan.supp}
    run_ctest tsan_ucx build-tsan -L ucx --repeat until-pass:5
}

# Clusters of real processes in network namespaces; exits with 77, and says so,
# where namespaces are not allowed.
stage_hosts() {
    test/netns/run.py --build build --jobs $((2 * JOBS)) --junit "$LOGS/hosts.xml"
}

# The same with the times that nodes have by default, and what takes a minute.
stage_hosts_long() {
    test/netns/run.py --build build --long --jobs $((2 * JOBS)) \
        --junit "$LOGS/hosts_long.xml"
}

stage_rules() {
    ci/rules.sh
}

# One-sided reads on RDMA verbs, in a guest with a software device, without KVM;
# exits with 77, and says so, where a guest cannot be had.
stage_rdma() {
    ci/rdma/run.sh --junit "$LOGS/rdma.xml" --logs "$LOGS" --slow 3
}

stage_demo() {
    ci/demo.sh
}

stage_threads() {
    build/test/integration/test_integration_store_threads 60
}

# Random schedules of simulated clusters, beyond those of ctest: in parts, of which
# build/logs/seeds-* has a line each. By hand, ci/seeds.sh also goes on where it
# was stopped.
all_seeds() { # simulation, first one, seeds
    rm -f "$LOGS/seeds-$1-$2.txt"*
    ci/seeds.sh "$1" "$2" "$3" "$LOGS/seeds-$1-$2.txt"
}

stage_random() {
    all_seeds random 1 2000
}

stage_seeds() {
    all_seeds random 100000 100000
}

# Four gigabytes and a minute a seed.
stage_thousand() {
    JOBS=1 all_seeds thousand 1 20
}

stage_disk() {
    build/test/unit/test_unit_disk_crash --long
}

stage_bench() {
    test/bench/ratios.sh build/bin && build/bin/peercache-bench-cluster
}

export -f all_seeds blocks configure run_ctest run_sanitized free_port
export -f stage_setup stage_build stage_tests stage_package stage_python \
    stage_checks stage_format stage_install stage_examples stage_ucx \
    stage_model \
    stage_asan stage_asan_ucx stage_tsan_ucx \
    stage_wheels stage_sglang stage_sglang_file stage_sglang_pair \
    stage_tsan stage_rules stage_hosts stage_rdma stage_hosts_long stage_demo stage_threads \
    stage_random stage_seeds stage_thousand stage_disk stage_bench

# ---- Running them -----------------------------------------------------------

n_passed=0
n_failed=0
running=
declare -A stage_ok=()
declare -A n_kind=()

# What a stage that is no list of tests counts: itself.
count_stage() { # name, 0 or 1
    if [ "$2" -eq 0 ]; then
        n_passed=$((n_passed + 1))
    else
        n_failed=$((n_failed + 1))
    fi
}

# Add up a stage's tests; prints "N passed, N failed".
count_tests() { # name, exit status
    local kind passed failed skipped sum_passed=0 sum_failed=0 sum_skipped=0
    while read -r kind passed failed skipped; do
        sum_passed=$((sum_passed + passed))
        sum_failed=$((sum_failed + failed))
        sum_skipped=$((sum_skipped + skipped))
        if [ "$1" = tests ] || [ "$1" = ucx ] || [ "$1" = python ]; then
            n_kind[$kind]=$((${n_kind[$kind]:-0} + passed + failed))
        fi
    done < <(python3 ci/count.py "$LOGS/$1.xml")
    # It failed, and no test says so: the stage itself counts.
    if [ "$2" -ne 0 ] && [ $sum_failed -eq 0 ]; then
        sum_failed=1
    fi
    n_passed=$((n_passed + sum_passed))
    n_failed=$((n_failed + sum_failed))
    printf '%d passed, %d failed' $sum_passed $sum_failed
    [ $sum_skipped -eq 0 ] || printf ', %d skipped' $sum_skipped
}

# How many tests passed only when they were run again.
count_second_runs() { # name
    local n
    n=$(grep -c -e '^RERUN ' -e '\*\*\*\(Failed\|Exception\|Timeout\)' "$LOGS/$1.log")
    [ "$n" -eq 0 ] || printf ', %d run again' "$n"
}

show_failure() { # name, exit status, budget
    if [ "$2" -eq 124 ] || [ "$2" -eq 137 ]; then
        echo "   $1 has used up its $3 s"
    fi
    if [ -f "$LOGS/$1.xml" ]; then
        python3 ci/count.py --failed "$LOGS/$1.xml" | sed 's/^/   failed: /'
    fi
    echo "   the end of build/logs/$1.log:"
    tail -n 110 "$LOGS/$1.log" | sed 's/^/   | /'
}

# Run one stage: name, budget in seconds, stages that it needs.
stage() {
    local name=$1 budget=$2 begin=$SECONDS status text need
    shift 2
    for need in "$@"; do
        if [ "${stage_ok[$need]:-no}" = skipped ]; then
            printf '%-11s skipped, as %s was\n' "$name" "$need"
            return
        fi
        if [ "${stage_ok[$need]:-no}" != yes ]; then
            printf '%-11s not run: %s has failed\n' "$name" "$need"
            n_failed=$((n_failed + 1))
            return
        fi
    done
    if [ $((TOTAL_S - SECONDS)) -lt "$budget" ]; then
        budget=$((TOTAL_S > SECONDS ? TOTAL_S - SECONDS : 1))
    fi
    printf '%-11s ...\n' "$name"
    rm -f "$LOGS/$name.xml"
    timeout --kill-after=10 "$budget" bash -c "stage_$name" \
        >"$LOGS/$name.log" 2>&1 &
    running=$!
    wait $running
    status=$?
    running=
    if [ $status -eq 77 ]; then
        printf '%-11s %s\n' "$name" "$(tail -n 1 "$LOGS/$name.log")"
        stage_ok[$name]=skipped
        return
    fi
    if [ -f "$LOGS/$name.xml" ]; then
        # Not in a subshell: it adds to the sums.
        count_tests "$name" $status >"$LOGS/$name.sum"
        text=$(cat "$LOGS/$name.sum")$(count_second_runs "$name")
    else
        count_stage "$name" $status
        text=$([ $status -eq 0 ] && echo passed || echo FAILED)
    fi
    printf '%-11s %4d s of %4d  %s\n' "$name" $((SECONDS - begin)) "$budget" \
        "$text"
    if [ $status -eq 0 ]; then
        stage_ok[$name]=yes
    else
        show_failure "$name" $status "$budget"
    fi
}

# A stage is a process group of its own: take it along.
stop() {
    [ -z "$running" ] || kill -TERM "$running" 2>/dev/null
    echo "stopped"
    exit 130
}
trap stop INT TERM

mkdir -p "$LOGS"
stage setup 600
stage build 300 setup
stage tests 600 build
stage ucx 600 build
stage checks 60 build
stage format 60 setup
stage model 360 setup
stage install 120 build
stage package 180 setup
stage python 480 package
stage examples 60 install package
if [ $with_ci = yes ]; then
    stage wheels 480 setup
    stage sglang 900 setup
    stage sglang_file 300 sglang
    stage sglang_pair 1440 sglang
    stage asan 900 setup
    stage asan_ucx 600 asan
    stage tsan 900 setup
    stage tsan_ucx 900 tsan
    stage threads 120 build
    stage random 200 build
    stage rules 900 setup
    stage hosts 420 build
    stage rdma 1500 build
    stage demo 300 setup
fi
if [ $with_long = yes ]; then
    stage seeds 5400 build
    stage thousand 6000 build
    stage disk 300 build
    stage hosts_long 600 build
    stage bench 600 build
fi

for kind in $(printf '%s\n' "${!n_kind[@]}" | sort); do
    printf '  %-12s %d tests\n' "$kind" "${n_kind[$kind]}"
done
if [ $with_ci = no ]; then
    echo "left out without --ci: wheels, the real SGLang (2.5 GB), address," \
        "undefined-behaviour and thread sanitizers, a minute of threads, the" \
        "safety rules taken out one by one, real hosts, RDMA in a guest, the demo"
fi
if [ $with_long = no ]; then
    echo "left out without --long: more simulated seeds, real hosts with default times," \
        "benchmarks"
fi
echo "$n_passed passed, $n_failed failed"
[ $n_failed -eq 0 ]
