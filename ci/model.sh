#!/bin/bash
# Run the models of test/model with Spin.
#
# usage: ci/model.sh [--write] [NAME ...]     all of runs.txt, or these
#   --write  write test/model/counterexamples anew instead of comparing
#
# Good models: every state is visited, no property fails, and every statement
# is reached but those of unreached.txt. A rule taken out: a property fails, and
# the shortest way there, as text, is the one in the folder. Lastly, every
# function that README.md names must be in the file that it names.
#
# Exits with 77 where Spin or a C compiler is missing.
set -u
cd "$(dirname "$0")/.." || exit 2
ROOT=$PWD
MODELS=$ROOT/test/model
JOBS=${JOBS:-2}
# One run of Spin; the largest takes ten seconds.
LIMIT_S=180
export MODELS LIMIT_S

write=no
if [ "${1:-}" = --write ]; then
    write=yes
    shift
fi
if ! command -v spin >/dev/null || ! command -v gcc >/dev/null; then
    echo "the models are not checked: spin or gcc is not installed"
    exit 77
fi

WORK=$(mktemp -d "${TMPDIR:-/tmp}/peercache-model-XXXXXX") || exit 2
trap 'rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM
export WORK

# ---- One run ----------------------------------------------------------------

# The text of a trail: what the models print, and what was violated.
trail_text() { # model, switches
    local switch flags=()
    for switch in $2; do
        flags+=("-D$switch")
    done
    spin "${flags[@]}" -t -T -B "$1.pml" 2>&1 |
        awk '/^spin: text of failed assertion: / {
                 sub(/^spin: text of failed assertion: /, "violated: ")
                 print
                 exit
             }
             /^spin: / { next }
             { print }'
}

# name.out gets "errors states depth seconds"; name.unreached and name.txt, too.
run_one() { # kind, name, model, switches
    local kind=$1 name=$2 model=$3 switches=$4 switch begin folder search=
    local flags=()
    folder=$WORK/$name
    mkdir "$folder" && cp "$MODELS/$model.pml" "$folder" && cd "$folder" ||
        return 1
    for switch in $switches; do
        flags+=("-D$switch")
    done
    # By breadth: the shortest counterexample, and always the same. Most of its
    # time goes into compiling.
    [ "$kind" = good ] || search="-DBFS -O0"
    begin=$EPOCHREALTIME
    # shellcheck disable=SC2086 # No word or one.
    if ! spin "${flags[@]}" -a "$model.pml" >spin.log 2>&1 ||
        ! gcc -O1 -w -DSAFETY -DNOREDUCE -DVECTORSZ=1024 $search -o pan pan.c \
            >gcc.log 2>&1 ||
        ! timeout "$LIMIT_S" ./pan -m100000 -E >pan.log 2>&1; then
        cat spin.log gcc.log pan.log 2>/dev/null | tail -n 5 >"$WORK/$name.why"
        return 1
    fi
    awk -v begin="$begin" -v end="$EPOCHREALTIME" '
        /errors: / { errors = $NF; sub(/.*depth reached /, ""); depth = $0 + 0 }
        /states, stored/ { states = $1 }
        END { printf "%s %s %s %.1f\n", errors, states, depth, end - begin }' \
        pan.log >"$WORK/$name.out"
    if [ "$kind" = good ]; then
        grep -q "max search depth too small" pan.log &&
            echo "the search was cut off" >"$WORK/$name.why"
        sed -n 's/^\t\([a-z]*\.pml\):\([0-9]*\), state [0-9]*, "\(.*\)"$/\1:\2: \3/p' \
            pan.log | grep -v -- ': -end-$' | sort -u >"$WORK/$name.unreached"
    elif [ -f "$model.pml.trail" ]; then
        trail_text "$model" "$switches" >"$WORK/$name.trail"
    fi
    rm -f pan pan.?
}
export -f run_one trail_text

# ---- All of them ------------------------------------------------------------

trim() {
    sed 's/^[[:space:]]*//; s/[[:space:]]*$//' <<<"$1"
}

names=() kinds=() models=() switches=() whats=()
while IFS='|' read -r kind name model switch what; do
    name=$(trim "$name")
    if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then
        continue
    fi
    kinds+=("$(trim "$kind")") names+=("$name") models+=("$(trim "$model")")
    switches+=("$(trim "$switch")") whats+=("$(trim "$what")")
