#!/usr/bin/env bash
# Builds the extension and installs it into the server that PG_CONFIG names; says one line when nothing changed.
set -euo pipefail
cd "$(dirname "$0")/.."
PG_CONFIG=${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}
target=$("$PG_CONFIG" --pkglibdir)
# Root installs directly; anybody else through sudo, as the server's directories belong to root.
if [ -w "$target" ]; then sudo=(); else sudo=(--sudo); fi
log=${XDG_CACHE_HOME:-$HOME/.cache}/btc_ingest-install.log
mkdir -p "$(dirname "$log")"
export CARGO_TERM_COLOR=never
# One moving line at a terminal, plain lines in a log.
show() { if [ -t 1 ]; then awk '{ printf "\r\033[K   %s", $0; fflush() } END { print "" }'; else cat; fi; }
if ! cargo pgrx install "${sudo[@]}" --package btc_ingest --pg-config "$PG_CONFIG" "$@" 2>&1 | tee "$log" |
    { grep --line-buffered -E '^ *(Compiling|Finished|error)' || true; } | show; then
    tail -n 40 "$log" >&2
    exit 1
fi
