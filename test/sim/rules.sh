#!/bin/bash
# Which of the safety rules does the random simulation miss when it is taken
# out, and after how many seeds? One line a rule; a table for the notes.
#
# usage: test/sim/rules.sh [-n SEEDS] [NN ...]    all of test/rules, or these
#
# Patches as for ci/rules.sh, which has each one fail its own test. Rules that
# keep threads apart cannot fail here: the simulation has one thread.
set -u
cd "$(dirname "$0")/../.." || exit 2
ROOT=$PWD
seeds=2000
if [ "${1:-}" = -n ]; then
    seeds=$2
    shift 2
fi

COPY=$(mktemp -d "${TMPDIR:-/tmp}/peercache-sim-rules-XXXXXX") || exit 2
trap 'rm -rf "$COPY"' EXIT
git ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' file; do
        [ -f "$file" ] && printf '%s\0' "$file"
    done | tar --null -T - -cf - | tar -C "$COPY" -xf - || exit 2
export GIT_CEILING_DIRECTORIES=${COPY%/*} # The copy is no repository.
cmake -S "$COPY" -B "$COPY/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DPEERCACHE_CHECKED=ON -DPEERCACHE_TOOLS=OFF >"$COPY/log" 2>&1 || exit 2

if [ $# -eq 0 ]; then
    for patch in test/rules/*.patch; do
        set -- "$@" "$(basename "$patch" .patch)"
    done
fi
for number in "$@"; do
    patch=$ROOT/test/rules/$number.patch
    rule=$(sed -n '/^diff \|^--- /q; s/^Rule: *//p' "$patch" | head -1)
    result="does not apply"
    if git -C "$COPY" apply "$patch" 2>/dev/null; then
        result="does not build"
        if ninja -C "$COPY/build" -j "${JOBS:-2}" test_sim_random \
            >"$COPY/log" 2>&1; then
            "$COPY/build/test/sim/test_sim_random" "$seeds" 1 \
                >"$COPY/log" 2>&1
            seed=$(sed -n 's/^FAILED: seed \([0-9]*\).*/\1/p' "$COPY/log" |
                tail -1)
            what=$(sed -n 's/^--- seed [0-9]*, [0-9.]* ms: //p' "$COPY/log" |
                tail -1)
            result="not in $seeds seeds"
            [ -z "$seed" ] || result="seed $seed: ${what:-stops with a signal}"
        fi
        git -C "$COPY" apply -R "$patch" || exit 2
    fi
    printf '%-9s %-66s %s\n' "$number" "$rule" "$result"
done
