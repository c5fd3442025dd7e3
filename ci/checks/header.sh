#!/bin/sh
# The public header stands alone: C11 and C++17, each compiler, no warnings.
set -u
cd "$(dirname "$0")/../.." || exit 2

bad=0
n_compilers=0
check() { # compiler, language, standard
    command -v "$1" >/dev/null || return
    n_compilers=$((n_compilers + 1))
    if ! echo '#include <peercache/peercache.h>' |
        "$1" -x "$2" -std="$3" -Ilib/include -Wall -Wextra -Wpedantic \
            -Werror -fsyntax-only -; then
        echo "peercache.h: warnings or errors with $1 as $3"
        bad=1
    fi
}
for compiler in gcc clang; do
    check $compiler c c11
done
for compiler in g++ clang++; do
    check $compiler c++ c++17
done
[ $n_compilers -gt 0 ] || { echo "no compiler found"; exit 2; }
exit $bad
