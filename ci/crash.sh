# What is known of a program that a signal ended: for ci/test.sh and
# ci/wheel_test.sh, to be sourced. A stage's log is often read from its end only,
# so they say it there.
# shellcheck shell=bash

# Run a command with its output here and in the file, and with a core where the
# system leaves one. Returns the command's status.
run_kept() { # file, command
    local kept=$1 status
    shift
    : >"$kept.begin"
    (ulimit -c unlimited 2>/dev/null; "$@") 2>&1 | tee "$kept"
    status=${PIPESTATUS[0]}
    return "$status"
}

# The core that such a command left, if any.
core_since() { # file of run_kept
    local pattern folder=.
    pattern=$(cat /proc/sys/kernel/core_pattern)
    case $pattern in
    '|'*) return 0 ;; # It goes to a program.
    */*) folder=${pattern%/*} ;;
    esac
    find "$folder" -maxdepth 1 -type f -name "$(basename "${pattern%%\%*}")*" \
        -newer "$1.begin" 2>/dev/null | head -n 1
}

# At most 100 lines. A status of 128 and more is that of a signal; 124 and 137 are
# those of a time that was used up.
say_crash() { # file of run_kept, status, program
    local core
    [ "$2" -ge 128 ] && [ "$2" -ne 137 ] && [ "$2" -ne 143 ] || return 0
    echo "-- signal $(($2 - 128)) ended it:"
    sed -n '/Fatal Python error/,$p' "$1" | head -n 60
    core=$(core_since "$1")
    if [ -n "$core" ] && command -v gdb >/dev/null; then
        gdb -q -batch -ex 'bt 20' -ex 'thread apply all bt 6' "$3" "$core" 2>/dev/null |
            grep -E '^(#|Thread )' | cut -c 1-200 | head -n 38 || true
    fi
    case $core in ./*) rm -f "$core" ;; esac # Not into a working tree.
}
