#!/bin/sh
# Fail on a C file that clang-format would change.
set -u
cd "$(dirname "$0")/../.." || exit 2
. ci/checks/files.sh

command -v clang-format >/dev/null || { echo "clang-format is missing"; exit 2; }
bad=0
for file in $(c_files '*.c' '*.h'); do
    if ! clang-format --dry-run -Werror "$file" >/dev/null 2>&1; then
        echo "$file: run clang-format -i"
        bad=1
    fi
done
exit $bad
