# shellcheck shell=bash
# What the scripts print.

step() { printf '\n== %s\n' "$*"; }
say() { printf '   %s\n' "$*"; }
fail() { printf '\n%s: %s\n' "$(basename "$0")" "$1" >&2; [ $# -lt 2 ] || printf '  try: %s\n' "$2" >&2; exit 1; }

# Runs a command that prints pages of text; they are shown only if it fails.
quietly() {
    local log
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then rm -f "$log"; return; fi
    tail -n 40 "$log" >&2
    rm -f "$log"
    fail "this failed: $1 ${2:-}"
}

# Writes standard input into a file, if that changes it, and says which.
replace_file() {
    local file=$1 mode=$2 owner=$3 new
    new=$(mktemp "$(dirname "$file")/.new.XXXXXX")
    cat >"$new"
    if cmp -s "$new" "$file"; then rm -f "$new"; say "$file is as it should be"; return; fi
    chmod "$mode" "$new"
    chown "$owner" "$new"
    mv -f "$new" "$file"
    say "wrote $file"
}
