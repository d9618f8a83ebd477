#!/usr/bin/env bash
# Builds the extension and installs it into the server that PG_CONFIG names. --release builds with optimisation; further
# arguments go to cargo pgrx package.
#
# A running server keeps working: cargo pgrx install would overwrite the library that its processes have mapped, and
# they would crash. Here every file is written beside the old one and renamed, so that processes keep the old library
# until they end. See docs/use/operate.md, "Upgrade".
set -euo pipefail
cd "$(dirname "$0")/.."
PG_CONFIG=${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}
profile=--debug
if [ "${1:-}" = --release ]; then
    profile=
    shift
fi
out=target/package
log=${XDG_CACHE_HOME:-$HOME/.cache}/btc_ingest-install.log
mkdir -p "$(dirname "$log")"
export CARGO_TERM_COLOR=never
# Set, if only to nothing, it displaces the flags of cargo-pgrx, with which cargo would compile every dependency again.
export CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS-}
# One moving line at a terminal, plain lines in a log.
show() { if [ -t 1 ]; then awk '{ printf "\r\033[K   %s", $0; fflush() } END { print "" }'; else cat; fi; }
rm -rf "$out"
if ! cargo pgrx package $profile "$@" --package btc_ingest --pg-config "$PG_CONFIG" --out-dir "$out" 2>&1 | tee "$log" |
    { grep --line-buffered -E '^ *(Compiling|Finished|error)' || true; } | show; then
    tail -n 40 "$log" >&2
    exit 1
fi
for directory in "$("$PG_CONFIG" --pkglibdir)" "$("$PG_CONFIG" --sharedir)/extension"; do
    scripts/place.sh "$out$directory" "$directory"
done
