#!/bin/bash
# Take out the safety rules of the design one by one: each must be missed.
#
# usage: ci/rules.sh [NN ...]      all of test/rules, or these numbers
#
# test/rules/NN.patch is a unified diff that takes one rule out, behind lines
#     Rule: what is taken out, in a sentence
#     Test: name of a test in ctest [arguments of its program]
#     Timeout: seconds (60)
#     Sanitize: address,undefined or thread (none)
# The last two are optional. In a copy of the tree each patch must apply and
# build, and its test, which passes without it, must then fail.
set -u
cd "$(dirname "$0")/.." || exit 2
ROOT=$PWD
JOBS=${JOBS:-2}

COPY=$(mktemp -d "${TMPDIR:-/tmp}/peercache-rules-XXXXXX") || exit 2
child=
clean_up() {
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
    rm -rf "$COPY"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

git ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' file; do
        [ -f "$file" ] && printf '%s\0' "$file"
    done | tar --null -T - -cf - | tar -C "$COPY" -xf - || exit 2

field() { # patch, name
    sed -n "/^diff \|^--- /q; s/^$2: *//p" "$1" | head -1
}

# The build folder for a kind of sanitizer, made when it is first asked for.
# Cheap to compile, with what cannot happen asserted.
build_folder() { # sanitizer or nothing
    local folder=$COPY/build${1:+-${1%%,*}}
    if [ ! -f "$folder/build.ninja" ]; then
        cmake -S "$COPY" -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release \
            -DCMAKE_C_FLAGS_RELEASE=-O1 -DPEERCACHE_CHECKED=ON \
            -DPEERCACHE_TOOLS=OFF ${1:+-DPEERCACHE_SANITIZE=$1} \
            >"$COPY/log" 2>&1 || return 1
    fi
    echo "$folder"
}

# sim.get is built by test_sim_get; tests of other kinds by what they are.
build_target() { # folder, test
    local targets=test_${2//./_}
    case $2 in
    fuzz.*) targets=fuzz_${2#fuzz.}_replay ;;
    *ucx*) targets="$targets peercache_ucx" ;;
    esac
    # shellcheck disable=SC2086 # One word a target.
    timeout 300 ninja -C "$1" -j "$JOBS" $targets >"$COPY/log" 2>&1
}

# 0: passes. 124: not done in time. Else it fails.
run_test() { # folder, test, seconds, arguments
    local folder=$1 test=$2 seconds=$3 program status
    shift 3
    if [ $# -gt 0 ]; then
        program=$(find "$folder" -name "test_${test//./_}" -type f | head -1)
        [ -n "$program" ] || return 0
        timeout --kill-after=2 "$seconds" "$program" "$@" >"$COPY/log" 2>&1 &
    else
        ctest --test-dir "$folder" -R "^${test//./\\.}\$" --no-tests=ignore \
            --timeout "$seconds" --output-on-failure >"$COPY/log" 2>&1 &
    fi
    child=$!
    wait $child
    status=$?
    child=
    if grep -q '\*\*\*Timeout' "$COPY/log"; then
        status=124
    fi
    return $status
}

passed=0
failed=0
say() { # number, result, seconds, what
    printf '  %s %-5s %4d s  %s\n' "$@"
    if [ "$2" = ok ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        tail -n 15 "$COPY/log" | sed 's/^/     | /'
    fi
}

declare -A passes_without=() # Test and its arguments, in a build.

take_out() { # patch
    local patch=$1 begin=$SECONDS number rule test seconds sanitize folder why
    number=$(basename "$patch" .patch)
    rule=$(field "$patch" Rule)
    seconds=$(field "$patch" Timeout)
    sanitize=$(field "$patch" Sanitize)
    read -r -a test <<<"$(field "$patch" Test)"
    seconds=${seconds:-60}
    : >"$COPY/log"
    if [ -z "$rule" ] || [ ${#test[@]} -eq 0 ]; then
        say "$number" FAIL 0 "the lines Rule: and Test: are wanted"
        return
    fi
    folder=$(build_folder "$sanitize") || {
        say "$number" FAIL 0 "the copy cannot be configured"
        return
    }
    local key="$folder ${test[*]}"
    if [ "${passes_without[$key]:-no}" = no ]; then
        if ! build_target "$folder" "${test[0]}"; then
            say "$number" FAIL $((SECONDS - begin)) \
                "${test[0]} does not build with the rule in place: $rule"
            return
        fi
        if ! run_test "$folder" "${test[0]}" "$seconds" "${test[@]:1}"; then
            say "$number" FAIL $((SECONDS - begin)) \
                "${test[*]} does not pass with the rule in place: $rule"
            return
        fi
        passes_without[$key]=yes
    fi
    if ! git -C "$COPY" apply "$patch" >"$COPY/log" 2>&1; then
        say "$number" FAIL $((SECONDS - begin)) "does not apply: $rule"
        return
    fi
    why=
    if ! build_target "$folder" "${test[0]}"; then
        why="does not build"
    else
        run_test "$folder" "${test[0]}" "$seconds" "${test[@]:1}"
        case $? in
        0) why="${test[*]} passes all the same" ;;
        124 | 137) why="${test[*]} is not done in $seconds s" ;;
        esac
    fi
    git -C "$COPY" apply -R "$patch" || why="${why:-does not come off again}"
    if [ -n "$why" ]; then
        say "$number" FAIL $((SECONDS - begin)) "$why: $rule"
    else
        say "$number" ok $((SECONDS - begin)) "$rule (${test[*]})"
    fi
}

export GIT_CEILING_DIRECTORIES=${COPY%/*} # The copy is no repository.
patches=()
if [ $# -gt 0 ]; then
    for number in "$@"; do
        patches+=("$ROOT/test/rules/$number.patch")
    done
else
    if [ ! -d "$ROOT/test/rules" ]; then
        echo "rules: the folder test/rules is missing"
        exit 1
    fi
    shopt -s nullglob
    patches=("$ROOT"/test/rules/*.patch)
    shopt -u nullglob
    echo "${#patches[@]} rules"
fi
for patch in "${patches[@]+"${patches[@]}"}"; do
    if [ ! -f "$patch" ]; then
        echo "no patch ${patch#"$ROOT"/}"
        failed=$((failed + 1))
        continue
    fi
    take_out "$patch"
done
echo "rules: $passed missed when taken out, $failed failed"
[ $failed -eq 0 ]
