#!/bin/bash
# Many seeds of a simulation, in parts: each part that has ended is a line of a
# log, so that what is done counts when the rest is stopped, and a run that is
# started again with the same log goes on where it was.
#
# usage: ci/seeds.sh random|thousand FIRST N [LOG]
#   LOG     build/logs/seeds-NAME.txt, and LOG.SEED has what was said of one that failed
#   JOBS    parts side by side (1)
#   BUILD   the build folder (build)
#
# A line: the first seed, how many seeds from it on, passed or FAILED, the
# seconds it took, and what the test printed last. A seed that fails is a line of
# its own, and those after it are run all the same.
# The last line of the output sums up; the exit status is 1 if a seed has failed.
set -u
cd "$(dirname "$0")/.." || exit 2
[ $# -ge 3 ] || { sed -n 2,15p "$0" && exit 2; }
name=$1 first=$2 n=$3 log=${4:-build/logs/seeds-$1.txt}
case $name in
random) part=500 options= ;;
thousand) part=1 options=1000 ;;
*) echo "no such simulation: $name" && exit 2 ;;
esac
test=${BUILD:-build}/test/sim/test_sim_$name
[ -x "$test" ] || { echo "$test is not built" && exit 2; }
mkdir -p "$(dirname "$log")" && touch "$log" || exit 2

run_part() { # test, log, first seed, seeds, options
    local test=$1 log=$2 at=$3 end=$(($3 + $4)) options=${5:-} begin out seed
    while [ "$at" -lt "$end" ]; do
        begin=$SECONDS
        out=$(mktemp) || return 1
        # shellcheck disable=SC2086 # None, or one word.
        if "$test" $((end - at)) "$at" $options >"$out" 2>&1; then
            echo "$at $((end - at)) passed $((SECONDS - begin)) s: $(tail -n 1 "$out")" >>"$log"
            rm -f "$out"
            return 0
        fi
        seed=$(sed -n 's/^FAILED: seed \([0-9]*\).*/\1/p' "$out" | tail -n 1)
        # It was killed, or it died of a signal: nobody knows at which seed.
        [ -n "$seed" ] || { rm -f "$out" && return 1; }
        mv "$out" "$log.$seed"
        [ "$seed" -eq "$at" ] ||
            echo "$at $((seed - at)) passed $((SECONDS - begin)) s: before a seed that failed" >>"$log"
        echo "$seed 1 FAILED $((SECONDS - begin)) s: $(grep '^--- seed' "$log.$seed" | tail -n 1)" >>"$log"
        at=$((seed + 1))
    done
}
export -f run_part

# Seeds of a line that is there are not run again.
todo() {
    awk -v first="$first" -v n="$n" -v part="$part" '
        { for (i = $1; i < $1 + $2; i++) done[i] = 1 }
        END {
            for (at = first; at < first + n; at = end) {
                for (; at < first + n && (at in done); at++) { }
                for (end = at; end < first + n && end - at < part &&
                     !(end in done); end++) { }
                if (end > at) { print at, end - at }
            }
        }' "$log"
}

todo | xargs -r -P "${JOBS:-1}" -L 1 bash -c \
    'run_part "$1" "$2" "$4" "$5" "$3"' _ "$test" "$log" "$options"

awk -v first="$first" -v n="$n" -v name="$name" '
    $1 >= first && $1 < first + n {
        if ($3 == "passed") { passed += $2 } else { failed += $2 }
    }
    END {
        printf "%s: of %d seeds from %d on %d passed, %d failed, %d not run\n",
               name, n, first, passed, failed, n - passed - failed
        exit failed > 0 || passed + failed < n
    }' "$log"