done < <(grep -v '^#' "$MODELS/runs.txt")
if [ ${#names[@]} -eq 0 ]; then
    echo "no such run in test/model/runs.txt: $*"
    exit 2
fi

# The largest are last in the list: they begin first.
for ((i = ${#names[@]} - 1; i >= 0; i--)); do
    printf '%s\0' "${kinds[i]}" "${names[i]}" "${models[i]}" "${switches[i]}"
done | xargs -0 -n 4 -P "$JOBS" bash -c 'run_one "$@"' run

failed=0
bad() { # what is wrong
    echo "     FAILED: $1"
    failed=$((failed + 1))
}

counterexample() { # index
    printf 'Taken out: %s.\nModel: %s.pml%s\n\n' "${whats[$1]}" \
        "${models[$1]}" "$(printf ' -D%s' ${switches[$1]})"
    cat "$WORK/${names[$1]}.trail"
}

look_at() { # index
    local name=${names[$1]} kind=${kinds[$1]} errors states depth seconds
    local kept=$MODELS/counterexamples/${names[$1]}.txt
    if [ ! -f "$WORK/$name.out" ]; then
        printf '%-17s does not run\n' "$name"
        bad "$(cat "$WORK/$name.why" 2>/dev/null)"
        return
    fi
    read -r errors states depth seconds <"$WORK/$name.out"
    printf '%-17s %9d states  depth %4d  %5.1f s  %s\n' "$name" "$states" \
        "$depth" "$seconds" "${whats[$1]}"
    if [ "$kind" = good ]; then
        [ "$errors" = 0 ] || bad "a property does not hold; see: spin -t"
        [ ! -f "$WORK/$name.why" ] || bad "$(cat "$WORK/$name.why")"
    elif [ "$errors" = 0 ] || [ ! -s "$WORK/$name.trail" ]; then
        bad "no property fails without the rule"
    elif [ $write = yes ]; then
        counterexample "$1" >"$kept"
    elif ! counterexample "$1" | diff -u "$kept" - >"$WORK/diff" 2>&1; then
        bad "the counterexample differs from test/model/counterexamples"
        sed 's/^/     | /' "$WORK/diff" | head -n 20
    fi
}

# What no good run of a model reaches, in any of its variants.
check_unreached() { # model
    local i n=0 name
    : >"$WORK/all"
    for i in "${!names[@]}"; do
        name=${names[i]}
        if [ "${kinds[i]}" = good ] && [ "${models[i]}" = "$1" ] &&
            [ -f "$WORK/$name.unreached" ]; then
            cat "$WORK/$name.unreached" >>"$WORK/all"
            n=$((n + 1))
        fi
    done
    [ $n -gt 0 ] || return
    sort "$WORK/all" | uniq -c |
        awk -v n=$n '$1 == n { sub(/^ *[0-9]+ /, ""); sub(/:[0-9]+:/, ":"); print }' |
        sort -u >"$WORK/never"
    while read -r line; do
        grep -qxF "$line" "$MODELS/unreached.txt" ||
            bad "never reached: $line"
    done <"$WORK/never"
}

# Lines of tables in README.md name functions as `lib/file.c:function`.
check_functions() {
    local place file function n=0
    while read -r place; do
        file=${place%%:*} function=${place##*:}
        n=$((n + 1))
        grep -q "\b$function(" "$ROOT/$file" 2>/dev/null ||
            bad "README.md names $place, which is not there"
    done < <(grep -o '`\(lib\|test\)/[a-z_/]*\.[ch]:[a-z_0-9]*`' \
        "$MODELS/README.md" | tr -d '`' | sort -u)
    echo "$n functions are named in test/model/README.md"
    [ $n -gt 0 ] || bad "README.md names no function"
}

mkdir -p "$MODELS/counterexamples"
for i in "${!names[@]}"; do
    look_at "$i"
done
for model in $(printf '%s\n' "${models[@]}" | sort -u); do
    check_unreached "$model"
done
check_functions
if [ $failed -gt 0 ]; then
    echo "models: $failed failed"
    exit 1
fi
echo "models: ${#names[@]} runs, as expected"
