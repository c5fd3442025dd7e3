# Sourced by ci/wheel.sh and ci/wheel_test.sh: which interpreters there are.
#
# PYTHONS, if set, lists the commands or paths to look at, and nothing else is.
# Else PATH and pyenv's versions are searched.

# "3.11" if the command runs such an interpreter. A shim of pyenv that no
# version stands behind exists, but does not run.
python_version() { # command
    "$1" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

python_candidates() { # version
    if [ -n "${PYTHONS:-}" ]; then
        # shellcheck disable=SC2086 # One word an interpreter.
        printf '%s\n' $PYTHONS
        return
    fi
    type -ap "python$1" python3
    printf '%s\n' "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/"python$1"
}

# The path of an interpreter of this version that can make environments.
find_python() { # version, as 3.11
    local candidate
    while read -r candidate; do
        if [ "$(python_version "$candidate")" = "$1" ] &&
            "$candidate" -I -c 'import ensurepip, venv' 2>/dev/null; then
            "$candidate" -I -c 'import sys; print(sys.executable)'
            return 0
        fi
    done < <(python_candidates "$1")
    return 1
}

# A persistent environment with the named packages: what is there stays.
environment() { # folder, interpreter, packages
    local folder=$1 python=$2
    shift 2
    if [ ! -x "$folder/bin/pip" ]; then
        "$python" -m venv "$folder"
        "$folder/bin/python" -m pip install -q --disable-pip-version-check -U pip
    fi
    "$folder/bin/python" -c 'import importlib.metadata as m, sys
for name in sys.argv[1:]: m.version(name)' "$@" 2>/dev/null ||
        "$folder/bin/pip" install -q --disable-pip-version-check "$@"
}
