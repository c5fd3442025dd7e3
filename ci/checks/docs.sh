#!/bin/sh
# docs/configuration.md is what the table of settings generates.
# Usage: docs.sh <gen_config_docs> [--write]
set -u
[ $# -ge 1 ] && [ -x "$1" ] || { echo "usage: $0 <gen_config_docs> [--write]"; exit 2; }
generator=$(realpath "$1")
cd "$(dirname "$0")/../.." || exit 2

if [ "${2:-}" = --write ]; then
    "$generator" >docs/configuration.md
    exit
fi
if ! "$generator" | diff -u docs/configuration.md - >/dev/null 2>&1; then
    echo "docs/configuration.md: out of date, run $0 $1 --write"
    exit 1
fi
