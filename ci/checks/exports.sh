#!/bin/sh
# The shared library exports what the public header declares and nothing else.
# Usage: exports.sh <libpeercache.so>
set -u
[ $# -eq 1 ] && [ -f "$1" ] || { echo "usage: $0 <libpeercache.so>"; exit 2; }
library=$(realpath "$1")
cd "$(dirname "$0")/../.." || exit 2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nm -D --defined-only "$library" | awk '{ sub(/@.*/, "", $3); print $3 }' |
    sort -u >"$work/exported"
# After preprocessing: every name that is declared as a function.
echo '#include <peercache/peercache.h>' | gcc -E -P -Ilib/include -x c - |
    grep -o 'peercache_[a-z_]*(' | tr -d '(' | sort -u >"$work/declared"

bad=0
for name in $(comm -23 "$work/exported" "$work/declared"); do
    echo "$name: exported but not in peercache.h"
    bad=1
done
for name in $(comm -13 "$work/exported" "$work/declared"); do
    echo "$name: in peercache.h but not exported"
    bad=1
done
exit $bad
