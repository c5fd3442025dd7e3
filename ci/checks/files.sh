# Read by the other checks: prints the project's own C files that match the
# given patterns, tracked or new, one a line.
c_files() {
    git ls-files --cached --others --exclude-standard -- "$@" |
        while read -r file; do
            [ -f "$file" ] && echo "$file"
        done
}
